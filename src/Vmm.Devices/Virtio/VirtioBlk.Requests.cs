using Vmm.EventLoop.Tasks;
using Vmm.ObjectModel.Block;
using Vmm.ObjectModel.Virtio;

namespace Vmm.Devices.Virtio;

/// <content>Requests (virtio 1.2, 5.2.6).</content>
public sealed partial class VirtioBlk
{
    private readonly Stack<VirtioBlkRequest> _free = new();
    private readonly Queue<VirtioBlkRequest> _stopped = new();

    private VirtioBlkTraits Traits => new()
    {
        Length = Backend.Length,
        BlockSize = (uint)LogicalBlockSize,
        MaxDiscard = OffersDiscard ? MaxDiscard : null,
        MaxZeroes = OffersWriteZeroes ? MaxZeroes : null,
        IsWritable = true,
        Serial = Serial,
    };

    /// <inheritdoc/>
    protected override bool ServeOne(VirtQueue queue)
    {
        VirtioBlkRequest request = _free.TryPop(out VirtioBlkRequest? free) ? free : new VirtioBlkRequest();
        if (!queue.TryPop(request.Element) || !Parse(request))
        {
            _free.Push(request);
            return false;
        }

        request.Queue = queue;
        request.Epoch = Epoch;
        BeginRequest();
        RunAsync(request).Forget();
        return true;
    }

    /// <inheritdoc/>
    protected override IDisposable? SuspendLimits() => _backend?.SuspendLimits();

    /// <inheritdoc/>
    protected override void OnResume()
    {
        for (int count = _stopped.Count; count > 0; count--)
        {
            BeginRequest();
            RunAsync(_stopped.Dequeue()).Forget();
        }
    }

    // False when the request breaks the device.
    private bool Parse(VirtioBlkRequest request)
    {
        if (request.Parse(Traits) is { } wrong)
        {
            Break(wrong);
            return false;
        }

        if (request.IsOutOfRange)
        {
            Backend.CountInvalid(request.IsRead);
        }

        return true;
    }

    private async IoTask RunAsync(VirtioBlkRequest request)
    {
        int result = await request.RunAsync(Backend);
        BlockErrorAction action = result < 0 ? Backend.HandleError(request.IsRead, result) : BlockErrorAction.Ignore;
        lock (Gate)
        {
            if (action == BlockErrorAction.Stop && request.Epoch == Epoch)
            {
                _stopped.Enqueue(request);
            }
            else
            {
                if (action == BlockErrorAction.Report)
                {
                    request.Fail();
                }

                Finish(request);
            }
        }

        EndRequest();
    }

    private void Finish(VirtioBlkRequest request)
    {
        if (request.Epoch == Epoch)
        {
            request.Complete();
        }

        request.Queue = null;
        _free.Push(request);
    }
}
