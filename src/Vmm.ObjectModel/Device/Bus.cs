using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.ObjectModel.Devices;

/// <summary>A bus: an ordered set of devices with addresses. Home: main loop under the machine lock.</summary>
public abstract partial class Bus : QomObject
{
    private readonly List<Device> _devices = [];
    private int _nextChild;

    /// <summary>Wire name such as <c>isa.0</c>.</summary>
    public string BusName { get; set; } = "";

    /// <summary>The device that provides this bus; null for the main system bus.</summary>
    public Device? ParentDevice { get; set; }

    /// <summary>Devices in order of attachment.</summary>
    public IReadOnlyList<Device> Devices => _devices;

    /// <summary>Who takes devices that are added and removed while the machine runs; null when the bus is fixed.</summary>
    public IHotplugHandler? HotplugHandler { get; set; }

    /// <summary>True when devices may come and go while the machine runs.</summary>
    public virtual bool AllowsHotplug => HotplugHandler is not null;

    /// <summary>Most devices that the bus takes.</summary>
    public virtual int MaximumDevices => int.MaxValue;

    /// <summary>Checks the address that the device asks for or picks one; throws QEMU's error when it is taken.</summary>
    public virtual void CheckAddress(Device device)
    {
    }

    /// <summary>Path of a device on this bus for migration section names (<c>0000:00:03.0</c>); null when the bus has no addresses.</summary>
    public virtual string? DevicePath(Device device) => null;

    /// <summary>Lines of <c>info qtree</c> that the bus adds to a device of it, after all others.</summary>
    public virtual void DescribeDevice(Device device, Action<string> line)
    {
    }

    /// <summary>Puts a device on the bus; it shows as link <c>child[N]</c>.</summary>
    internal void Attach(Device device)
    {
        _devices.Add(device);
        device.ParentBus = this;
        string name = $"child[{_nextChild++}]";
        AddProperty(new QomPropertyInfo(name, $"link<{device.Type.Name}>", _ => new QString(device.CanonicalPath ?? ""), null)
        {
            Target = _ => device,
        });
    }

    /// <summary>Takes a device off the bus.</summary>
    internal void Detach(Device device)
    {
        _devices.Remove(device);
        device.ParentBus = null;
        foreach (QomPropertyInfo property in DynamicLinks())
        {
            if (ReferenceEquals(property.Target!(this), device))
            {
                RemoveProperty(property.Name);
                break;
            }
        }
    }

    private List<QomPropertyInfo> DynamicLinks()
    {
        var all = new List<QomPropertyInfo>();
        AppendDynamic(all);
        all.RemoveAll(static p => !p.IsLink);
        return all;
    }
}

/// <summary>
/// Takes part in adding and removing devices: a bus's bridge, or the machine. All methods run on the main loop under the machine lock.
/// </summary>
public interface IHotplugHandler
{
    /// <summary>Before realize: checks, and gives the device its address. Throws QEMU's error to refuse.</summary>
    void PrePlug(Device device)
    {
    }

    /// <summary>After realize: tells the guest.</summary>
    void Plug(Device device);

    /// <summary>
    /// Asks the guest to let the device go, and calls <paramref name="complete"/> on the main loop, at once or later, when it has.
    /// Throws QEMU's error to refuse.
    /// </summary>
    void RequestUnplug(Device device, Action complete);
}
