using Vmm.EventLoop.Tasks;

namespace Vmm.Block.Jobs;

/// <summary>Keeps copies of overlapping ranges apart. Home: the loop of the node that is copied.</summary>
internal sealed class RangeLock
{
    private readonly List<(long Start, long End)> _held = [];
    private readonly LoopWaitQueue _waiting = new();

    /// <summary>Waits until nobody has a part of the range, and takes it.</summary>
    internal async IoTask EnterAsync(long start, long end)
    {
        while (IsHeld(start, end))
        {
            await _waiting.WaitAsync();
        }

        _held.Add((start, end));
    }

    /// <summary>Takes a range, whoever else has it.</summary>
    internal void Hold(long start, long end) => _held.Add((start, end));

    /// <summary>Waits until nobody has a part of the range.</summary>
    internal async IoTask WaitAsync(long start, long end)
    {
        while (IsHeld(start, end))
        {
            await _waiting.WaitAsync();
        }
    }

    /// <summary>Gives a range back.</summary>
    internal void Exit(long start, long end)
    {
        _held.Remove((start, end));
        _waiting.WakeAll();
    }

    /// <summary>True when somebody has a part of the range.</summary>
    internal bool IsHeld(long start, long end)
    {
        foreach ((long from, long to) in _held)
        {
            if (start < to && from < end)
            {
                return true;
            }
        }

        return false;
    }
}
