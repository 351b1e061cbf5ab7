using Vmm.ObjectModel.Qom;

namespace Vmm.ObjectModel.Devices;

/// <summary>
/// A device. Life: created with default properties, properties set (globals, then the user's), <see cref="Realize"/>,
/// any number of <see cref="Reset"/>, <see cref="Unrealize"/>. Home: main loop under the machine lock; register handlers run on
/// vCPU threads under the same lock.
/// </summary>
[QomType("device", Parent = "object")]
public abstract partial class Device : QomObject
{
    private List<(string Direction, string Name, int Count)>? _pins;

    /// <summary>The id given by the user; null for none.</summary>
    public string? Id { get; set; }

    /// <summary>The bus it sits on; null for bus-less devices.</summary>
    public Bus? ParentBus { get; internal set; }

    /// <summary>True between realize and unrealize.</summary>
    public bool IsRealized { get; internal set; }

    /// <summary>Added after the machine was built.</summary>
    public bool IsHotplugged { get; internal set; }

    /// <summary>Asked to leave, and the guest has not agreed yet.</summary>
    public bool IsUnplugPending { get; set; }

    /// <summary>Buses that this device provides, in order.</summary>
    public List<Bus> ChildBuses { get; } = [];

    /// <summary>Connects the device to the machine: maps regions, takes interrupt lines. Throws QapiException and leaves nothing behind on failure.</summary>
    protected internal abstract void Realize(IMachineServices machine);

    /// <summary>Takes the device out of the machine again.</summary>
    protected internal virtual void Unrealize()
    {
    }

    /// <summary>Brings the device to its power-on state; idempotent.</summary>
    public virtual void Reset()
    {
    }

    /// <summary>Lines of <c>info qtree</c> about interrupt pins, before the properties, such as <c>gpio-out "" 1</c>.</summary>
    public virtual void DescribePins(Action<string> line)
    {
        foreach ((string direction, string name, int count) in _pins ?? [])
        {
            line($"gpio-{direction} \"{name}\" {count}");
        }
    }

    /// <summary>Lines of <c>info qtree</c> about mapped registers, after the properties, such as <c>mmio 00000000fed00000/0000000000000400</c>.</summary>
    public virtual void DescribeMappings(Action<string> line)
    {
    }

    /// <summary>Shows inputs in the trees; in the order in which they are listed. Inputs without a name have "".</summary>
    protected void AddInputPins(string name, int count)
    {
        (_pins ??= []).Add(("in", name, count));
        string stem = name.Length == 0 ? "unnamed-gpio-in" : name;
        for (int i = 0; i < count; i++)
        {
            AddChild($"{stem}[{i}]", new InterruptPinNode());
        }
    }

    /// <summary>Shows outputs in the device tree; in the order in which they are listed. Outputs without a name have "".</summary>
    protected void AddOutputPins(string name, int count) => (_pins ??= []).Add(("out", name, count));

    /// <summary>Attaches a bus that this device provides; it becomes a child of the same name.</summary>
    protected void AddChildBus(Bus bus)
    {
        bus.ParentDevice = this;
        ChildBuses.Add(bus);
        AddChild(bus.BusName, bus);
    }
}
