namespace Vmm.Devices.IoApic;

/// <summary>An I/O APIC's state as <c>info pic</c> shows it, wherever the chip is.</summary>
internal static class IoApicText
{
    private const int IndexRedirection = 0x10;
    private const ulong EntryVector = 0xff;
    private const ulong EntryDestinationMode = 1ul << 11;
    private const ulong EntryPolarity = 1ul << 13;
    private const ulong EntryRemoteIrr = 1ul << 14;
    private const ulong EntryLevel = 1ul << 15;
    private const ulong EntryMask = 1ul << 16;

    /// <summary>Lines for <c>info pic</c>.</summary>
    public static void Describe(IoApicState state, byte version, int number, Action<string> line)
    {
        string selected = state.Select == 0 ? "" : $" (redir[{(uint)((state.Select - IndexRedirection) >> 1)}])";
        line($"ioapic{number}: ver=0x{version:x} id=0x{state.Id:x2} sel=0x{state.Select:x2}{selected}");
        uint remote = 0;
        for (int pin = 0; pin < IoApicDevice.Pins; pin++)
        {
            ulong e = state.Entries[pin];
            bool logical = (e & EntryDestinationMode) != 0;
            ulong destination = e >> 56;
            line(
                $"  pin {pin,-2} 0x{e:x16} dest={(logical ? destination : destination & 0x0f):x} vec={e & EntryVector,-3} " +
                $"{((e & EntryPolarity) != 0 ? "active-lo" : "active-hi")} {((e & EntryLevel) != 0 ? "level" : "edge ")}" +
                $"{((e & EntryMask) != 0 ? " masked" : "       ")} {DeliveryName((int)(e >> 8) & 7)}  {(logical ? "logical" : "physical")}");
            remote |= (e & EntryRemoteIrr) != 0 ? 1u << pin : 0;
        }

        line("  IRR      " + Bits(state.Irr));
        line("  Remote IRR " + Bits(remote));
    }

    private static string DeliveryName(int mode) => mode switch
    {
        0 => "fixed",
        1 => "lowest",
        2 => "SMI",
        4 => "NMI",
        5 => "INIT",
        7 => "extINT",
        _ => "...",
    };

    private static string Bits(uint mask)
    {
        if (mask == 0)
        {
            return "(none)";
        }

        var text = new System.Text.StringBuilder();
        for (int pin = 0; pin < IoApicDevice.Pins; pin++)
        {
            if ((mask & (1u << pin)) != 0)
            {
                text.Append($"{pin,-2} ");
            }
        }

        return text.ToString();
    }
}
