using System.Buffers.Binary;
using System.Text;

namespace Vmm.Block.Drivers.Images;

/// <summary>Fields of a header in either order of bytes; what lies behind the end of the bytes is zero.</summary>
internal readonly ref struct HeaderReader(ReadOnlySpan<byte> bytes)
{
    private readonly ReadOnlySpan<byte> _bytes = bytes;

    internal byte U8(int offset) => offset >= 0 && offset < _bytes.Length ? _bytes[offset] : (byte)0;

    internal ushort Le16(int offset) => (ushort)(U8(offset) | (U8(offset + 1) << 8));

    internal uint Le32(int offset) => Le16(offset) | ((uint)Le16(offset + 2) << 16);

    internal ulong Le64(int offset) => Le32(offset) | ((ulong)Le32(offset + 4) << 32);

    internal ushort Be16(int offset) => BinaryPrimitives.ReverseEndianness(Le16(offset));

    internal uint Be32(int offset) => BinaryPrimitives.ReverseEndianness(Le32(offset));

    internal ulong Be64(int offset) => BinaryPrimitives.ReverseEndianness(Le64(offset));

    /// <summary>True when the bytes at an offset are these.</summary>
    internal bool Has(int offset, ReadOnlySpan<byte> expected) =>
        offset >= 0 && offset <= _bytes.Length && _bytes[offset..].StartsWith(expected);

    /// <summary>True when a range is zero, as far as there are bytes.</summary>
    internal bool IsZero(int offset, int length) =>
        offset >= _bytes.Length || !_bytes.Slice(offset, Math.Min(length, _bytes.Length - offset)).ContainsAnyExcept((byte)0);

    /// <summary>Text up to the first NUL.</summary>
    internal string Text(int offset, int length)
    {
        if (offset >= _bytes.Length)
        {
            return "";
        }

        ReadOnlySpan<byte> text = _bytes.Slice(offset, Math.Min(length, _bytes.Length - offset));
        int end = text.IndexOf((byte)0);
        return Encoding.UTF8.GetString(end < 0 ? text : text[..end]);
    }
}
