using Vmm.EventLoop;
using Vmm.Interop;
using Vmm.ObjectModel.Chardevs;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.Chardevs;

/// <summary>
/// The master side of a new pseudo terminal. It is connected while somebody has the slave open; as the kernel does not tell when that
/// begins, a timer looks every second, and so does each write.
/// </summary>
public sealed class PtyChardev : StreamChardev
{
    /// <inheritdoc/>
    public override QomTypeInfo Type => ChardevQomTypes.Pty;

    private const long PollIntervalNs = 1_000_000_000;

    private readonly SafeFd _master;
    private readonly LoopTimer _timer;
    private readonly BottomHalf _announceOpen;
    private bool _connected;

    /// <summary>Makes the terminal, raw, with nobody at it.</summary>
    /// <exception cref="QapiException">Failed to create PTY: reason.</exception>
    internal PtyChardev(ChardevHost host)
        : base(host)
    {
        Errno errno = Libc.OpenPty(out _master, out string slavePath);
        if (errno != Errno.OK)
        {
            throw new QapiException("Failed to create PTY: " + errno.Message());
        }

        // Opening and closing the slave once sets its mode and makes the master report that nobody is there.
        if (Libc.Open(slavePath, Libc.O_RDWR | Libc.O_NOCTTY, out SafeFd slave) == Errno.OK)
        {
            using (slave)
            {
                if (Libc.TcGetAttr(slave.Fd, out Termios mode) == Errno.OK)
                {
                    Libc.TcSetAttr(slave.Fd, Libc.TCSAFLUSH, Libc.MakeRaw(mode));
                }
            }
        }

        _master.SetNonBlocking(true);
        SetDescriptors(_master, _master);
        _timer = host.Loop.CreateTimer(ClockType.Realtime, OnTimer);
        _announceOpen = host.Loop.CreateBottomHalf(OnAnnounceOpen);
        _timer.ArmAfter(PollIntervalNs);
        SlavePath = slavePath;
        Filename = "pty:" + slavePath;
    }

    /// <summary>Path of the side to connect to.</summary>
    public string SlavePath { get; }

    /// <inheritdoc/>
    private protected override bool CanRead => IsOpen;

    /// <inheritdoc/>
    public override void UpdateHandler(CharFrontend frontend)
    {
        CheckConnection();
        base.UpdateHandler(frontend);
    }

    /// <summary>Looks at once whether somebody has the slave open.</summary>
    internal void CheckConnection()
    {
        int events = Libc.Poll(_master.Fd, 0, 0);
        bool connected = events >= 0 && (events & Libc.POLLHUP) == 0;
        if (connected && !_connected)
        {
            // Told from the loop, as this may be the middle of a write of the front end.
            _connected = true;
            _timer.Cancel();
            _announceOpen.Schedule();
        }
        else if (!connected && (_connected || !_timer.IsArmed))
        {
            OnEndOfInput();
        }
    }

    /// <inheritdoc/>
    private protected override int WriteMedium(ReadOnlySpan<byte> data)
    {
        if (!_connected)
        {
            CheckConnection();
        }

        return _connected ? base.WriteMedium(data) : data.Length;
    }

    /// <inheritdoc/>
    private protected override void OnEndOfInput()
    {
        _connected = false;
        if (!_timer.IsArmed)
        {
            _timer.ArmAfter(PollIntervalNs);
        }

        if (IsOpen)
        {
            SendEvent(ChardevEvent.Closed);
            UpdateInterest();
            WakeWriters();
        }
    }

    /// <inheritdoc/>
    private protected override void Close()
    {
        _announceOpen.Dispose();
        _timer.Dispose();
        base.Close();
    }

    private void OnTimer()
    {
        CheckConnection();
        if (!_connected && !_timer.IsArmed)
        {
            _timer.ArmAfter(PollIntervalNs);
        }
    }

    private void OnAnnounceOpen()
    {
        if (_connected && !IsOpen)
        {
            SendEvent(ChardevEvent.Opened);
            UpdateInterest();
        }
    }
}
