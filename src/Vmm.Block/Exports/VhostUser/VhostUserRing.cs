using Vmm.EventLoop;
using Vmm.Interop;
using Vmm.ObjectModel.Virtio;

namespace Vmm.Block.Exports.VhostUser;

/// <summary>A queue of a front end, with the events that its two sides send each other. Home: the loop of the connection.</summary>
internal sealed class VhostUserRing : IDisposable
{
    private readonly EventLoop.EventLoop _loop;
    private readonly Action<VhostUserRing> _serve;
    private readonly BottomHalf _again;
    private readonly NativeBuffer _count;
    private SafeFd? _kick;
    private EventFd? _call;
    private FdWatch? _watch;

    internal VhostUserRing(VirtQueue queue, EventLoop.EventLoop loop, NativeBuffer count, Action<VhostUserRing> serve)
    {
        Queue = queue;
        _loop = loop;
        _serve = serve;
        _count = count;
        _again = loop.CreateBottomHalf(() => serve(this));
    }

    internal VirtQueue Queue { get; }

    /// <summary>Index of the available ring to begin at.</summary>
    internal ushort Base { get; set; }

    /// <summary>The front end has said that buffers may be taken.</summary>
    internal bool IsEnabled { get; set; }

    /// <summary>It has been told where to listen for buffers, and not yet been stopped.</summary>
    internal bool IsStarted { get; private set; }

    /// <summary>Places of the three parts, as the front end sees them; null while it has not said.</summary>
    internal (ulong Descriptors, ulong Available, ulong Used)? Addresses { get; set; }

    /// <summary>Buffers are being taken: the other side is told once, afterwards.</summary>
    internal bool IsServing { get; set; }

    internal bool OwesCall { get; set; }

    internal bool CanServe => IsStarted && IsEnabled;

    /// <summary>Begins: the other side signals the event; without one it does not signal.</summary>
    internal void Start(SafeFd? kick)
    {
        DropKick();
        if (!IsStarted)
        {
            IsStarted = true;
            Queue.Start(Base);
        }

        if (kick is not null)
        {
            _kick = kick;
            _watch = _loop.Watch(kick.Fd, FdEvents.Readable, _ => OnKick());
        }
    }

    /// <summary>No buffer is taken from now on.</summary>
    internal void Stop()
    {
        if (IsStarted)
        {
            Base = Queue.LastAvailable;
        }

        IsStarted = false;
        DropKick();
    }

    internal void SetCall(EventFd? call)
    {
        _call?.Dispose();
        _call = call;
    }

    /// <summary>Tells the other side of used buffers.</summary>
    internal void Call()
    {
        if (IsServing)
        {
            OwesCall = true;
        }
        else
        {
            _call?.SignalForeign();
            _loop.ExpectSoon();
        }
    }

    /// <summary>Looks for buffers again when others have had their turn.</summary>
    internal void ServeLater() => _again.Schedule();

    public void Dispose()
    {
        Stop();
        SetCall(null);
        _again.Dispose();
    }

    private void OnKick()
    {
        // Never blocks, whatever the other side has done to its own descriptor.
        Span<IoVec> one = [_count.Vector(0, sizeof(ulong))];
        long n = Libc.PReadV(_kick!.Fd, one, -1, Libc.RWF_NOWAIT);
        if (n == -(int)Errno.EOPNOTSUPP)
        {
            n = Libc.ReadV(_kick.Fd, one);
        }

        if (n > 0)
        {
            _serve(this);
        }
        else if (n != -(int)Errno.EAGAIN)
        {
            DropKick();
        }
    }

    private void DropKick()
    {
        _watch?.Dispose();
        _watch = null;
        _kick?.Dispose();
        _kick = null;
    }
}
