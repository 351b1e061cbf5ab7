using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.VmState;
using Vmm.Qapi;
using Vmm.Qapi.Options;

namespace Vmm.ObjectModel.Devices;

/// <summary>A property value for every device of a type (-global).</summary>
/// <param name="Driver">Device type; its descendants are meant as well.</param>
/// <param name="Property">Property name.</param>
/// <param name="Value">Value as on the command line.</param>
public sealed record GlobalProperty(string Driver, string Property, string Value)
{
    /// <summary>True once a device took it.</summary>
    public bool IsUsed { get; internal set; }
}

/// <summary>
/// Makes devices, puts them on buses and takes them out again, for machines and for users (-device, device_add, device_del).
/// Home: main loop under the machine lock.
/// </summary>
public sealed partial class DeviceFactory
{
    private readonly QomTree _tree;
    private readonly IEventEmitter _events;
    private int _anonymous;

    /// <summary>A factory whose devices live in <paramref name="tree"/>.</summary>
    public DeviceFactory(QomTree tree, IEventEmitter events)
    {
        _tree = tree;
        _events = events;
    }

    /// <summary>The machine that devices are connected to; set before the first device is realized.</summary>
    public IMachineServices? Machine { get; set; }

    /// <summary>The bus at the root of all buses; where bus paths start.</summary>
    public Bus? MainSystemBus { get; set; }

    /// <summary>Takes part in adding and removing devices without a bus (CPUs, DIMMs); null when the machine has no such.</summary>
    public Func<Device, IHotplugHandler?>? MachineHotplugHandler { get; set; }

    /// <summary>Prepares a device that users add, before their properties are set; null when nothing is to be done.</summary>
    public Action<Device>? PrepareForUser { get; set; }

    /// <summary>False while the machine is built; afterwards devices that users add are hot-plugged.</summary>
    public bool IsMachineReady { get; set; }

    /// <summary>Why devices cannot come and go now, for example while a migration runs; null when they can.</summary>
    public Func<bool>? IsMigrating { get; set; }

    /// <summary>Property values for all devices of a type, in the order given; later ones win.</summary>
    public List<GlobalProperty> Globals { get; } = [];

    /// <summary>Sections of the realized devices.</summary>
    public VmStateRegistry VmStates { get; } = new();

    /// <summary>Carries out -device and device_add.</summary>
    /// <param name="options">driver, id and bus, and properties by name.</param>
    /// <param name="isKeyval">Scalars are strings (also numbers, as the old form of device_add allows).</param>
    /// <returns>The realized device.</returns>
    /// <exception cref="QapiException">Refused in QEMU's words; nothing is left behind.</exception>
    public Device Add(QDict options, bool isKeyval)
    {
        string? id = Text(options, "id", isKeyval);
        if (isKeyval && id is not null && !OptionErrors.IsIdentifier(id))
        {
            throw new QapiException(
                QapiErrorClass.GenericError,
                "Parameter 'id' expects an identifier",
                "Identifiers consist of letters, digits, '-', '.', '_', starting with a letter.\n");
        }

        string driver = Text(options, "driver", isKeyval) ?? throw QapiException.MissingParameter("driver");
        QomTypeInfo type = FindUserDevice(driver);
        string? busType = _tree.Types.BusTypeOf(type);
        Bus? bus = null;
        if (Text(options, "bus", isKeyval) is { } path)
        {
            bus = FindBus(path);
            if (busType is null || !_tree.IsA(bus, busType))
            {
                throw new QapiException($"Device '{driver}' can't go on {bus.Type.Name} bus");
            }
        }
        else if (busType is not null)
        {
            bus = MainSystemBus is null ? null : FindBusBelow(MainSystemBus, null, busType);
            if (bus is null || IsFull(bus))
            {
                throw new QapiException($"No '{busType}' bus found for device '{driver}'");
            }
        }

        if (IsMachineReady && bus is { AllowsHotplug: false })
        {
            throw QapiException.BusNoHotplug(bus.BusName);
        }

        if (IsMigrating?.Invoke() == true)
        {
            throw new QapiException("device_add not allowed while migrating");
        }

        Device device = Create(type);
        if (IsMachineReady && bus is null && MachineHotplugHandler?.Invoke(device) is null)
        {
            throw new QapiException($"Device '{driver}' can not be hotplugged on this machine");
        }

        device.IsHotplugged = IsMachineReady;
        PrepareForUser?.Invoke(device);
        Place(device, id);
        try
        {
            SetProperties(device, options, isKeyval);
            Realize(device, bus);
        }
        catch (QapiException)
        {
            device.Unparent();
            throw;
        }

        return device;
    }

