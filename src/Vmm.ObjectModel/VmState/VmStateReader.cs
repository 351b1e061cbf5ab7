using System.Buffers.Binary;

namespace Vmm.ObjectModel.VmState;

/// <summary>
/// Reads device state from a migration stream. The bytes are hostile input: reading past the end, or a value that
/// <see cref="Validate"/> refuses, throws <see cref="VmStateException"/> and nothing else.
/// </summary>
public sealed class VmStateReader
{
    private readonly ReadOnlyMemory<byte> _data;
    private int _position;

    /// <summary>Reads from the start of <paramref name="data"/>.</summary>
    public VmStateReader(ReadOnlyMemory<byte> data) => _data = data;

    /// <summary>Bytes consumed.</summary>
    public int Position => _position;

    /// <summary>Bytes left.</summary>
    public int Remaining => _data.Length - _position;

    /// <summary>One byte; anything but 0 is true.</summary>
    public bool ReadBool() => Take(1)[0] != 0;

    /// <summary>8 bits.</summary>
    public byte ReadUInt8() => Take(1)[0];

    /// <summary>8 bits, two's complement.</summary>
    public sbyte ReadInt8() => (sbyte)Take(1)[0];

    /// <summary>16 bits.</summary>
    public ushort ReadUInt16() => BinaryPrimitives.ReadUInt16BigEndian(Take(2));

    /// <summary>16 bits, two's complement.</summary>
    public short ReadInt16() => BinaryPrimitives.ReadInt16BigEndian(Take(2));

    /// <summary>32 bits.</summary>
    public uint ReadUInt32() => BinaryPrimitives.ReadUInt32BigEndian(Take(4));

    /// <summary>32 bits, two's complement.</summary>
    public int ReadInt32() => BinaryPrimitives.ReadInt32BigEndian(Take(4));

    /// <summary>64 bits.</summary>
    public ulong ReadUInt64() => BinaryPrimitives.ReadUInt64BigEndian(Take(8));

    /// <summary>64 bits, two's complement.</summary>
    public long ReadInt64() => BinaryPrimitives.ReadInt64BigEndian(Take(8));

    /// <summary>Bytes as they are.</summary>
    public void ReadBytes(Span<byte> destination) => Take(destination.Length).CopyTo(destination);

    /// <summary>Skips bytes that the format reserves.</summary>
    public void SkipUnused(int count) => Take(count);

    /// <summary>The next byte without consuming it; -1 at the end.</summary>
    public int Peek() => Remaining > 0 ? _data.Span[_position] : -1;

    /// <summary>A name: length in one byte, then ASCII characters.</summary>
    public string ReadCountedString() => System.Text.Encoding.ASCII.GetString(Take(ReadUInt8()));

    /// <summary>
    /// True and positioned behind its name and version when the next thing is the subsection <paramref name="fullName"/>; otherwise nothing is consumed.
    /// </summary>
    public bool TryEnterSubsection(string fullName, out int version)
    {
        version = 0;
        ReadOnlySpan<byte> rest = _data.Span[_position..];
        int header = 2 + fullName.Length;
        if (rest.Length < header + 4 || rest[0] != VmStateFormat.Subsection || rest[1] != fullName.Length)
        {
            return false;
        }

        for (int i = 0; i < fullName.Length; i++)
        {
            if (rest[2 + i] != fullName[i])
            {
                return false;
            }
        }

        version = (int)BinaryPrimitives.ReadUInt32BigEndian(rest[header..]);
        _position += header + 4;
        return true;
    }

    /// <summary>Refuses the stream unless <paramref name="condition"/> holds for the value of <paramref name="field"/>.</summary>
    public static void Validate(bool condition, string field)
    {
        if (!condition)
        {
            throw new VmStateException($"value of {field} is out of range");
        }
    }

    private ReadOnlySpan<byte> Take(int count)
    {
        if (count < 0 || count > Remaining)
        {
            throw new VmStateException("the stream ends within a section");
        }

        ReadOnlySpan<byte> span = _data.Span.Slice(_position, count);
        _position += count;
        return span;
    }
}

/// <summary>The state in a migration stream cannot be loaded; nothing has been applied.</summary>
public sealed class VmStateException(string message) : Exception(message);

/// <summary>Constants of the stream (section types of QEMU's migration format).</summary>
public static class VmStateFormat
{
    /// <summary>Marks a subsection within a section.</summary>
    public const byte Subsection = 5;

    /// <summary>Writes what precedes the fields of a subsection: marker, full name and version.</summary>
    public static void BeginSubsection(VmStateWriter writer, string fullName, int version)
    {
        writer.WriteUInt8(Subsection);
        writer.WriteCountedString(fullName);
        writer.WriteUInt32((uint)version);
    }
}
