using System.Buffers.Binary;

namespace Vmm.ObjectModel.VmState;

/// <summary>Appends device state in the migration stream's form: big-endian, no padding. Grows as needed; not synchronised.</summary>
public sealed class VmStateWriter
{
    private byte[] _buffer = new byte[256];
    private int _count;

    /// <summary>Bytes written so far.</summary>
    public ReadOnlySpan<byte> WrittenSpan => _buffer.AsSpan(0, _count);

    /// <summary>Number of bytes written so far.</summary>
    public int Length => _count;

    /// <summary>Forgets everything written.</summary>
    public void Clear() => _count = 0;

    /// <summary>One byte, 0 or 1.</summary>
    public void WriteBool(bool value) => Reserve(1)[0] = value ? (byte)1 : (byte)0;

    /// <summary>8 bits.</summary>
    public void WriteUInt8(byte value) => Reserve(1)[0] = value;

    /// <summary>8 bits, two's complement.</summary>
    public void WriteInt8(sbyte value) => Reserve(1)[0] = (byte)value;

    /// <summary>16 bits.</summary>
    public void WriteUInt16(ushort value) => BinaryPrimitives.WriteUInt16BigEndian(Reserve(2), value);

    /// <summary>16 bits, two's complement.</summary>
    public void WriteInt16(short value) => BinaryPrimitives.WriteInt16BigEndian(Reserve(2), value);

    /// <summary>32 bits.</summary>
    public void WriteUInt32(uint value) => BinaryPrimitives.WriteUInt32BigEndian(Reserve(4), value);

    /// <summary>32 bits, two's complement.</summary>
    public void WriteInt32(int value) => BinaryPrimitives.WriteInt32BigEndian(Reserve(4), value);

    /// <summary>64 bits.</summary>
    public void WriteUInt64(ulong value) => BinaryPrimitives.WriteUInt64BigEndian(Reserve(8), value);

    /// <summary>64 bits, two's complement.</summary>
    public void WriteInt64(long value) => BinaryPrimitives.WriteInt64BigEndian(Reserve(8), value);

    /// <summary>Bytes as they are.</summary>
    public void WriteBytes(ReadOnlySpan<byte> bytes) => bytes.CopyTo(Reserve(bytes.Length));

    /// <summary>Zero bytes that the format reserves.</summary>
    public void WriteUnused(int count) => Reserve(count).Clear();

    /// <summary>A name: length in one byte, then ASCII characters.</summary>
    public void WriteCountedString(string text)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(text.Length, 255);
        WriteUInt8((byte)text.Length);
        System.Text.Encoding.ASCII.GetBytes(text, Reserve(text.Length));
    }

    private Span<byte> Reserve(int size)
    {
        if (_buffer.Length - _count < size)
        {
            Array.Resize(ref _buffer, Math.Max(_buffer.Length * 2, _count + size));
        }

        Span<byte> span = _buffer.AsSpan(_count, size);
        _count += size;
        return span;
    }
}