    /// <summary>Makes a device of a type with globals applied; it is not realized and not in the tree.</summary>
    /// <exception cref="QapiException">Unknown type, or a global does not fit.</exception>
    public Device Create(string typeName)
    {
        if (!_tree.Types.TryGetDevice(typeName, out QomTypeInfo? type))
        {
            throw new QapiException($"'{typeName}' is not a valid device model name");
        }

        return Create(type);
    }

    /// <summary>Applies -global values to a device that the machine made by hand.</summary>
    public void ApplyGlobals(Device device)
    {
        foreach (GlobalProperty global in Globals)
        {
            if (!_tree.Types.IsA(device.Type, global.Driver))
            {
                continue;
            }

            global.IsUsed = true;
            try
            {
                _tree.SetProperty(device, global.Property, global.Value, QapiInputMode.Terminal);
            }
            catch (QapiException e)
            {
                throw new QapiException($"can't apply global {global.Driver}.{global.Property}={global.Value}: {e.Desc}");
            }
        }
    }

    /// <summary>
    /// Connects a device to the machine. A device that is nowhere in the tree goes to <c>/machine/unattached</c>. A realized device
    /// with state gets its migration section.
    /// </summary>
    /// <param name="device">The device, properties set.</param>
    /// <param name="bus">Its bus; null for devices without.</param>
    /// <exception cref="QapiException">Refused; the device is off the bus and not realized.</exception>
    public void Realize(Device device, Bus? bus = null)
    {
        IMachineServices machine = Machine ?? throw new InvalidOperationException("device realized without a machine");
        if (device.IsRealized)
        {
            throw new InvalidOperationException("device realized twice: " + device.CanonicalPath);
        }

        if (device.IsHotplugged && !device.Type.Hotpluggable)
        {
            throw QapiException.DeviceNoHotplug(device.Type.Name);
        }

        if (bus is not null)
        {
            bus.CheckAddress(device);
            bus.Attach(device);
        }

        bool adopted = device.Parent is null;
        if (adopted)
        {
            _tree.Unattached.AddChild("device[*]", device);
        }

        try
        {
            IHotplugHandler? handler = HandlerOf(device);
            handler?.PrePlug(device);
            device.Realize(machine);
            device.IsRealized = true;
            if (device is IVmStateful state)
            {
                VmStates.Add(state, null, bus?.DevicePath(device));
            }

            if (device.IsHotplugged)
            {
                device.Reset();
            }

            handler?.Plug(device);
        }
        catch (QapiException)
        {
            if (device.IsRealized)
            {
                Disconnect(device);
            }

            bus?.Detach(device);
            if (adopted)
            {
                device.Unparent();
            }

            throw;
        }
    }

    /// <summary>Carries out device_del: asks the device to leave; DEVICE_DELETED tells when it has left.</summary>
    /// <param name="id">Id below /machine/peripheral, or an absolute path.</param>
    /// <exception cref="QapiException">No such device, or it cannot leave.</exception>
    public void RequestDelete(string id)
    {
        QomObject found = (id.StartsWith('/') ? _tree.Resolve(id) : ResolveBelow(_tree.Peripheral, id))
            ?? throw QapiException.DeviceNotFound(id);
        if (found is not Device device)
        {
            throw new QapiException($"{id} is not a hotpluggable device");
        }

        if (device.IsUnplugPending)
        {
            throw new QapiException($"Device {id} is already in the process of unplug");
        }

        if (device.ParentBus is { AllowsHotplug: false } fixedBus)
        {
            throw QapiException.BusNoHotplug(fixedBus.BusName);
        }

        if (!device.Type.Hotpluggable)
        {
            throw QapiException.DeviceNoHotplug(device.Type.Name);
        }

        if (IsMigrating?.Invoke() == true)
        {
            throw new QapiException("device_del not allowed while migrating");
        }

        IHotplugHandler handler = HandlerOf(device) ?? throw QapiException.DeviceNoHotplug(device.Type.Name);
        device.IsUnplugPending = true;
        try
        {
            handler.RequestUnplug(device, () => CompleteUnplug(device));
        }
        catch (QapiException)
        {
            device.IsUnplugPending = false;
            throw;
        }
    }

    /// <summary>Takes a device, and those on its buses, out of the machine, and sends DEVICE_DELETED for each. Idempotent.</summary>
    public void CompleteUnplug(Device device)
    {
        if (device.CanonicalPath is null)
        {
            return;
        }

        RemoveTree(device, sendEvents: true);
    }

