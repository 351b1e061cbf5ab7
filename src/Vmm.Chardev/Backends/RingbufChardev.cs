using System.Numerics;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.Chardevs;

/// <summary>
/// Keeps the last bytes written for ringbuf-read; ringbuf-write adds to the same buffer. Memory is taken as the buffer fills up.
/// </summary>
public class RingbufChardev : BackendChardev
{
    /// <inheritdoc/>
    public override QomTypeInfo Type => ChardevQomTypes.Ringbuf;

    /// <summary>Capacity in bytes when none is given.</summary>
    public const long DefaultSize = 65536;

    private const long MaximumSize = 1L << 30;

    private readonly int _size;
    private byte[] _buffer = [];
    private ulong _produced;
    private ulong _consumed;

    /// <summary>Makes an empty buffer.</summary>
    /// <exception cref="QapiException">The size is not a power of two, or more than 1 GiB.</exception>
    internal RingbufChardev(ChardevHost host, ChardevRingbuf options, string name)
        : base(host)
    {
        long size = options.Size ?? DefaultSize;
        if (size != 0 && !BitOperations.IsPow2((ulong)size))
        {
            throw new QapiException("size of ringbuf chardev must be power of two");
        }

        if ((ulong)size > (ulong)MaximumSize)
        {
            throw new QapiException("size of ringbuf chardev must not exceed 1 GiB");
        }

        _size = (int)size;
        Filename = name;
    }

    /// <summary>Bytes that can be read.</summary>
    public int Count => (int)(_produced - _consumed);

    /// <summary>Capacity in bytes.</summary>
    public int Size => _size;

    /// <summary>Takes out the oldest bytes; returns how many.</summary>
    public int Read(Span<byte> destination)
    {
        int n = Math.Min(Count, destination.Length);
        for (int done = 0; done < n;)
        {
            int at = (int)(_consumed & (ulong)(_size - 1));
            int part = Math.Min(n - done, _size - at);
            _buffer.AsSpan(at, part).CopyTo(destination[done..]);
            done += part;
            _consumed += (ulong)part;
        }

        return n;
    }

    /// <inheritdoc/>
    private protected override int WriteMedium(ReadOnlySpan<byte> data)
    {
        int taken = data.Length;
        if (_size == 0)
        {
            return taken;
        }

        Reserve((long)Math.Min(_produced + (ulong)data.Length, (ulong)_size));
        if (data.Length > _size)
        {
            _produced += (ulong)(data.Length - _size);
            data = data[^_size..];
        }

        while (!data.IsEmpty)
        {
            int at = (int)(_produced & (ulong)(_size - 1));
            int part = Math.Min(data.Length, _size - at);
            data[..part].CopyTo(_buffer.AsSpan(at));
            data = data[part..];
            _produced += (ulong)part;
        }

        if (_produced - _consumed > (ulong)_size)
        {
            _consumed = _produced - (ulong)_size;
        }

        return taken;
    }

    // Before the first wrap-around only the front of the buffer is in use.
    private void Reserve(long used)
    {
        if (_buffer.Length < used)
        {
            long grown = Math.Max(used, Math.Max(4096, _buffer.Length * 2L));
            Array.Resize(ref _buffer, (int)Math.Min(grown, _size));
        }
    }
}

/// <summary>The same under its older name.</summary>
public sealed class MemoryChardev : RingbufChardev
{
    /// <inheritdoc/>
    public override QomTypeInfo Type => ChardevQomTypes.Memory;

    internal MemoryChardev(ChardevHost host, ChardevRingbuf options)
        : base(host, options, "memory")
    {
    }
}
