using Vmm.EventLoop;
using Vmm.Interop;
using Vmm.ObjectModel.Chardevs;

namespace Vmm.Chardevs;

/// <summary>A back end over one or two descriptors that are simply read and written: files, pipes, terminals.</summary>
public abstract class StreamChardev : BackendChardev
{
    private readonly WriteWaiters _waiters = new();
    private SafeFd? _in;
    private SafeFd? _out;
    private MediumWatch? _inWatch;
    private MediumWatch? _outWatch;
    private bool _ended;

    private protected StreamChardev(ChardevHost host)
        : base(host)
    {
    }

    /// <inheritdoc/>
    internal sealed override int WriteFd => _out?.Fd ?? -1;

    /// <summary>True while reading makes sense at all.</summary>
    private protected virtual bool CanRead => !_ended;

    /// <inheritdoc/>
    public override void UpdateHandler(CharFrontend frontend) => UpdateInterest();

    /// <inheritdoc/>
    public sealed override void AcceptInput() => UpdateInterest();

    /// <inheritdoc/>
    public override bool WatchWritable(Action writable)
    {
        if (_outWatch is null)
        {
            return false;
        }

        _waiters.Add(writable);
        UpdateInterest();
        return true;
    }

    /// <summary>Takes the descriptors, which may be the same object, already non-blocking where that matters.</summary>
    private protected void SetDescriptors(SafeFd? input, SafeFd? output)
    {
        _in = input;
        _out = output;
        _inWatch = input is null ? null : new MediumWatch(Host.Loop, input.Fd, OnMedium);
        _outWatch = output is null ? null
            : ReferenceEquals(input, output) ? _inWatch : new MediumWatch(Host.Loop, output.Fd, OnOutput);
    }

    /// <summary>Adjusts what is watched to what the front end takes and waits for.</summary>
    private protected void UpdateInterest()
    {
        bool read = CanRead && MayReceive() > 0;
        bool write = _waiters.Any;
        if (ReferenceEquals(_inWatch, _outWatch))
        {
            _inWatch?.Want(read, write, hangup: false);
        }
        else
        {
            _inWatch?.Want(read, write: false, hangup: false);
            _outWatch?.Want(read: false, write, hangup: false);
        }
    }

    /// <summary>Calls whoever waits for writability, whose bytes are now taken or dropped.</summary>
    private protected void WakeWriters() => _waiters.Wake();

    /// <inheritdoc/>
    private protected override int WriteMedium(ReadOnlySpan<byte> data)
    {
        if (_out is null)
        {
            return data.Length;
        }

        int n = _out.Write(data);
        return n == -(int)Errno.EAGAIN ? 0 : n < 0 ? data.Length : n;
    }

    /// <summary>The input is at its end, or failed.</summary>
    private protected virtual void OnEndOfInput()
    {
        _ended = true;
        UpdateInterest();
        SendEvent(ChardevEvent.Closed);
    }

    /// <inheritdoc/>
    private protected override void Close()
    {
        _inWatch?.Dispose();
        _outWatch?.Dispose();
        _in?.Dispose();
        _out?.Dispose();
        _in = null;
        _out = null;
    }

    private void OnOutput(FdEvents events)
    {
        _waiters.Wake();
        if (!IsDisposed)
        {
            UpdateInterest();
        }
    }

    private void OnMedium(FdEvents events)
    {
        if ((events & FdEvents.Writable) != 0)
        {
            _waiters.Wake();
        }

        if ((events & ~FdEvents.Writable) != 0 && !IsDisposed && CanRead && !ReadOnce())
        {
            return;
        }

        if (!IsDisposed)
        {
            UpdateInterest();
        }
    }

    private bool ReadOnce()
    {
        int limit = MayReceive();
        if (limit <= 0)
        {
            return true;
        }

        byte[] buffer = TakeReadBuffer();
        int n = _in!.Read(buffer.AsSpan(0, limit));
        if (n > 0)
        {
            Deliver(buffer.AsSpan(0, n));
        }

        ReturnReadBuffer(buffer);
        if (n > 0)
        {
            return true;
        }

        if (n == -(int)Errno.EAGAIN)
        {
            return true;
        }

        OnEndOfInput();
        return false;
    }
}