    /// <summary>
    /// Resets every device of a bus and below, devices on a device's buses before the device, those attached last first: what
    /// drives a line then comes before the controller that latches it.
    /// </summary>
    public static void ResetTree(Bus bus)
    {
        for (int i = bus.Devices.Count - 1; i >= 0; i--)
        {
            Device device = bus.Devices[i];
            foreach (Bus child in device.ChildBuses)
            {
                ResetTree(child);
            }

            device.Reset();
        }
    }

    private static QomObject? ResolveBelow(QomObject parent, string path)
    {
        QomObject? at = parent;
        foreach (string part in path.Split('/', StringSplitOptions.RemoveEmptyEntries))
        {
            at = at.FindChild(part);
            if (at is null)
            {
                return null;
            }
        }

        return at;
    }

    private static string? Text(QDict options, string key, bool isKeyval)
    {
        if (!options.TryGetValue(key, out QValue? value))
        {
            return null;
        }

        if (value is QString s)
        {
            return s.Value;
        }

        // The old form of device_add takes any scalar where it means its text.
        return isKeyval && KeyvalText(value) is { } text ? text : throw QapiException.InvalidParameterType(key, "string");
    }

    private static string? KeyvalText(QValue value) => value switch
    {
        QString s => s.Value,
        QNum n => n.ToJson(),
        QBool b => b.Value ? "on" : "off",
        _ => null,
    };

    private Device Create(QomTypeInfo type)
    {
        var device = (Device)_tree.Types.Create(type.Name);
        ApplyGlobals(device);
        return device;
    }

    private QomTypeInfo FindUserDevice(string driver)
    {
        if (!_tree.Types.TryGetDevice(driver, out QomTypeInfo? type))
        {
            throw new QapiException($"'{driver}' is not a valid device model name");
        }

        if (type.IsAbstract || type.Factory is null)
        {
            throw QapiException.InvalidParameterValue("driver", "a non-abstract device type");
        }

        if (!type.UserCreatable || (IsMachineReady && !type.Hotpluggable))
        {
            throw QapiException.InvalidParameterValue("driver", "a pluggable device type");
        }

        return type;
    }

    private void Place(Device device, string? id)
    {
        if (id is null)
        {
            _tree.PeripheralAnon.AddChild($"device[{_anonymous++}]", device);
            return;
        }

        if (_tree.Peripheral.FindDynamic(id) is not null)
        {
            throw new QapiException($"Duplicate device ID '{id}'");
        }

        _tree.Peripheral.AddChild(id, device);
        device.Id = id;
    }

    private void SetProperties(Device device, QDict options, bool isKeyval)
    {
        foreach (KeyValuePair<string, QValue> option in options)
        {
            if (option.Key is "driver" or "bus" or "id")
            {
                continue;
            }

            QValue value = option.Value;
            if (isKeyval && value is not QString && KeyvalText(value) is { } text)
            {
                value = text;
            }

            _tree.SetProperty(device, option.Key, value, isKeyval ? QapiInputMode.Keyval : QapiInputMode.Json);
        }
    }

    private IHotplugHandler? HandlerOf(Device device) =>
        MachineHotplugHandler?.Invoke(device) ?? device.ParentBus?.HotplugHandler;

    private void Disconnect(Device device)
    {
        if (device is IVmStateful state)
        {
            VmStates.Remove(state);
        }

        device.Unrealize();
        device.IsRealized = false;
    }

    private void RemoveTree(Device device, bool sendEvents)
    {
        for (int i = device.ChildBuses.Count - 1; i >= 0; i--)
        {
            Bus bus = device.ChildBuses[i];
            for (int j = bus.Devices.Count - 1; j >= 0; j--)
            {
                RemoveTree(bus.Devices[j], sendEvents);
            }
        }

        string path = device.CanonicalPath!;
        if (device.IsRealized)
        {
            Disconnect(device);
        }

        device.ParentBus?.Detach(device);
        device.Unparent();
        device.IsUnplugPending = false;
        if (sendEvents)
        {
            _events.Emit(new DeviceDeletedEvent(device.Id, path));
        }
    }
}

/// <summary>A device has left the machine; its id can be used again.</summary>
/// <param name="Device">Its id, if it had one.</param>
/// <param name="Path">Its path in the object tree.</param>
[QmpEvent("DEVICE_DELETED")]
public sealed partial record DeviceDeletedEvent(string? Device, string Path);
