using Vmm.EventLoop.Tasks;

namespace Vmm.Block.Graph;

/// <summary>Kinds of requests that a node knows of.</summary>
internal enum TrackedKind
{
    Read,
    Write,
    Discard,
    Truncate,
}

/// <summary>A request under way on a node; those that overlap a serialising one wait for each other. Reused. Home: the node's loop.</summary>
internal sealed class TrackedRequest
{
    private readonly LoopWaitQueue _waiters = new();

    internal TrackedKind Kind;
    internal long Offset;
    internal long Bytes;
    internal bool IsSerialising;

    // What overlaps is widened to whole blocks of the node's alignment for requests that read, modify and write.
    internal long OverlapOffset;
    internal long OverlapEnd;
    internal TrackedRequest? WaitsFor;
    internal TrackedRequest? Previous;
    internal TrackedRequest? Next;

    internal LoopWaitQueue Waiters => _waiters;

    internal bool Overlaps(TrackedRequest other) => OverlapOffset < other.OverlapEnd && other.OverlapOffset < OverlapEnd;
}

/// <summary>The requests under way on one node.</summary>
internal sealed class TrackedRequests
{
    private readonly Stack<TrackedRequest> _free = new();
    private TrackedRequest? _first;
    private int _serialising;

    /// <summary>Enters a request.</summary>
    internal TrackedRequest Begin(TrackedKind kind, long offset, long bytes)
    {
        TrackedRequest request = _free.TryPop(out TrackedRequest? free) ? free : new TrackedRequest();
        request.Kind = kind;
        request.Offset = offset;
        request.Bytes = bytes;
        request.OverlapOffset = offset;
        request.OverlapEnd = bytes > long.MaxValue - offset ? long.MaxValue : offset + bytes;
        request.IsSerialising = false;
        request.WaitsFor = null;
        request.Previous = null;
        request.Next = _first;
        if (_first is not null)
        {
            _first.Previous = request;
        }

        _first = request;
        return request;
    }

    /// <summary>Takes a request out and lets those go on that waited for it.</summary>
    internal void End(TrackedRequest request)
    {
        if (request.Previous is not null)
        {
            request.Previous.Next = request.Next;
        }
        else
        {
            _first = request.Next;
        }

        if (request.Next is not null)
        {
            request.Next.Previous = request.Previous;
        }

        if (request.IsSerialising)
        {
            _serialising--;
        }

        request.Waiters.WakeAll();
        _free.Push(request);
    }

    /// <summary>From now on, overlapping requests wait for this one; its range is widened to the alignment.</summary>
    internal void MakeSerialising(TrackedRequest request, int alignment)
    {
        if (!request.IsSerialising)
        {
            request.IsSerialising = true;
            _serialising++;
        }

        long mask = alignment - 1;
        request.OverlapOffset = Math.Min(request.OverlapOffset, request.Offset & ~mask);
        long end = request.OverlapEnd > long.MaxValue - mask ? long.MaxValue : (request.OverlapEnd + mask) & ~mask;
        request.OverlapEnd = Math.Max(request.OverlapEnd, end);
    }

    /// <summary>True when somebody is in the way of the request.</summary>
    internal bool HasConflict(TrackedRequest request) => FindConflict(request) is not null;

    /// <summary>Waits until nobody is in the way of the request.</summary>
    internal IoTask<bool> WaitAsync(TrackedRequest request) => _serialising == 0 ? new IoTask<bool>(false) : WaitSlowAsync(request);

    private async IoTask<bool> WaitSlowAsync(TrackedRequest request)
    {
        bool waited = false;
        while (FindConflict(request) is { } conflict)
        {
            request.WaitsFor = conflict;
            await conflict.Waiters.WaitAsync();
            request.WaitsFor = null;
            waited = true;
        }

        return waited;
    }

    private TrackedRequest? FindConflict(TrackedRequest request)
    {
        if (_serialising == 0)
        {
            return null;
        }

        for (TrackedRequest? other = _first; other is not null; other = other.Next)
        {
            if (other == request || !(other.IsSerialising || request.IsSerialising) || !other.Overlaps(request))
            {
                continue;
            }

            // One that waits, perhaps for us, does not touch the range before it has looked again.
            if (other.WaitsFor is null)
            {
                return other;
            }
        }

        return null;
    }
}
