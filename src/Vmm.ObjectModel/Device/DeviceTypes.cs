using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.ObjectModel.Devices;

public abstract partial class Device
{
    private static QomTypeInfo? s_typeInfo;

    /// <summary>Type "device", parent of all devices.</summary>
    public static new QomTypeInfo TypeInfo => s_typeInfo ??= new QomTypeInfo
    {
        Name = "device",
        Parent = "object",
        IsAbstract = true,
        Properties = static () =>
        [
            new QomPropertyInfo("realized", "bool", static o => ((Device)o).IsRealized, RefuseRealized),
            new QomPropertyInfo("hotpluggable", "bool", static o => o.Type.Hotpluggable, null),
            new QomPropertyInfo("hotplugged", "bool", static o => ((Device)o).IsHotplugged, null),
            new QomPropertyInfo("parent_bus", "link<bus>", static o => ((Device)o).ParentBus?.CanonicalPath ?? "", null)
            {
                Target = static o => ((Device)o).ParentBus,
            },
        ],
    };

    // Realize and unrealize need the factory; an assignment of the present value is all that can be granted here.
    private static void RefuseRealized(QomObject obj, PropertyInput input)
    {
        if (input.ReadBool() != ((Device)obj).IsRealized)
        {
            throw QapiException.DeviceNoHotplug(obj.Type.Name);
        }
    }
}

public abstract partial class Bus
{
    private static QomTypeInfo? s_typeInfo;

    /// <summary>Type "bus", parent of all buses.</summary>
    public static new QomTypeInfo TypeInfo => s_typeInfo ??= new QomTypeInfo
    {
        Name = "bus",
        Parent = "object",
        IsAbstract = true,
        Properties = static () =>
        [
            new QomPropertyInfo("hotplug-handler", "link<hotplug-handler>", HotplugHandlerPath, null)
            {
                Target = static o => ((Bus)o).HotplugHandler as QomObject,
            },
            new QomPropertyInfo("realized", "bool", static o => ((Bus)o).Parent is not null, null),
        ],
    };

    private static QValue HotplugHandlerPath(QomObject obj) => (((Bus)obj).HotplugHandler as QomObject)?.CanonicalPath ?? "";
}
