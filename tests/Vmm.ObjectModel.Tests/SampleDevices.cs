using Vmm.ObjectModel.Devices;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.VmState;
using Vmm.Qapi;

namespace Vmm.ObjectModel.Tests;

/// <summary>Types for tests: a bus that takes plugged devices, a bridge that provides it, devices with properties.</summary>
internal static class SampleDevices
{
    public static void Register(QomTypeRegistry registry)
    {
        registry.Add(SampleBus.TypeInfo);
        registry.Add(SlotBus.TypeInfo);
        registry.Add(SampleBridge.TypeInfo);
        registry.Add(SampleCard.TypeInfo);
        registry.Add(SampleCard.FixedTypeInfo);
        registry.Add(SampleCard.AbstractTypeInfo);
        registry.AddDeviceAlias("card", "sample-card");
    }
}

/// <summary>A bus without hot-plug.</summary>
internal sealed class SampleBus : Bus
{
    public static new QomTypeInfo TypeInfo { get; } = new() { Name = "System", Parent = "bus", Factory = static () => new SampleBus() };

    public override QomTypeInfo Type => TypeInfo;
}

/// <summary>A bus with eight slots.</summary>
internal sealed class SlotBus : Bus
{
    public static new QomTypeInfo TypeInfo { get; } = new() { Name = "Slots", Parent = "bus", Factory = static () => new SlotBus() };

    public override QomTypeInfo Type => TypeInfo;

    public override int MaximumDevices => 8;
}

/// <summary>Provides a slot bus and lets its devices go when the guest agrees.</summary>
internal sealed class SampleBridge : Device, IHotplugHandler
{
    public static new QomTypeInfo TypeInfo { get; } = new()
    {
        Name = "sample-bridge",
        Parent = "device",
        BusType = "System",
        Category = "Controller/Bridge/Hub",
        Hotpluggable = false,
        Interfaces = ["hotplug-handler"],
        Factory = static () => new SampleBridge(),
    };

    public SampleBridge()
    {
        AddChildBus(new SlotBus { BusName = "slots.0", HotplugHandler = this });
    }

    public override QomTypeInfo Type => TypeInfo;

    /// <summary>Unplug requests that wait for the guest.</summary>
    public Dictionary<Device, Action> Pending { get; } = [];

    /// <summary>The guest agrees at once.</summary>
    public bool IsGuestWilling { get; set; } = true;

    public void Plug(Device device)
    {
    }

    public void RequestUnplug(Device device, Action complete)
    {
        if (IsGuestWilling)
        {
            complete();
        }
        else
        {
            Pending.Add(device, complete);
        }
    }

    protected override void Realize(IMachineServices machine)
    {
    }
}

/// <summary>A device with a few properties and a byte of state.</summary>
internal sealed class SampleCard(QomTypeInfo type) : Device, IVmStateful
{
    public static QomTypeInfo AbstractTypeInfo { get; } = new()
    {
        Name = "sample-card-base",
        Parent = "device",
        IsAbstract = true,
        BusType = "Slots",
        Properties = static () =>
        [
            new QomPropertyInfo("lanes", "uint32", static o => ((SampleCard)o).Lanes, static (o, i) => ((SampleCard)o).Lanes = i.ReadUInt32(), null, static () => 4)
            {
                IsDeviceProperty = true,
            },
            new QomPropertyInfo("room", "size", static o => ((SampleCard)o).Room, static (o, i) => ((SampleCard)o).Room = i.ReadSize())
            {
                IsDeviceProperty = true,
            },
        ],
    };

    public static new QomTypeInfo TypeInfo { get; } = new()
    {
        Name = "sample-card",
        Parent = "sample-card-base",
        Description = "Sample card",
        Category = "Misc",
        Factory = static () => new SampleCard(TypeInfo!),
        Properties = static () =>
        [
            new QomPropertyInfo("loud", "bool", static o => ((SampleCard)o).Loud, static (o, i) => ((SampleCard)o).Loud = i.ReadBool(), "on/off", static () => false)
            {
                IsDeviceProperty = true,
                SettableAfterRealize = true,
            },
            new QomPropertyInfo("fail", "bool", static o => ((SampleCard)o).Fail, static (o, i) => ((SampleCard)o).Fail = i.ReadBool())
            {
                IsDeviceProperty = true,
            },
        ],
    };

    public static QomTypeInfo FixedTypeInfo { get; } = new()
    {
        Name = "sample-fixed",
        Parent = "sample-card-base",
        UserCreatable = false,
        Factory = static () => new SampleCard(FixedTypeInfo!),
    };

    public override QomTypeInfo Type => type;

    public uint Lanes { get; private set; } = 4;

    public ulong Room { get; private set; } = 2048;

    public bool Loud { get; private set; }

    public bool Fail { get; private set; }

    public string VmStateName => "sample";

    public int VmStateVersion => 1;

    public void SaveState(VmStateWriter writer) => writer.WriteBool(Loud);

    public void LoadState(VmStateReader reader, int version) => Loud = reader.ReadBool();

    public override void DescribePins(Action<string> line) => line("gpio-out \"\" 1");

    protected override void Realize(IMachineServices machine)
    {
        if (Fail)
        {
            throw new QapiException("sample-card: told to fail");
        }
    }
}
