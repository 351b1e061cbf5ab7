using System.Globalization;
using System.Text;
using Iced.Intel;

namespace Vmm.Kvm;

/// <summary>Guest code as text, in AT&amp;T syntax, one instruction per line with its bytes.</summary>
internal static class Disassembly
{
    private const int MaxInstruction = 15;

    /// <summary>Writes <paramref name="count"/> instructions.</summary>
    /// <param name="output">Where the text goes.</param>
    /// <param name="address">First instruction.</param>
    /// <param name="count">Instructions.</param>
    /// <param name="bits">16, 32 or 64.</param>
    /// <param name="read">Reads bytes; false where nothing can be read.</param>
    public static void Write(StringBuilder output, ulong address, int count, int bits, Func<ulong, byte[], bool> read)
    {
        var formatter = new GasFormatter();
        formatter.Options.FirstOperandCharIndex = 9;
        formatter.Options.SpaceAfterOperandSeparator = true;
        formatter.Options.HexPrefix = "0x";
        formatter.Options.UppercaseHex = false;
        formatter.Options.GasShowMnemonicSizeSuffix = true;
        formatter.Options.SmallHexNumbersInDecimal = true;
        formatter.Options.BranchLeadingZeros = false;
        var text = new StringOutput();
        byte[] one = new byte[1];
        byte[] code = new byte[MaxInstruction];
        for (int i = 0; i < count; i++)
        {
            int available = 0;
            while (available < MaxInstruction && read(address + (uint)available, one))
            {
                code[available++] = one[0];
            }

            output.Append(CultureInfo.InvariantCulture, $"0x{address:x8}: ");
            if (available == 0)
            {
                output.Append("unable to read memory\n");
                return;
            }

            var decoder = Iced.Intel.Decoder.Create(bits, new ByteArrayCodeReader(code, 0, available));
            decoder.IP = address;
            decoder.Decode(out Instruction instruction);
            int length = Math.Max(1, instruction.Length);
            var bytes = new StringBuilder(32);
            for (int b = 0; b < length; b++)
            {
                bytes.Append(' ').Append(code[b].ToString("x2", CultureInfo.InvariantCulture));
            }

            output.Append(bytes.ToString().PadRight(24)).Append("  ");
            if (instruction.IsInvalid)
            {
                output.Append(CultureInfo.InvariantCulture, $".byte    0x{code[0]:x2}\n");
                address++;
                continue;
            }

            formatter.Format(instruction, text);
            output.Append(text.ToStringAndReset().TrimEnd()).Append('\n');
            address += (uint)length;
        }
    }
}
