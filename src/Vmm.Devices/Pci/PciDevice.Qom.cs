using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.Devices.Pci;

public abstract partial class PciDevice
{
    private static QomTypeInfo? s_typeInfo;

    /// <summary>Type "pci-device".</summary>
    public static new QomTypeInfo TypeInfo => s_typeInfo ??= new QomTypeInfo
    {
        Name = "pci-device",
        Parent = "device",
        IsAbstract = true,
        BusType = "PCI",
        Properties = static () =>
        [
            new QomPropertyInfo(
                "addr",
                "int32",
                static o => ((PciDevice)o).Address,
                static (o, input) => ((PciDevice)o).Address = ReadAddress(o, input),
                "Slot and optional function number, example: 06.0 or 06",
                static () => AutomaticAddress)
            {
                IsDeviceProperty = true,
                Print = static o => ((PciDevice)o).Address < 0 ? "<unset>" : $"{((PciDevice)o).Slot:x2}.{((PciDevice)o).Function:x}",
            },
            new QomPropertyInfo(
                "multifunction",
                "bool",
                static o => ((PciDevice)o).IsMultifunction,
                static (o, input) => ((PciDevice)o).IsMultifunction = input.ReadBool(),
                "on/off",
                static () => false)
            {
                IsDeviceProperty = true,
            },
        ],
    };

    /// <summary>Parses "slot" or "slot.function" in hexadecimal; false when it is neither or out of range.</summary>
    public static bool TryParseAddress(ReadOnlySpan<char> text, out int address)
    {
        address = 0;
        int dot = text.IndexOf('.');
        ReadOnlySpan<char> slotText = dot < 0 ? text : text[..dot];
        int function = 0;
        if (!TryParseHex(slotText, out int slot) || slot > 31 || (dot >= 0 && (!TryParseHex(text[(dot + 1)..], out function) || function > 7)))
        {
            return false;
        }

        address = (slot << 3) | function;
        return true;
    }

    private static int ReadAddress(QomObject obj, PropertyInput input)
    {
        switch (input.Value)
        {
            case QString text:
                return TryParseAddress(text.Value, out int address)
                    ? address
                    : throw new QapiException(
                        QapiErrorClass.GenericError, $"Property '{obj.Type.Name}.{input.Name}' doesn't take value '{text.Value}'");
            case QNum number when number.TryGetInt64(out long value):
                return value is >= AutomaticAddress and <= 255
                    ? (int)value
                    : throw new QapiException(
                        QapiErrorClass.GenericError, $"Parameter '{input.Name}' expects a value between -1 and 255");
            default:
                throw new QapiException(
                    QapiErrorClass.GenericError, $"Invalid parameter type for '{input.Name}', expected int or str");
        }
    }

    private static bool TryParseHex(ReadOnlySpan<char> text, out int value)
    {
        if (text.StartsWith("0x", StringComparison.OrdinalIgnoreCase))
        {
            text = text[2..];
        }

        value = 0;
        if (text.IsEmpty || text.Length > 4)
        {
            return false;
        }

        foreach (char c in text)
        {
            if (!char.IsAsciiHexDigit(c))
            {
                return false;
            }

            value = (value << 4) | (c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
        }

        return true;
    }
}
