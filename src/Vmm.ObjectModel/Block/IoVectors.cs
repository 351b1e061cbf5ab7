using Vmm.Interop;

namespace Vmm.ObjectModel.Block;

/// <summary>
/// The scattered memory of one request: guest pages, or buffers of a driver, that the kernel reads and writes in place. A list is reused
/// (<see cref="Clear"/>) and grows only to the greatest number of pieces it ever had. Home: whoever makes the request; it stays unchanged
/// until the request has completed.
/// </summary>
public sealed class IoVectors
{
    private const int MaxKept = 256;

    [ThreadStatic]
    private static Stack<IoVectors>? s_free;

    private IoVec[] _items = new IoVec[8];
    private int _count;

    /// <summary>The pieces, in order.</summary>
    public ReadOnlySpan<IoVec> Items => _items.AsSpan(0, _count);

    /// <summary>Number of pieces.</summary>
    public int Count => _count;

    /// <summary>Bytes of all pieces.</summary>
    public long Size { get; private set; }

    /// <summary>An empty list of this thread's pool.</summary>
    public static IoVectors Rent() => (s_free ??= new Stack<IoVectors>()).TryPop(out IoVectors? list) ? list : new IoVectors();

    /// <summary>A list of one piece, of this thread's pool.</summary>
    public static IoVectors Rent(IoVec piece)
    {
        IoVectors list = Rent();
        list.Add(piece);
        return list;
    }

    /// <summary>A list of this thread's pool with the bytes from <paramref name="offset"/> of another.</summary>
    public static IoVectors RentSlice(IoVectors source, long offset, long length)
    {
        IoVectors list = Rent();
        list.AddSlice(source, offset, length);
        return list;
    }

    /// <summary>Gives a list back to this thread's pool. Nobody may use it any more.</summary>
    public void Return()
    {
        Clear();
        s_free ??= new Stack<IoVectors>();
        if (s_free.Count < MaxKept)
        {
            s_free.Push(this);
        }
    }

    /// <summary>Takes all pieces away.</summary>
    public void Clear()
    {
        _count = 0;
        Size = 0;
    }

    /// <summary>Appends a piece; one that continues the last becomes part of it. Empty pieces are left out.</summary>
    public void Add(IoVec piece)
    {
        if (piece.Length == 0)
        {
            return;
        }

        Size += (long)piece.Length;
        if (_count > 0 && _items[_count - 1].Address + (nint)_items[_count - 1].Length == piece.Address)
        {
            _items[_count - 1].Length += piece.Length;
            return;
        }

        if (_count == _items.Length)
        {
            Array.Resize(ref _items, 2 * _count);
        }

        _items[_count++] = piece;
    }

    /// <summary>Appends a buffer.</summary>
    public void Add(NativeBuffer buffer, int offset, int length) => Add(buffer.Vector(offset, length));

    /// <summary>Appends the bytes from <paramref name="offset"/> of another list.</summary>
    public void AddSlice(IoVectors source, long offset, long length)
    {
        source.CheckRange(offset, length);
        foreach (ref readonly IoVec piece in source.Items)
        {
            long size = (long)piece.Length;
            if (offset >= size)
            {
                offset -= size;
                continue;
            }

            if (length == 0)
            {
                break;
            }

            long part = Math.Min(size - offset, length);
            Add(new IoVec(piece.Address + (nint)offset, (nuint)part));
            length -= part;
            offset = 0;
        }
    }

    /// <summary>Copies bytes from <paramref name="offset"/> on out of the memory.</summary>
    public void CopyTo(long offset, Span<byte> destination)
    {
        CheckRange(offset, destination.Length);
        for (int i = 0; i < _count && !destination.IsEmpty; i++)
        {
            Span<byte> part = Part(i, ref offset, destination.Length);
            part.CopyTo(destination);
            destination = destination[part.Length..];
        }
    }

    /// <summary>Copies bytes into the memory from <paramref name="offset"/> on.</summary>
    public void CopyFrom(long offset, ReadOnlySpan<byte> source)
    {
        CheckRange(offset, source.Length);
        for (int i = 0; i < _count && !source.IsEmpty; i++)
        {
            Span<byte> part = Part(i, ref offset, source.Length);
            source[..part.Length].CopyTo(part);
            source = source[part.Length..];
        }
    }

    /// <summary>Sets bytes from <paramref name="offset"/> on to a value.</summary>
    public void Fill(long offset, long length, byte value)
    {
        CheckRange(offset, length);
        for (int i = 0; i < _count && length > 0; i++)
        {
            Span<byte> part = Part(i, ref offset, length);
            part.Fill(value);
            length -= part.Length;
        }
    }

    /// <summary>True when the bytes from <paramref name="offset"/> on are all zero.</summary>
    public bool IsZero(long offset, long length)
    {
        CheckRange(offset, length);
        for (int i = 0; i < _count && length > 0; i++)
        {
            Span<byte> part = Part(i, ref offset, length);
            if (part.ContainsAnyExcept((byte)0))
            {
                return false;
            }

            length -= part.Length;
        }

        return true;
    }

    /// <summary>True when all addresses and lengths are multiples of the alignment, a power of two.</summary>
    public bool IsAligned(int alignment)
    {
        foreach (ref readonly IoVec piece in Items)
        {
            if (((piece.Address | (nint)piece.Length) & (alignment - 1)) != 0)
            {
                return false;
            }
        }

        return true;
    }

    // The part of piece i from offset on; offset becomes what is left to skip.
    private Span<byte> Part(int i, ref long offset, long length)
    {
        long size = (long)_items[i].Length;
        if (offset >= size)
        {
            offset -= size;
            return default;
        }

        long part = Math.Min(Math.Min(size - offset, length), int.MaxValue);
        Span<byte> span = new IoVec(_items[i].Address + (nint)offset, (nuint)part).Span;
        offset = 0;
        return span;
    }

    private void CheckRange(long offset, long length)
    {
        if (offset < 0 || length < 0 || offset > Size - length)
        {
            throw new ArgumentOutOfRangeException(nameof(offset));
        }
    }
}
