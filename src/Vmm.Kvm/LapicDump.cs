using System.Buffers.Binary;
using System.Text;

namespace Vmm.Kvm;

/// <summary>Writes the registers of a local APIC (Intel SDM vol. 3, chapter 10) in the layout of <c>info lapic</c>.</summary>
public static class LapicDump
{
    private static readonly string[] s_delivery = ["Fixed", "...", "SMI", "...", "NMI", "INIT", "...", "ExtINT"];
    private static readonly string[] s_shorthand = ["no-shorthand", "self", "all-self", "all"];

    /// <summary>Writes the page of one CPU.</summary>
    /// <param name="output">Where the text goes.</param>
    /// <param name="page">Register page of 1024 bytes.</param>
    /// <param name="cpuIndex">CPU index for the heading.</param>
    /// <param name="x2Apic">The CPU model has x2APIC: destinations are of 32 bits.</param>
    public static void Write(StringBuilder output, ReadOnlySpan<byte> page, int cpuIndex, bool x2Apic)
    {
        output.Append($"dumping local APIC state for CPU {cpuIndex,-2}\n\n");
        WriteLvt(output, "LVT0", Get(page, 0x350), false);
        WriteLvt(output, "LVT1", Get(page, 0x360), false);
        WriteLvt(output, "LVTPC", Get(page, 0x340), false);
        WriteLvt(output, "LVTERR", Get(page, 0x370), false);
        WriteLvt(output, "LVTTHMR", Get(page, 0x330), false);
        WriteLvt(output, "LVTT", Get(page, 0x320), true);

        uint divide = Get(page, 0x3e0);
        int shift = (int)((divide & 3) | (divide >> 1 & 4)) + 1 & 7;
        output.Append($"Timer\t DCR=0x{divide & 0xb:x} (divide by {1 << shift}) initial_count = {Get(page, 0x380)}");
        output.Append($" current_count = {Get(page, 0x390)}\n");

        uint spurious = Get(page, 0xf0);
        output.Append($"SPIV\t 0x{spurious:x8} APIC {((spurious & 0x100) != 0 ? "enabled" : "disabled")}, ");
        output.Append($"focus={((spurious & 0x200) != 0 ? "on" : "off")}, spurious vec {spurious & 0xff}\n");
        WriteIcr(output, page, x2Apic);
        output.Append($"ESR\t 0x{Get(page, 0x280):x8}\n");
        WriteVectors(output, "ISR", page, 0x100);
        WriteVectors(output, "IRR", page, 0x200);

        uint format = Get(page, 0xe0) >> 28;
        uint logical = Get(page, 0xd0) >> 24;
        output.Append($"\nAPR 0x{Get(page, 0x90) & 0xff:x2} TPR 0x{Get(page, 0x80) & 0xff:x2} DFR 0x{format:x2} LDR 0x{logical:x2}");
        if (format == 0)
        {
            output.Append($"(cluster {logical >> 4}: id {logical & 0xf})");
        }

        output.Append($" PPR 0x{Get(page, 0xa0) & 0xff:x2}\n");
    }

    private static uint Get(ReadOnlySpan<byte> page, int register) => BinaryPrimitives.ReadUInt32LittleEndian(page[register..]);

    private static void WriteLvt(StringBuilder output, string name, uint lvt, bool isTimer)
    {
        string mode = !isTimer ? "" : (lvt >> 17 & 3) switch
        {
            1 => "periodic",
            2 => "tsc-deadline",
            _ => "one-shot",
        };
        uint delivery = lvt >> 8 & 7;
        output.Append($"{name}\t 0x{lvt:x8} {((lvt & 1 << 13) != 0 ? "active-lo" : "active-hi")} ");
        output.Append($"{((lvt & 1 << 15) != 0 ? "level" : "edge"),-5} {((lvt & 1 << 16) != 0 ? "masked" : ""),-6} ");
        output.Append($"{((lvt & 1 << 12) != 0 ? "pending" : ""),-7} {mode,-12} {s_delivery[delivery],-6}");
        output.Append(delivery == 4 ? "\n" : $" (vec {lvt & 0xff})\n");
    }

    private static void WriteIcr(StringBuilder output, ReadOnlySpan<byte> page, bool x2Apic)
    {
        uint low = Get(page, 0x300);
        uint high = Get(page, 0x310);
        bool logical = (low & 1 << 11) != 0;
        uint shorthand = low >> 18 & 3;
        output.Append($"ICR\t 0x{low:x8} {(logical ? "logical" : "physical")} {((low & 1 << 15) != 0 ? "level" : "edge")} ");
        output.Append($"{((low & 1 << 14) != 0 ? "assert" : "de-assert")} {s_shorthand[shorthand]}\n");
        output.Append($"ICR2\t 0x{high:x8}");
        if (shorthand != 0)
        {
            output.Append('\n');
            return;
        }

        uint destination = x2Apic ? high : high >> 24;
        uint format = Get(page, 0xe0) >> 28;
        if (!logical)
        {
            output.Append(x2Apic ? $" cpu {destination} (X2APIC ID)\n" : $" cpu {destination} (APIC ID)\n");
        }
        else if (format == 0xf)
        {
            output.Append($" mask {Mask(high >> 24, 8)} (APIC ID)\n");
        }
        else if (format == 0)
        {
            output.Append(x2Apic
                ? $" cluster {destination >> 16} mask {Mask(destination & 0xffff, 16)} (X2APIC ID)\n"
                : $" cluster {destination >> 4} mask {Mask(destination & 0xf, 4)} (APIC ID)\n");
        }
    }

    private static string Mask(uint value, int width) => value.ToString("b" + width, null);

    private static void WriteVectors(StringBuilder output, string name, ReadOnlySpan<byte> page, int register)
    {
        output.Append(name).Append("\t ");
        bool any = false;
        for (int vector = 0; vector < 256; vector++)
        {
            int at = vector / 32 * 16;
            if ((Get(page, register + at) >> (vector % 32) & 1) != 0)
            {
                any = true;
                bool level = (Get(page, 0x180 + at) >> (vector % 32) & 1) != 0;
                output.Append(vector).Append(level ? "(level) " : " ");
            }
        }

        output.Append(any ? "\n" : "(none)\n");
    }
}
