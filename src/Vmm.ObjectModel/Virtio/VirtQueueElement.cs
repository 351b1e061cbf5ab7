using Vmm.Interop;
using Vmm.Memory;
using Vmm.ObjectModel.Block;

namespace Vmm.ObjectModel.Virtio;

/// <summary>
/// A buffer that a driver has made available: memory that the device reads, then memory that it writes, both where they lie in the guest.
/// Objects are reused. Home: the loop of the queue.
/// </summary>
public sealed class VirtQueueElement
{
    private (ulong Address, uint Length)[] _segments = new (ulong, uint)[4];
    private int _count;
    private int _outSegments;

    /// <summary>Memory that the device reads.</summary>
    public IoVectors Out { get; } = new();

    /// <summary>Memory that the device writes.</summary>
    public IoVectors In { get; } = new();

    /// <summary>The driver's name for the buffer.</summary>
    public ushort Id { get; set; }

    /// <summary>Ring entries that the buffer takes in a packed ring; 1 in a split ring.</summary>
    public int RingEntries { get; set; }

    /// <summary>Descriptors of <see cref="Out"/>.</summary>
    internal int OutCount { get; set; }

    /// <summary>Descriptors of <see cref="In"/>.</summary>
    internal int InCount { get; set; }

    /// <summary>Guest addresses of <see cref="Out"/>.</summary>
    public ReadOnlySpan<(ulong Address, uint Length)> OutSegments => _segments.AsSpan(0, _outSegments);

    /// <summary>Guest addresses of <see cref="In"/>.</summary>
    public ReadOnlySpan<(ulong Address, uint Length)> InSegments => _segments.AsSpan(_outSegments, _count - _outSegments);

    /// <summary>What keeps the memory mapped while the element is in use.</summary>
    internal object? View { get; set; }

    internal int Pieces { get; set; }

    /// <summary>Takes all memory out.</summary>
    public void Clear()
    {
        Out.Clear();
        In.Clear();
        View = null;
        _count = 0;
        _outSegments = 0;
        Pieces = 0;
        OutCount = 0;
        InCount = 0;
    }

    internal void Add(IoVec piece, ulong address, bool isWrite)
    {
        (isWrite ? In : Out).Add(piece);
        if (_count == _segments.Length)
        {
            Array.Resize(ref _segments, 2 * _count);
        }

        _segments[_count++] = (address, (uint)piece.Length);
        _outSegments += isWrite ? 0 : 1;
    }

    /// <summary>Logs that the device wrote <see cref="In"/>.</summary>
    internal void MarkDirty(IDmaMemory memory)
    {
        foreach ((ulong address, uint length) in InSegments)
        {
            memory.MarkDirty(address, length);
        }
    }
}
