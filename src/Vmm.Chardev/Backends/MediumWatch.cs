using Vmm.EventLoop;

namespace Vmm.Chardevs;

/// <summary>
/// Readiness of one descriptor, told to its back end on the loop. While neither reading nor writing is wanted a hang-up is told at most once.
/// </summary>
internal sealed class MediumWatch : IDisposable
{
    private const FdEvents Gone = FdEvents.HangUp | FdEvents.Error;

    private readonly FdWatch _watch;
    private readonly Action<FdEvents> _callback;
    private bool _disposed;
    private bool _hangupTold;

    /// <summary>Watches nothing yet: call <see cref="Want"/>.</summary>
    internal MediumWatch(EventLoop.EventLoop loop, int fd, Action<FdEvents> callback)
    {
        _callback = callback;
        _watch = loop.Watch(fd, FdEvents.None, OnReady);
    }

    /// <summary>Sets what is wanted; <paramref name="hangup"/> asks to be told of a hang-up even when nothing else is wanted.</summary>
    internal void Want(bool read, bool write, bool hangup)
    {
        if (!_disposed)
        {
            FdEvents interest = (read ? FdEvents.Readable : 0) | (write ? FdEvents.Writable : 0);
            _watch.Interest = interest == FdEvents.None && hangup && !_hangupTold ? Gone : interest;
        }
    }

    public void Dispose()
    {
        if (!_disposed)
        {
            _disposed = true;
            _watch.Dispose();
        }
    }

    private void OnReady(FdEvents ready)
    {
        // The kernel keeps reporting a hang-up; asking for it again would spin.
        _hangupTold |= (ready & Gone) != 0;
        _callback(ready);
        if (!_disposed && _hangupTold && (_watch.Interest & (FdEvents.Readable | FdEvents.Writable)) == 0)
        {
            _watch.Interest = FdEvents.None;
        }
    }
}
