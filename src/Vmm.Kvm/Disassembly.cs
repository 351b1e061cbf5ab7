using System.Globalization;
using System.Text;
using Iced.Intel;

namespace Vmm.Kvm;

/// <summary>Guest code as text, in AT&amp;T syntax, one instruction per line with its bytes.</summary>
internal static class Disassembly
{
    private const int MaxInstruction = 15;
    private const int MnemonicWidth = 9;
    private const int BytesPerLine = 8;

    /// <summary>Writes <paramref name="count"/> instructions.</summary>
    /// <param name="output">Where the text goes.</param>
    /// <param name="address">First instruction.</param>
    /// <param name="count">Instructions.</param>
    /// <param name="bits">16, 32 or 64.</param>
    /// <param name="read">Reads bytes; false where nothing can be read.</param>
    public static void Write(StringBuilder output, ulong address, int count, int bits, Func<ulong, byte[], bool> read)
    {
        var formatter = new GasFormatter();
        formatter.Options.FirstOperandCharIndex = MnemonicWidth;
        formatter.Options.SpaceAfterOperandSeparator = true;
        formatter.Options.GasSpaceAfterMemoryOperandComma = true;
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
            int length = instruction.IsInvalid ? 1 : instruction.Length;
            AppendBytes(output, code.AsSpan(0, Math.Min(length, BytesPerLine)));
            output.Append(' ', ((BytesPerLine - Math.Min(length, BytesPerLine)) * 3) + 2);
            if (instruction.IsInvalid)
            {
                output.Append(CultureInfo.InvariantCulture, $".byte    0x{code[0]:x2}\n");
                address++;
                continue;
            }

            formatter.Format(instruction, text);
            output.Append(WithSegment(instruction, WithUsualName(instruction, text.ToStringAndReset())).PadRight(MnemonicWidth)).Append('\n');
            if (length > BytesPerLine)
            {
                output.Append(CultureInfo.InvariantCulture, $"0x{address + BytesPerLine:x8}: ");
                AppendBytes(output, code.AsSpan(BytesPerLine, length - BytesPerLine));
                output.Append('\n');
            }

            address += (uint)length;
        }
    }

    private static void AppendBytes(StringBuilder output, ReadOnlySpan<byte> code)
    {
        foreach (byte b in code)
        {
            output.Append(' ').Append(b.ToString("x2", CultureInfo.InvariantCulture));
        }

    }

    // Where an instruction has one size of operand only, or says it in its name, there is no suffix.
    private static string WithUsualName(in Instruction instruction, string text)
    {
        int end = text.IndexOf(' ');
        string name = end < 0 ? text : text[..end];
        string? usual = instruction.Mnemonic switch
        {
            Mnemonic.Movzx => "movz" + Letter(SizeOf(instruction, 1)) + Letter(SizeOf(instruction, 0)),
            Mnemonic.Movsx => "movs" + Letter(SizeOf(instruction, 1)) + Letter(SizeOf(instruction, 0)),
            Mnemonic.Movsxd => "movslq",
            Mnemonic.Wait => "wait",
            Mnemonic.Arpl or Mnemonic.Verr or Mnemonic.Verw or Mnemonic.Loop or Mnemonic.Loope or Mnemonic.Loopne or Mnemonic.Leave
                or Mnemonic.Enter or Mnemonic.Fnstcw or Mnemonic.Fldcw or Mnemonic.Bound
                or Mnemonic.Seta or Mnemonic.Setae or Mnemonic.Setb or Mnemonic.Setbe or Mnemonic.Sete or Mnemonic.Setg or Mnemonic.Setge
                or Mnemonic.Setl or Mnemonic.Setle or Mnemonic.Setne or Mnemonic.Setno or Mnemonic.Setnp or Mnemonic.Setns
                or Mnemonic.Seto or Mnemonic.Setp or Mnemonic.Sets => instruction.Mnemonic.ToString().ToLowerInvariant(),
            _ => null,
        };
        return usual is null || usual == name ? text : usual.PadRight(MnemonicWidth) + (end < 0 ? "" : text[end..].TrimStart());
    }

    private static int SizeOf(in Instruction instruction, int operand) =>
        instruction.GetOpKind(operand) == OpKind.Register ? instruction.GetOpRegister(operand).GetSize() : instruction.MemorySize.GetSize();

    private static char Letter(int bytes) => bytes switch { 1 => 'b', 2 => 'w', 4 => 'l', _ => 'q' };

    // String instructions write to ES whatever the prefixes say, and the text says so.
    private static string WithSegment(in Instruction instruction, string text)
    {
        for (int i = 0; i < instruction.OpCount; i++)
        {
            string? destination = instruction.GetOpKind(i) switch
            {
                OpKind.MemoryESDI => "(%di)",
                OpKind.MemoryESEDI => "(%edi)",
                OpKind.MemoryESRDI => "(%rdi)",
                _ => null,
            };
            if (destination is not null && !text.Contains("%es:", StringComparison.Ordinal))
            {
                return text.Replace(destination, "%es:" + destination, StringComparison.Ordinal);
            }
        }

        return text;
    }
}
