using Vmm.Block.Nbd;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;

namespace Vmm.Block.Exports;

/// <summary>A request under way and its reply; reused. The loop of its connection.</summary>
internal sealed class NbdRequest
{
    /// <summary>Memory of a request for the heads of its reply's chunks.</summary>
    internal const int HeaderBytes = 2048;

    private readonly Action _fetch;
    private IoTask<bool>.Awaiter _awaiter;

    internal NbdRequest(int slot)
    {
        Slot = slot;
        _fetch = () => _awaiter.GetResult();
    }

    /// <summary>Which of the connection's requests.</summary>
    internal int Slot { get; }

    /// <summary>What the client wants.</summary>
    internal NbdRequestHeader Header { get; set; }

    /// <summary>Why it is refused; null when it is carried out.</summary>
    internal string? Refusal { get; set; }

    /// <summary>Payload memory; null when there is none.</summary>
    internal NativeBuffer? Data { get; set; }

    /// <summary>The payload.</summary>
    internal IoVectors Payload { get; } = new();

    /// <summary>The reply.</summary>
    internal IoVectors Reply { get; } = new();

    /// <summary>Bytes of the headers that are in use.</summary>
    internal int HeaderUsed { get; set; }

    /// <summary>Lets the request go on by itself, without an allocation.</summary>
    internal void Observe(IoTask<bool> task)
    {
        _awaiter = task.GetAwaiter();
        if (_awaiter.IsCompleted)
        {
            _awaiter.GetResult();
        }
        else
        {
            _awaiter.UnsafeOnCompleted(_fetch);
        }
    }
}
