using System.Globalization;
using Vmm.ObjectModel.Devices;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.ObjectModel.Qmp;

/// <summary>Arguments of device_add; properties of the device come beside them.</summary>
[QapiStruct]
public sealed partial record DeviceAddArguments
{
    /// <summary>Device type.</summary>
    public required string Driver { get; init; }

    /// <summary>Bus or bus path.</summary>
    public string? Bus { get; init; }

    /// <summary>Name of the device.</summary>
    public string? Id { get; init; }
}

/// <summary>Commands that add, remove and show devices.</summary>
public sealed class DeviceCommands(QomTree tree, DeviceFactory devices)
{
    /// <summary>Adds a device.</summary>
    [QmpCommand("device_add", ArgsType = "device:O", ArgsSchema = typeof(DeviceAddArguments), Since = "0.13")]
    [QapiFeature("json-cli")]
    [QapiFeature("json-cli-hotplug")]
    public void DeviceAdd(QDict device) => devices.Add(device, isKeyval: true);

    /// <summary>Asks a device to leave; the event DEVICE_DELETED tells when it has left.</summary>
    [QmpCommand("device_del", ArgsType = "id:s", Since = "0.14")]
    public void DeviceDel(string id) => devices.RequestDelete(id);

    /// <summary>Adds a device.</summary>
    [HmpCommand(
        "device_add",
        ArgsType = "device:O",
        Params = "driver[,prop=value][,...]",
        Help = "add device, like -device on the command line")]
    public void HmpDeviceAdd(HmpContext context, QDict device)
    {
        string? driver = device.GetString("driver");
        if (driver is "help" or "?")
        {
            context.Print(DeviceHelp.Types(tree));
        }
        else if (driver is not null && (device.ContainsKey("help") || device.ContainsKey("?")))
        {
            PrintProperties(context, driver);
        }
        else
        {
            devices.Add(device, isKeyval: true);
        }
    }

    /// <summary>Removes a device.</summary>
    [HmpCommand("device_del", ArgsType = "id:s", Params = "device", Help = "remove device")]
    public void HmpDeviceDel(HmpContext context, string id) => devices.RequestDelete(id);

    /// <summary>Shows the types of devices that there are.</summary>
    [HmpCommand("info qdm", Help = "show qdev device model list")]
    public void InfoQdm(HmpContext context) => context.Print(DeviceHelp.Types(tree));

    /// <summary>Shows buses, their devices and properties.</summary>
    [HmpCommand("info qtree", Help = "show device tree")]
    public void InfoQtree(HmpContext context)
    {
        if (devices.MainSystemBus is { } bus)
        {
            PrintBus(context, bus, 0);
        }
    }

    /// <summary>A property's value as info qtree shows it.</summary>
    internal static string Human(QomPropertyInfo property, QomObject owner)
    {
        if (property.Print is { } print)
        {
            return print(owner);
        }

        QValue value = property.Get!(owner);
        return value switch
        {
            QString s => $"\"{s.Value}\"",
            QNum { IsDouble: false } n when property.Type == "size" => $"{n.ToJson()} ({Size(Bits(n))})",
            QNum { IsDouble: false } n => $"{n.ToJson()} (0x{Bits(n):x})",
            QNull => "<null>",
            _ => value.ToJson(),
        };
    }

    private void PrintProperties(HmpContext context, string driver)
    {
        try
        {
            context.Print(DeviceHelp.PropertiesText(tree, driver));
        }
        catch (QapiException e)
        {
            context.PrintLine(e.Desc);
        }
    }

    private static ulong Bits(QNum number) =>
        number.TryGetUInt64(out ulong unsigned) ? unsigned : number.TryGetInt64(out long signed) ? (ulong)signed : 0;

    private static string Size(ulong bytes)
    {
        ReadOnlySpan<string> units = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
        int unit = 0;
        double value = bytes;
        while (value >= 1000 && unit < units.Length - 1)
        {
            value /= 1024;
            unit++;
        }

        return $"{value.ToString("G3", CultureInfo.InvariantCulture)} {units[unit]}B";
    }

    private void PrintBus(HmpContext context, Bus bus, int indent)
    {
        string margin = new(' ', indent);
        context.PrintLine($"{margin}bus: {bus.BusName}");
        context.PrintLine($"{margin}  type {bus.Type.Name}");
        for (int i = bus.Devices.Count - 1; i >= 0; i--)
        {
            PrintDevice(context, bus.Devices[i], indent + 2);
        }
    }

    private void PrintDevice(HmpContext context, Device device, int indent)
    {
        context.PrintLine($"{new string(' ', indent)}dev: {device.Type.Name}, id \"{device.Id}\"");
        indent += 2;
        string margin = new(' ', indent);
        void Line(string text) => context.PrintLine(margin + text);
        device.DescribePins(Line);
        for (QomTypeInfo? type = device.Type; type is not null && type.Name != "device"; type = tree.Types.ParentOf(type))
        {
            foreach (QomPropertyInfo property in tree.Types.OwnProperties(type))
            {
                if (property is { IsDeviceProperty: true, Get: not null })
                {
                    Line($"{property.Name} = {Human(property, device)}");
                }
            }
        }

        device.DescribeMappings(Line);
        device.ParentBus?.DescribeDevice(device, Line);
        for (int i = device.ChildBuses.Count - 1; i >= 0; i--)
        {
            PrintBus(context, device.ChildBuses[i], indent);
        }
    }
}
