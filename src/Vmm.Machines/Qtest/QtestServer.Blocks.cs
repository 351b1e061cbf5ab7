using System.Buffers.Text;
using System.Text;

namespace Vmm.Machines.Qtest;

public sealed partial class QtestServer
{
    // A request for more than this is refused rather than tried: the answer would take as many bytes twice over.
    private const ulong MaxBlock = 512 << 20;

    private bool TryMemoryBlock(ReadOnlySpan<byte> command, ref QtestWords words)
    {
        bool isRead = command.SequenceEqual("read"u8);
        bool isWrite = command.SequenceEqual("write"u8);
        bool isB64Read = command.SequenceEqual("b64read"u8);
        bool isB64Write = command.SequenceEqual("b64write"u8);
        bool isSet = command.SequenceEqual("memset"u8);
        if (!isRead && !isWrite && !isB64Read && !isB64Write && !isSet)
        {
            return false;
        }

        if (!words.TryUnsigned(out ulong address) || !words.TryUnsigned(out ulong size) || size > MaxBlock || (size == 0 && !isSet))
        {
            return Malformed();
        }

        if (isRead)
        {
            ReadHex(address, size);
        }
        else if (isB64Read)
        {
            ReadBase64(address, size);
        }
        else if (isWrite)
        {
            WriteHex(address, size, words.Next());
        }
        else if (isB64Write)
        {
            WriteBase64(address, size, words.Next());
        }
        else
        {
            if (!words.TryUnsigned(out ulong value))
            {
                return Malformed();
            }

            Fill(address, size, (byte)value);
        }

        return true;
    }

    private void ReadHex(ulong address, ulong size)
    {
        const string Digits = "0123456789abcdef";
        _out.Clear().Append("OK 0x");
        while (size > 0)
        {
            Span<byte> part = ReadChunk(ref address, ref size);
            foreach (byte b in part)
            {
                _out.Append(Digits[b >> 4]).Append(Digits[b & 15]);
            }
        }

        Answer(_out.ToString());
    }

    private void ReadBase64(ulong address, ulong size)
    {
        byte[] data = new byte[size];
        int at = 0;
        while (size > 0)
        {
            Span<byte> part = ReadChunk(ref address, ref size);
            part.CopyTo(data.AsSpan(at));
            at += part.Length;
        }

        Answer("OK " + Convert.ToBase64String(data));
    }

    private Span<byte> ReadChunk(ref ulong address, ref ulong size)
    {
        Span<byte> part = _chunk.AsSpan(0, (int)Math.Min(size, ChunkSize));
        part.Clear();
        _memory.Read(address, part);
        address += (ulong)part.Length;
        size -= (ulong)part.Length;
        return part;
    }

    // Missing digits count as zero, surplus ones are not looked at.
    private void WriteHex(ulong address, ulong size, ReadOnlySpan<byte> text)
    {
        if (text.Length < 3)
        {
            Answer("ERR invalid argument size");
            return;
        }

        ReadOnlySpan<byte> digits = text.StartsWith("0x"u8) ? text[2..] : text;
        ulong at = 0;
        while (at < size)
        {
            Span<byte> part = _chunk.AsSpan(0, (int)Math.Min(size - at, ChunkSize));
            for (int i = 0; i < part.Length; i++)
            {
                int digit = (int)Math.Min((at + (ulong)i) * 2, int.MaxValue - 1);
                part[i] = (byte)((HexAt(digits, digit) << 4) | HexAt(digits, digit + 1));
            }

            _memory.Write(address + at, part);
            at += (ulong)part.Length;
        }

        Answer("OK");
    }

    private void WriteBase64(ulong address, ulong size, ReadOnlySpan<byte> text)
    {
        byte[] data = new byte[Base64.GetMaxDecodedFromUtf8Length(text.Length)];
        if (Base64.DecodeFromUtf8(text, data, out _, out int length) != System.Buffers.OperationStatus.Done)
        {
            Answer("ERR invalid base64 data");
            return;
        }

        if ((ulong)length != size)
        {
            Log('S', $"b64write: data length mismatch (told {size}, found {length})");
        }

        _memory.Write(address, data.AsSpan(0, (int)Math.Min((ulong)length, size)));
        Answer("OK");
    }

    private void Fill(ulong address, ulong size, byte value)
    {
        _chunk.AsSpan().Fill(value);
        while (size > 0)
        {
            int part = (int)Math.Min(size, ChunkSize);
            _memory.Write(address, _chunk.AsSpan(0, part));
            address += (ulong)part;
            size -= (ulong)part;
        }

        Answer("OK");
    }

    private static int HexAt(ReadOnlySpan<byte> digits, int index)
    {
        if (index >= digits.Length)
        {
            return 0;
        }

        int c = digits[index];
        return c switch
        {
            >= '0' and <= '9' => c - '0',
            >= 'a' and <= 'f' => c - 'a' + 10,
            >= 'A' and <= 'F' => c - 'A' + 10,
            _ => 0,
        };
    }
}
