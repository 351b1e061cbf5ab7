using Vmm.EventLoop.Tasks;

namespace Vmm.Block.Graph;

/// <content>Drained sections: no request runs and none begins.</content>
public sealed partial class BlockNode
{
    private int _inFlight;
    private int _quiesced;

    /// <summary>True within a drained section.</summary>
    public bool IsQuiesced => _quiesced > 0;

    /// <summary>Requests under way. Any thread.</summary>
    public int InFlight => Volatile.Read(ref _inFlight);

    /// <inheritdoc/>
    public bool IsBusy
    {
        get
        {
            if (InFlight > 0)
            {
                return true;
            }

            foreach (BlockEdge edge in _parents)
            {
                if (edge.Parent.IsBusy)
                {
                    return true;
                }
            }

            return false;
        }
    }

    /// <summary>
    /// Holds back new requests of all parents, directly and through other nodes, and waits until none is under way. Calls nest. Main loop;
    /// <see cref="DrainEnd"/> lets them go on.
    /// </summary>
    public async IoTask DrainAsync()
    {
        DrainBegin();
        await WaitIdleAsync();
    }

    /// <inheritdoc/>
    public void DrainBegin()
    {
        Graph.MainLoop.AssertOnHomeLoop();
        if (_quiesced++ > 0)
        {
            return;
        }

        foreach (BlockEdge edge in _parents)
        {
            edge.Parent.DrainBegin();
        }

        Driver.DrainBegin();
    }

    /// <inheritdoc/>
    public void DrainEnd()
    {
        Graph.MainLoop.AssertOnHomeLoop();
        if (_quiesced == 0)
        {
            throw new InvalidOperationException($"node {Name} is not drained");
        }

        if (--_quiesced > 0)
        {
            return;
        }

        Driver.DrainEnd();
        foreach (BlockEdge edge in _parents)
        {
            edge.Parent.DrainEnd();
        }
    }

    /// <summary>Waits on the main loop until the node and its parents are idle.</summary>
    internal async IoTask WaitIdleAsync()
    {
        while (IsBusy)
        {
            await Graph.WaitProgressAsync();
        }
    }

    internal void BeginRequest() => Interlocked.Increment(ref _inFlight);

    internal void EndRequest()
    {
        if (Interlocked.Decrement(ref _inFlight) == 0)
        {
            Graph.NotifyProgress();
        }
    }
}
