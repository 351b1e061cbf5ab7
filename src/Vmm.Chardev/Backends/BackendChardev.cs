using Vmm.Interop;
using Vmm.ObjectModel.Chardevs;

namespace Vmm.Chardevs;

/// <summary>
/// What all back ends of this project share: their host, the optional log of everything written, and <see cref="WriteAll"/>. Home: the
/// main loop.
/// </summary>
public abstract class BackendChardev : Chardev, IDisposable
{
    /// <summary>How long <see cref="WriteAll"/> waits for a medium that makes no progress at all, in milliseconds.</summary>
    public const int StallLimitMs = 1000;

    private const int ReadBufferSize = 16 * 1024;

    [ThreadStatic]
    private static byte[]? s_readBuffer;

    private SafeFd? _log;
    private bool _stalled;
    private bool _disposed;

    private protected BackendChardev(ChardevHost host)
    {
        Host = host;
    }

    /// <summary>Loop, clocks and messages of the process.</summary>
    private protected ChardevHost Host { get; }

    /// <summary>True once the back end was removed.</summary>
    private protected bool IsDisposed => _disposed;

    /// <summary>Descriptor to wait on for writability; -1 when the medium never blocks or is not connected.</summary>
    internal virtual int WriteFd => -1;

    /// <inheritdoc/>
    public sealed override int Write(ReadOnlySpan<byte> data)
    {
        if (data.IsEmpty)
        {
            return 0;
        }

        int taken = WriteMedium(data);
        if (_log is not null && taken > 0)
        {
            WriteLog(data[..taken]);
        }

        return taken;
    }

    /// <inheritdoc/>
    /// <remarks>
    /// A reader that is slow makes this wait; one that takes nothing for <see cref="StallLimitMs"/> is given up, and until it takes bytes
    /// again what does not fit is dropped without waiting, so that a stuck client cannot hold up the machine.
    /// </remarks>
    public sealed override void WriteAll(ReadOnlySpan<byte> data)
    {
        while (!data.IsEmpty)
        {
            int taken = Write(data);
            if (taken > 0)
            {
                _stalled = false;
                data = data[taken..];
                continue;
            }

            int fd = WriteFd;
            if (fd < 0 || _stalled)
            {
                return;
            }

            int events = Libc.Poll(fd, Libc.POLLOUT, StallLimitMs);
            if (events == 0)
            {
                _stalled = true;
                return;
            }
        }
    }

    /// <summary>Takes the log file that <c>logfile=</c> named.</summary>
    internal void AttachLog(SafeFd log) => _log = log;

    /// <summary>Releases the medium and the log. The front end must have let go.</summary>
    public void Dispose()
    {
        if (!_disposed)
        {
            _disposed = true;
            Close();
            _log?.Dispose();
            _log = null;
            GC.SuppressFinalize(this);
        }
    }

    /// <inheritdoc/>
    protected override void OnUnparent() => Dispose();

    /// <summary>Writes to the medium without blocking; bytes taken. What a disconnected medium would lose counts as taken.</summary>
    private protected abstract int WriteMedium(ReadOnlySpan<byte> data);

    /// <summary>Releases the medium.</summary>
    private protected virtual void Close()
    {
    }

    /// <summary>How many bytes the front end takes now, at most as many as a read buffer holds; 0 without front end.</summary>
    private protected int MayReceive() => Math.Min(Frontend?.Handler?.CanReceive() ?? 0, ReadBufferSize);

    /// <summary>Hands bytes to the front end.</summary>
    private protected void Deliver(ReadOnlySpan<byte> data) => Frontend?.Handler?.Receive(data);

    /// <summary>A buffer for one read, shared by the back ends of a thread; hand it back with <see cref="ReturnReadBuffer"/>.</summary>
    private protected static byte[] TakeReadBuffer()
    {
        // A front end may turn the loop while it handles what was read, so that another read begins before this one is done with.
        byte[] buffer = s_readBuffer ?? new byte[ReadBufferSize];
        s_readBuffer = null;
        return buffer;
    }

    /// <summary>Hands back what <see cref="TakeReadBuffer"/> gave.</summary>
    private protected static void ReturnReadBuffer(byte[] buffer) => s_readBuffer = buffer;

    private void WriteLog(ReadOnlySpan<byte> data)
    {
        // A full disk or a closed pipe must not stop the guest: the log then has a gap.
        while (!data.IsEmpty)
        {
            int n = Libc.Write(_log!.Fd, data);
            if (n <= 0)
            {
                return;
            }

            data = data[n..];
        }
    }
}
