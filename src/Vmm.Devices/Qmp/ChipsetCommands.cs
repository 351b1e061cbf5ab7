using System.Text;
using Vmm.Devices.Ged;
using Vmm.Devices.I8259;
using Vmm.Devices.IoApic;
using Vmm.Devices.Isa;
using Vmm.Devices.Piix;
using Vmm.Devices.Rtc;
using Vmm.Memory;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;
using Vmm.Qapi.Types;

namespace Vmm.Devices.Qmp;

/// <summary>Commands about the chipset's devices.</summary>
/// <param name="tree">The object tree, in which the devices are found.</param>
/// <param name="ports">The machine's port space; null before there is a machine.</param>
public sealed class ChipsetCommands(QomTree tree, Func<AddressSpace?> ports)
{
    /// <summary>Forgets periodic interrupts of the real time clock that wait to be delivered late.</summary>
    [QmpCommand("rtc-reset-reinjection", Since = "2.1")]
    public void RtcResetReinjection()
    {
        foreach (Mc146818 rtc in FindAll<Mc146818>())
        {
            rtc.ResetReinjection();
        }
    }

    /// <summary>Tells what the guest's operating system reported about hotplug through ACPI.</summary>
    [QmpCommand("query-acpi-ospm-status", Since = "2.1")]
    public List<AcpiOstInfo> QueryAcpiOspmStatus() =>
        FindAll<Piix4Pm>().Count > 0 || FindAll<AcpiGed>().Count > 0
            ? []
            : throw new QapiException(QapiErrorClass.GenericError, "command is not supported, missing ACPI device");

    /// <summary>Shows interrupt statistics.</summary>
    [QmpCommand("x-query-irq", Since = "6.2")]
    [QapiFeature("unstable")]
    public HumanReadableText QueryIrq() => new() { Text = IrqText() };

    /// <summary>Shows interrupt statistics.</summary>
    [HmpCommand("info irq", Help = "show the interrupts statistics (if available)")]
    public void InfoIrq(HmpContext context) => context.Print(IrqText());

    /// <summary>Shows the state of the interrupt controllers.</summary>
    [HmpCommand("info pic", Help = "show PIC state")]
    public void InfoPic(HmpContext context)
    {
        int number = 0;
        foreach (IoApicDevice ioapic in FindAll<IoApicDevice>())
        {
            ioapic.Describe(number++, context.PrintLine);
        }

        foreach (KernelIoApic ioapic in FindAll<KernelIoApic>())
        {
            ioapic.Describe(number++, context.PrintLine);
        }

        // The slave, which was made last, comes first.
        List<IsaDevice> chips = FindAll<IsaDevice>();
        for (int i = chips.Count - 1; i >= 0; i--)
        {
            string? line = (chips[i] as I8259Chip)?.Describe() ?? (chips[i] as KernelI8259)?.Describe();
            if (line is not null)
            {
                context.PrintLine(line);
            }
        }
    }

    /// <summary>Reads a port.</summary>
    [HmpCommand("i", ArgsType = "fmt:/,addr:i", Params = "/fmt addr", Help = "I/O port read")]
    public void PortRead(HmpContext context, HmpFormat fmt, int addr)
    {
        if (ports() is not { } space)
        {
            return;
        }

        ushort port = (ushort)addr;
        int size = fmt.Size is 2 or 4 ? fmt.Size : 1;
        ulong value = space.ReadValue(port, size) & (ulong.MaxValue >> (64 - (size * 8)));
        int digits = (fmt.Size > 0 ? fmt.Size : size) * 2;
        context.PrintLine($"port{Suffix(size)}[0x{port:x4}] = 0x{value.ToString("x", System.Globalization.CultureInfo.InvariantCulture).PadLeft(digits, '0')}");
    }

    /// <summary>Writes a port.</summary>
    [HmpCommand("o", ArgsType = "fmt:/,addr:i,val:i", Params = "/fmt addr value", Help = "I/O port write")]
    public void PortWrite(HmpContext context, HmpFormat fmt, int addr, int val)
    {
        int size = fmt.Size is 2 or 4 ? fmt.Size : 1;
        ports()?.WriteValue((ushort)addr, (uint)val & (uint.MaxValue >> (32 - (size * 8))), size);
    }

    private static char Suffix(int size) => size switch { 2 => 'w', 4 => 'l', _ => 'b' };

    private string IrqText()
    {
        var text = new StringBuilder();
        void Line(string line) => text.Append(line).Append('\n');
        FindAll<IoApicDevice>().ForEach(chip => chip.Statistics.Describe("ioapic", Line));
        FindAll<KernelIoApic>().ForEach(chip => chip.Statistics.Describe("kvm-ioapic", Line));
        FindAll<I8259Chip>().Find(static chip => chip.IsMaster)?.Statistics.Describe("isa-i8259", Line);
        FindAll<KernelI8259>().Find(static chip => chip.IsMaster)?.Statistics.Describe("kvm-i8259", Line);
        return text.ToString();
    }

    private List<T> FindAll<T>()
        where T : QomObject
    {
        var found = new List<T>();
        if (tree.Machine is { } machine)
        {
            Collect(machine, found);
        }

        return found;
    }

    private static void Collect<T>(QomObject node, List<T> found)
        where T : QomObject
    {
        if (node is T match)
        {
            found.Add(match);
        }

        foreach (QomObject child in node.Children)
        {
            Collect(child, found);
        }
    }
}
