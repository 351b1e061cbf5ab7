using System.Text;
using Vmm.Qapi;

namespace Vmm.ObjectModel.Devices;

public sealed partial class DeviceFactory
{
    /// <summary>
    /// Finds a bus: by name (<c>pci.0</c>), or by a path of devices and buses from the main system bus or from a named bus
    /// (<c>/i440FX-pcihost/pci.0</c>). Devices are named by id, type or alias.
    /// </summary>
    /// <exception cref="QapiException">Nothing there, ambiguous, or full.</exception>
    public Bus FindBus(string path)
    {
        ReadOnlySpan<char> rest = path;
        Bus? bus;
        if (rest.StartsWith("/"))
        {
            bus = MainSystemBus;
        }
        else
        {
            string name = TakeElement(ref rest);
            bus = MainSystemBus is null ? null : FindBusBelow(MainSystemBus, name, null);
            if (bus is null)
            {
                throw new QapiException($"Bus '{name}' not found");
            }
        }

        while (true)
        {
            rest = rest.TrimStart('/');
            if (rest.IsEmpty || bus is null)
            {
                break;
            }

            string element = TakeElement(ref rest);
            Device device = FindOnBus(bus, element)
                ?? throw new QapiException(QapiErrorClass.DeviceNotFound, $"Device '{element}' not found", ListDevices(bus));
            rest = rest.TrimStart('/');
            if (rest.IsEmpty)
            {
                bus = device.ChildBuses.Count switch
                {
                    0 => throw new QapiException($"Device '{element}' has no child bus"),
                    1 => device.ChildBuses[0],
                    _ => throw new QapiException(
                        QapiErrorClass.GenericError, $"Device '{element}' has multiple child buses", ListBuses(device)),
                };
                break;
            }

            element = TakeElement(ref rest);
            bus = device.ChildBuses.Find(b => b.BusName == element)
                ?? throw new QapiException(QapiErrorClass.GenericError, $"Bus '{element}' not found", ListBuses(device));
        }

        if (bus is null)
        {
            throw new QapiException($"Bus '{path}' not found");
        }

        return IsFull(bus) ? throw new QapiException($"Bus '{path}' is full") : bus;
    }

    /// <summary>
    /// Finds a bus by name and QOM type at or below a bus, the latest additions first; one with room is preferred to a full one.
    /// </summary>
    public Bus? FindBusBelow(Bus bus, string? name, string? typeName)
    {
        Bus? full = null;
        if ((name is null || bus.BusName == name) && (typeName is null || _tree.IsA(bus, typeName)))
        {
            if (!IsFull(bus))
            {
                return bus;
            }

            full = bus;
        }

        for (int i = bus.Devices.Count - 1; i >= 0; i--)
        {
            List<Bus> buses = bus.Devices[i].ChildBuses;
            for (int j = buses.Count - 1; j >= 0; j--)
            {
                Bus? found = FindBusBelow(buses[j], name, typeName);
                if (found is not null && !IsFull(found))
                {
                    return found;
                }

                full ??= found;
            }
        }

        return full;
    }

    private static bool IsFull(Bus bus) => bus.Devices.Count >= bus.MaximumDevices;

    private static string TakeElement(ref ReadOnlySpan<char> path)
    {
        int slash = path.IndexOf('/');
        ReadOnlySpan<char> element = slash < 0 ? path : path[..slash];
        path = path[element.Length..];
        return element.ToString();
    }

    private static string ListBuses(Device device)
    {
        var text = new StringBuilder("child buses at \"").Append(device.Id ?? device.Type.Name).Append('"');
        string separator = ": ";
        foreach (Bus bus in device.ChildBuses)
        {
            text.Append(separator).Append('"').Append(bus.BusName).Append('"');
            separator = ", ";
        }

        return text.Append('\n').ToString();
    }

    private static string ListDevices(Bus bus)
    {
        var text = new StringBuilder("devices at \"").Append(bus.BusName).Append('"');
        string separator = ": ";
        for (int i = bus.Devices.Count - 1; i >= 0; i--)
        {
            Device device = bus.Devices[i];
            text.Append(separator).Append('"').Append(device.Type.Name).Append('"');
            if (device.Id is { } id)
            {
                text.Append("/\"").Append(id).Append('"');
            }

            separator = ", ";
        }

        return text.Append('\n').ToString();
    }

    private Device? FindOnBus(Bus bus, string element)
    {
        for (int pass = 0; pass < 3; pass++)
        {
            for (int i = bus.Devices.Count - 1; i >= 0; i--)
            {
                Device device = bus.Devices[i];
                string? name = pass switch
                {
                    0 => device.Id,
                    1 => device.Type.Name,
                    _ => _tree.Types.AliasOf(device.Type.Name),
                };
                if (name == element)
                {
                    return device;
                }
            }
        }

        return null;
    }
}
