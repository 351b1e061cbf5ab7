using System.Numerics;
using System.Security.Cryptography;

namespace Vmm.Block.Bitmaps;

/// <summary>
/// Bits over the bytes of a node, one for each granule, kept in pieces that exist where a bit was ever set: a bitmap costs memory for what is
/// dirty, not for the size of the disk. Ranges are in bytes. Not thread-safe.
/// </summary>
public sealed class BitSet
{
    private const int WordsPerChunk = 512;
    private const long BitsPerChunk = WordsPerChunk * 64L;

    private readonly int _shift;
    private ulong[]?[] _chunks;
    private long _bits;

    /// <summary>All clear.</summary>
    /// <param name="length">Bytes covered.</param>
    /// <param name="granularity">Bytes of a granule, a power of two.</param>
    public BitSet(long length, long granularity)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        if (!BitOperations.IsPow2(granularity))
        {
            throw new ArgumentOutOfRangeException(nameof(granularity));
        }

        _shift = BitOperations.Log2((ulong)granularity);
        _bits = BitsFor(length);
        _chunks = new ulong[]?[ChunksFor(_bits)];
        Length = length;
    }

    /// <summary>Bytes covered.</summary>
    public long Length { get; private set; }

    /// <summary>Bytes of a granule.</summary>
    public long Granularity => 1L << _shift;

    /// <summary>Number of granules that are set.</summary>
    public long Count { get; private set; }

    /// <summary>True when the granule of a byte is set; false behind the end.</summary>
    public bool this[long offset] => offset >= 0 && offset < Length && IsSet(offset >> _shift);

    /// <summary>Sets all granules that the range touches.</summary>
    public void Set(long offset, long bytes)
    {
        if (Clip(offset, bytes, out long first, out long last))
        {
            Change(first, last, set: true);
        }
    }

    /// <summary>Clears all granules that the range touches.</summary>
    public void Reset(long offset, long bytes)
    {
        if (Clip(offset, bytes, out long first, out long last))
        {
            Change(first, last, set: false);
        }
    }

    /// <summary>Clears everything.</summary>
    public void Clear()
    {
        Array.Clear(_chunks);
        Count = 0;
    }

    /// <summary>Sets what the other has set; of any granularity.</summary>
    public void Merge(BitSet other)
    {
        for (long offset = 0; other.NextArea(ref offset, other.Length, long.MaxValue, out long bytes); offset += bytes)
        {
            Set(offset, bytes);
        }
    }

    /// <summary>A copy.</summary>
    public BitSet Clone()
    {
        BitSet copy = new(Length, Granularity);
        for (int i = 0; i < _chunks.Length; i++)
        {
            copy._chunks[i] = (ulong[]?)_chunks[i]?.Clone();
        }

        copy.Count = Count;
        return copy;
    }

    /// <summary>Covers another length; what is new is clear.</summary>
    public void Resize(long length)
    {
        if (length < Length)
        {
            long keep = BitsFor(length);
            if (keep < _bits)
            {
                Change(keep, _bits - 1, set: false);
            }
        }

        _bits = BitsFor(length);
        Array.Resize(ref _chunks, ChunksFor(_bits));
        Length = length;
    }

    /// <summary>The next set byte from an offset on; -1 when there is none before the end.</summary>
    public long NextDirty(long offset, long end)
    {
        end = Math.Min(end, Length);
        if (offset < 0 || offset >= end)
        {
            return -1;
        }

        long bit = NextSet(offset >> _shift, BitsFor(end));
        return bit < 0 ? -1 : Math.Max(bit << _shift, offset);
    }

    /// <summary>The next clear byte from an offset on; -1 when there is none before the end.</summary>
    public long NextClean(long offset, long end)
    {
        end = Math.Min(end, Length);
        for (long bit = offset >> _shift; offset >= 0 && bit << _shift < end; bit++)
        {
            if (bit % BitsPerChunk == 0 && IsFull(bit / BitsPerChunk))
            {
                bit += BitsPerChunk - 1;
                continue;
            }

            if (!IsSet(bit))
            {
                return Math.Max(bit << _shift, offset);
            }
        }

        return -1;
    }

    /// <summary>Finds the next set area from an offset on, at most <paramref name="max"/> bytes of it.</summary>
    public bool NextArea(ref long offset, long end, long max, out long bytes)
    {
        bytes = 0;
        end = Math.Min(end, Length);
        long start = NextDirty(offset, end);
        if (start < 0)
        {
            return false;
        }

        long limit = max > end - start ? end : start + max;
        long stop = NextClean(start, limit);
        offset = start;
        bytes = (stop < 0 ? limit : stop) - start;
        return true;
    }

    /// <summary>SHA-256 of the bits as 64-bit little-endian words, in hexadecimal.</summary>
    public string Sha256()
    {
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        byte[] bytes = new byte[WordsPerChunk * sizeof(ulong)];
        long words = (_bits + 63) / 64;
        for (int i = 0; i < _chunks.Length; i++)
        {
            int count = (int)Math.Min(words - i * (long)WordsPerChunk, WordsPerChunk);
            for (int w = 0; w < count; w++)
            {
                System.Buffers.Binary.BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(w * sizeof(ulong)), _chunks[i]?[w] ?? 0);
            }

            hash.AppendData(bytes, 0, Math.Max(count, 0) * sizeof(ulong));
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    /// <summary>Sets bits as a file has them: bit 0 of the first byte first.</summary>
    /// <param name="first">Number of the first granule, a multiple of 64.</param>
    /// <param name="bytes">The bits, a multiple of 8 bytes; those behind the end are left out.</param>
    public void Load(long first, ReadOnlySpan<byte> bytes)
    {
        for (int i = 0; i < bytes.Length && first + (i * 8L) < _bits; i += sizeof(ulong))
        {
            long bit = first + (i * 8L);
            ulong word = System.Buffers.Binary.BinaryPrimitives.ReadUInt64LittleEndian(bytes[i..]);
            word &= _bits - bit < 64 ? (1UL << (int)(_bits - bit)) - 1 : ulong.MaxValue;
            if (word != 0)
            {
                ulong[] chunk = _chunks[bit / BitsPerChunk] ??= new ulong[WordsPerChunk];
                ref ulong value = ref chunk[bit % BitsPerChunk / 64];
                Count += BitOperations.PopCount(word & ~value);
                value |= word;
            }
        }
    }

    /// <summary>The bits as a file has them; false when all of these are clear.</summary>
    /// <param name="first">Number of the first granule, a multiple of 64.</param>
    /// <param name="bytes">Where they go, a multiple of 8 bytes.</param>
    public bool Store(long first, Span<byte> bytes)
    {
        bytes.Clear();
        bool isAny = false;
        for (int i = 0; i < bytes.Length && first + (i * 8L) < _bits; i += sizeof(ulong))
        {
            long bit = first + (i * 8L);
            if (_chunks[bit / BitsPerChunk]?[bit % BitsPerChunk / 64] is { } word and not 0)
            {
                System.Buffers.Binary.BinaryPrimitives.WriteUInt64LittleEndian(bytes[i..], word);
                isAny = true;
            }
        }

        return isAny;
    }

    /// <summary>Number of granules.</summary>
    public long Granules => _bits;

    private static int ChunksFor(long bits) => checked((int)((bits + BitsPerChunk - 1) / BitsPerChunk));

    private long BitsFor(long length) => (length >> _shift) + ((length & (Granularity - 1)) != 0 ? 1 : 0);

    private bool Clip(long offset, long bytes, out long first, out long last)
    {
        first = offset >> _shift;
        last = 0;
        if (offset < 0 || bytes <= 0 || offset >= Length)
        {
            return false;
        }

        last = (offset + Math.Min(bytes, Length - offset) - 1) >> _shift;
        return true;
    }

    private bool IsSet(long bit) =>
        _chunks[bit / BitsPerChunk] is { } chunk && (chunk[bit % BitsPerChunk / 64] >> (int)(bit % 64) & 1) != 0;

    private bool IsFull(long chunk) =>
        chunk < _chunks.Length && _chunks[chunk] is { } words && !words.AsSpan().ContainsAnyExcept(ulong.MaxValue);

    private void Change(long first, long last, bool set)
    {
        for (long bit = first; bit <= last;)
        {
            long index = bit / BitsPerChunk;
            long word = bit / 64;
            int low = (int)(bit % 64);
            int high = (int)Math.Min(63, low + (last - bit));
            ulong mask = ulong.MaxValue >> (63 - high) & ulong.MaxValue << low;
            ulong[]? chunk = _chunks[index];
            if (chunk is null)
            {
                if (!set)
                {
                    bit = (index + 1) * BitsPerChunk;
                    continue;
                }

                chunk = _chunks[index] = new ulong[WordsPerChunk];
            }

            ref ulong value = ref chunk[word % WordsPerChunk];
            ulong changed = set ? mask & ~value : mask & value;
            Count += set ? BitOperations.PopCount(changed) : -BitOperations.PopCount(changed);
            value ^= changed;
            bit += high - low + 1;
        }
    }

    private long NextSet(long bit, long end)
    {
        while (bit < end)
        {
            if (_chunks[bit / BitsPerChunk] is not { } chunk)
            {
                bit = (bit / BitsPerChunk + 1) * BitsPerChunk;
                continue;
            }

            ulong rest = chunk[bit % BitsPerChunk / 64] >> (int)(bit % 64);
            if (rest != 0)
            {
                bit += BitOperations.TrailingZeroCount(rest);
                return bit < end ? bit : -1;
            }

            bit = (bit / 64 + 1) * 64;
        }

        return -1;
    }
}
