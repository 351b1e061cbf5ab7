using System.Buffers.Binary;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Virtio;

namespace Vmm.Block.Exports.VhostUser;

/// <content>Rings and the requests in them.</content>
internal sealed partial class VhostUserConnection
{
    private const int MaxPerTurn = 256;

    private readonly Stack<VirtioBlkRequest> _free = new();
    private readonly LoopWaitQueue _drained = new();
    private int _inFlight;
    private int _draining;

    /// <summary>Takes no more buffers and waits until those that were taken are given back.</summary>
    private async IoTask DrainAsync()
    {
        _draining++;
        while (_inFlight > 0)
        {
            await _drained.WaitAsync();
        }

        _draining--;
        foreach (VhostUserRing ring in _rings)
        {
            if (!IsBroken && ring.CanServe)
            {
                ring.ServeLater();
            }
        }
    }

    private bool TryRing(ReadOnlySpan<byte> payload, out VhostUserRing ring, out uint value)
    {
        ring = _rings[0];
        value = 0;
        if (payload.Length < 8)
        {
            return false;
        }

        uint index = BinaryPrimitives.ReadUInt32LittleEndian(payload);
        value = BinaryPrimitives.ReadUInt32LittleEndian(payload[4..]);
        if (index >= (uint)_rings.Length)
        {
            return false;
        }

        ring = _rings[index];
        return true;
    }

    private bool TryEvent(ReadOnlySpan<byte> payload, out VhostUserRing ring, out EventFd? fd)
    {
        ring = _rings[0];
        fd = null;
        if (!TryReadU64(payload, out ulong value) || (value & VringIndexMask) >= (ulong)_rings.Length)
        {
            return false;
        }

        ring = _rings[(int)(value & VringIndexMask)];
        if ((value & VringNoFd) != 0)
        {
            return true;
        }

        if (_socket.FdCount != 1)
        {
            return false;
        }

        // Reading or writing anything but an event may block, or be seen by somebody whom it does not concern.
        using SafeFd received = _socket.TakeFd(0);
        if (Libc.ReadLink($"/proc/self/fd/{received.Fd}") != "anon_inode:[eventfd]" || received.SetNonBlocking(true) != Errno.OK)
        {
            return false;
        }

        fd = EventFd.FromFd(received.Detach());
        return true;
    }

    private static bool SetSize(VhostUserRing ring, uint size)
    {
        if (ring.IsStarted || size is 0 or > VirtQueue.MaxSize)
        {
            return false;
        }

        ring.Queue.SetSize(size);
        return true;
    }

    private static bool SetBase(VhostUserRing ring, uint index)
    {
        if (ring.IsStarted || index > ushort.MaxValue)
        {
            return false;
        }

        ring.Base = (ushort)index;
        return true;
    }

    private bool SetAddresses(ReadOnlySpan<byte> payload)
    {
        const int Bytes = 40;
        if (payload.Length < Bytes || !TryRing(payload, out VhostUserRing ring, out _))
        {
            return false;
        }

        ring.Addresses = (
            BinaryPrimitives.ReadUInt64LittleEndian(payload[8..]),
            BinaryPrimitives.ReadUInt64LittleEndian(payload[24..]),
            BinaryPrimitives.ReadUInt64LittleEndian(payload[16..]));
        return Place(ring);
    }

    private bool PlaceRings()
    {
        foreach (VhostUserRing ring in _rings)
        {
            // A ring outside of the memory is of no use; it may be placed anew before it is started.
            if (ring.Addresses is not null && !Place(ring) && ring.IsStarted)
            {
                return false;
            }
        }

        return true;
    }

    private bool Place(VhostUserRing ring)
    {
        (ulong descriptors, ulong available, ulong used) = ring.Addresses!.Value;
        if (!_memory.TryTranslate(descriptors, out ulong d) || !_memory.TryTranslate(available, out ulong a) || !_memory.TryTranslate(used, out ulong u))
        {
            ring.Queue.SetAddresses(0, 0, 0);
            return false;
        }

        ring.Queue.SetAddresses(d, a, u);
        return true;
    }

    private bool Start(VhostUserRing ring, EventFd? kick)
    {
        ring.Start(kick);
        ring.ServeLater();
        return true;
    }

    private bool Enable(VhostUserRing ring, bool isEnabled)
    {
        ring.IsEnabled = isEnabled;
        ring.ServeLater();
        return true;
    }

    private static bool SetCall(VhostUserRing ring, EventFd? call)
    {
        ring.SetCall(call);
        return true;
    }

    private void Serve(VhostUserRing ring)
    {
        if (ring.IsServing)
        {
            return;
        }

        ring.IsServing = true;
        int budget = MaxPerTurn;
        bool isMore;
        do
        {
            ring.Queue.SetNotification(false);
            while (budget > 0 && CanServe(ring) && ServeOne(ring.Queue))
            {
                budget--;
            }

            ring.Queue.SetNotification(true);
            isMore = CanServe(ring) && !ring.Queue.IsEmpty;
        }
        while (isMore && budget > 0);

        ring.IsServing = false;
        if (ring.OwesCall)
        {
            ring.OwesCall = false;
            ring.Call();
        }

        if (isMore)
        {
            ring.ServeLater();
        }
    }

    private bool CanServe(VhostUserRing ring)
    {
        CheckMemory();
        return !IsBroken && _draining == 0 && ring.CanServe;
    }

    private void CheckMemory()
    {
        if (_memory.IsTorn)
        {
            Break("the memory has become shorter");
        }
    }

    private bool ServeOne(VirtQueue queue)
    {
        VirtioBlkRequest request = _free.TryPop(out VirtioBlkRequest? free) ? free : new VirtioBlkRequest();
        if (!queue.TryPop(request.Element))
        {
            _free.Push(request);
            return false;
        }

        if (request.Parse(_export.Traits) is { } wrong)
        {
            _free.Push(request);
            Break(wrong);
            return false;
        }

        request.Queue = queue;
        _inFlight++;
        RunAsync(request).Forget();
        return true;
    }

    private async IoTask RunAsync(VirtioBlkRequest request)
    {
        if (await request.RunAsync(_export.Backend) < 0)
        {
            request.Fail();
        }

        request.Complete();
        CheckMemory();
        request.Queue = null;
        _free.Push(request);
        if (--_inFlight == 0)
        {
            _drained.WakeAll();
        }
    }
}
