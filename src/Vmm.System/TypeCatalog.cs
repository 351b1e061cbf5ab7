using Vmm.Block.Throttling;
using Vmm.EventLoop;
using Vmm.Kvm.CpuModels;
using Vmm.ObjectModel.Qom;

namespace Vmm.System;

/// <summary>All QOM types of the program.</summary>
internal static class TypeCatalog
{
    /// <summary>A registry that knows where all types are; their tables are read when the first type is asked for.</summary>
    public static QomTypeRegistry CreateRegistry(CpuHost? host = null, ThrottleGroups? throttleGroups = null)
    {
        QomTypeRegistry registry = new();
        registry.AddCatalog(Vmm.Devices.DevicesQomTypes.Register);
        registry.AddCatalog(Vmm.Machines.MachinesQomTypes.Register);
        registry.AddCatalog(Vmm.Chardevs.ChardevQomTypes.Register);
        registry.AddCatalog(r => ThrottleGroupObject.Register(r, throttleGroups ?? new ThrottleGroups(new Clocks())));
        if (host is not null)
        {
            registry.AddCatalog(r => CpuTypes.Register(r, host));
        }

        return registry;
    }

    /// <summary>Whether <c>-object</c> takes a type.</summary>
    public static bool IsObjectType(string name)
    {
        QomTypeRegistry registry = CreateRegistry();
        return registry.TryGet(name, out QomTypeInfo? type) && registry.IsA(type, "user-creatable");
    }
}
