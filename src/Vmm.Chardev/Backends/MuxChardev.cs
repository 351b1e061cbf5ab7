using System.Text;
using Vmm.EventLoop;
using Vmm.Interop;
using Vmm.ObjectModel.Chardevs;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.Chardevs;

/// <summary>
/// Lets up to four front ends share one back end: all write to it, the one with the focus gets the input. C-a in the input is a command:
/// h help, x quit, s commit disks, t time stamps, b break, c next front end, C-a a literal C-a.
/// </summary>
public sealed class MuxChardev : BackendChardev, ICharHandler
{
    /// <inheritdoc/>
    public override QomTypeInfo Type => ChardevQomTypes.Mux;

    /// <summary>Number of front ends that fit.</summary>
    public const int MaxFrontends = 4;

    private const byte DefaultEscape = 0x01;
    private const int SlotBufferSize = 32;

    private readonly CharFrontend _base = new();
    private readonly Slot?[] _slots = new Slot?[MaxFrontends];
    private int _focus = -1;
    private bool _ready;
    private bool _gotEscape;
    private bool _timestamps;
    private long _timestampStartNs = -1;
    private bool _lineStart = true;

    /// <summary>Takes hold of the base back end.</summary>
    /// <param name="host">The process.</param>
    /// <param name="baseBackend">The back end to share.</param>
    /// <param name="ready">False while the machine is being built: front ends then hear of the connection at <see cref="MachineReady"/>.</param>
    /// <exception cref="QapiException">Device 'X' is in use.</exception>
    internal MuxChardev(ChardevHost host, Chardev baseBackend, bool ready)
        : base(host)
    {
        _ready = ready;
        _base.Connect(baseBackend);
        _base.SetHandler(this);
        IsOpen = ready && baseBackend.IsOpen;
        Filename = "mux";
    }

    /// <summary>The key that begins a command; from <c>-echr</c>.</summary>
    public byte Escape { get; set; } = DefaultEscape;

    /// <inheritdoc/>
    /// <remarks>A multiplexer cannot be removed, even without front ends.</remarks>
    public override bool IsBusy => true;

    /// <inheritdoc/>
    public override bool FrontendOpen => _focus >= 0 && _slots[_focus]!.Frontend.FrontendOpen;

    /// <inheritdoc/>
    internal override int WriteFd => (_base.Backend as BackendChardev)?.WriteFd ?? -1;

    /// <inheritdoc/>
    public override int AttachFrontend(CharFrontend frontend)
    {
        for (int i = 0; i < MaxFrontends; i++)
        {
            if (_slots[i] is null)
            {
                _slots[i] = new Slot(frontend);
                return i;
            }
        }

        throw new QapiException($"too many uses of multiplexed chardev '{Label}' (maximum is {MaxFrontends})");
    }

    /// <inheritdoc/>
    public override void DetachFrontend(CharFrontend frontend)
    {
        int tag = frontend.Tag;
        if ((uint)tag < MaxFrontends && ReferenceEquals(_slots[tag]?.Frontend, frontend))
        {
            _slots[tag] = null;
            if (_focus == tag)
            {
                _focus = -1;
            }
        }
    }

    /// <inheritdoc/>
    public override void UpdateHandler(CharFrontend frontend) => _base.AcceptInput();

    /// <inheritdoc/>
    public override void TakeFocus(CharFrontend frontend) => SetFocus(frontend.Tag);

    /// <inheritdoc/>
    public override void SetEcho(bool echo) => _base.SetEcho(echo);

    /// <inheritdoc/>
    public override void AcceptInput()
    {
        if (_focus >= 0)
        {
            _slots[_focus]!.Flush();
        }

        _base.AcceptInput();
    }

    /// <inheritdoc/>
    public override bool WatchWritable(Action writable) => _base.WatchWritable(writable);

    /// <inheritdoc/>
    public override SafeFd? TakeReceivedFd() => _base.TakeReceivedFd();

    /// <summary>The machine is complete: front ends now hear that the base is connected.</summary>
    internal void MachineReady()
    {
        if (!_ready)
        {
            _ready = true;
            if (_base.Backend is { IsOpen: true })
            {
                SendToAll(ChardevEvent.Opened);
            }
        }
    }

    int ICharHandler.CanReceive()
    {
        if (_focus < 0)
        {
            // Nobody is there to listen: the input is read for the sake of the commands in it.
            return 1;
        }

        // A command in the middle of the bytes may move the focus, so every slot must have room for what follows.
        int room = SlotBufferSize;
        foreach (Slot? slot in _slots)
        {
            room = Math.Min(room, slot?.Room ?? SlotBufferSize);
        }

        return room > 0 ? room : Math.Min(1, Math.Max(_slots[_focus]!.Room, _slots[_focus]!.DirectRoom));
    }

    void ICharHandler.Receive(ReadOnlySpan<byte> data)
    {
        int start = 0;
        for (int i = 0; i < data.Length; i++)
        {
            byte b = data[i];
            if (_gotEscape)
            {
                _gotEscape = false;
                start = i + 1;
                if (b == Escape)
                {
                    Pass(data.Slice(i, 1));
                }
                else
                {
                    RunCommand(b);
                }
            }
            else if (b == Escape)
            {
                Pass(data[start..i]);
                _gotEscape = true;
                start = i + 1;
            }
        }

        Pass(data[start..]);
    }

    void ICharHandler.OnEvent(ChardevEvent ev)
    {
        if (_ready)
        {
            SendToAll(ev);
        }
    }

    /// <inheritdoc/>
    private protected override int WriteMedium(ReadOnlySpan<byte> data) => _timestamps ? WriteStamped(data) : _base.Write(data);

    /// <inheritdoc/>
    protected override void SendEvent(ChardevEvent ev)
    {
        if (_focus >= 0)
        {
            _slots[_focus]!.Frontend.Handler?.OnEvent(ev);
        }
    }

    /// <inheritdoc/>
    private protected override void Close() => _base.Disconnect();

    private void SendToAll(ChardevEvent ev)
    {
        if (ev is ChardevEvent.Opened or ChardevEvent.Closed)
        {
            IsOpen = ev == ChardevEvent.Opened;
        }

        foreach (Slot? slot in _slots)
        {
            slot?.Frontend.Handler?.OnEvent(ev);
        }
    }

    private void SetFocus(int tag)
    {
        if (_focus >= 0)
        {
            SendEvent(ChardevEvent.MuxOut);
        }

        _focus = tag;
        SendEvent(ChardevEvent.MuxIn);
        AcceptInput();
    }

    private void Pass(ReadOnlySpan<byte> data)
    {
        if (!data.IsEmpty && _focus >= 0)
        {
            _slots[_focus]!.Take(data);
        }
    }

    private void RunCommand(byte key)
    {
        switch ((char)key)
        {
            case 'h' or '?':
                PrintHelp();
                break;
            case 'x':
                WriteAll("QEMU: Terminated\n\r"u8);
                Host.Quit();
                break;
            case 's':
                Host.CommitDisks?.Invoke();
                break;
            case 'b':
                SendEvent(ChardevEvent.Break);
                break;
            case 'c':
                FocusNext();
                break;
            case 't':
                _timestamps = !_timestamps;
                _timestampStartNs = -1;
                _lineStart = true;
                break;
        }
    }

    private void FocusNext()
    {
        for (int i = 1; i <= MaxFrontends; i++)
        {
            int next = (Math.Max(_focus, 0) + i) % MaxFrontends;
            if (_slots[next]?.Frontend.Handler is not null)
            {
                SetFocus(next);
                return;
            }
        }
    }

    private void PrintHelp()
    {
        string key = Escape is > 0 and < 27 ? $"C-{(char)(Escape - 1 + 'a')}" : $"Escape-Char(0x{Escape:x2})";
        string text = $"""

            {key} h    print this help
            {key} x    exit emulator
            {(Host.CommitDisks is null ? "" : $"{key} s    save disk data back to file (if -snapshot)\n")}{key} t    toggle console timestamps
            {key} b    send break (magic sysrq)
            {key} c    switch between console and monitor
            {key} {key}  sends {key}

            """;
        WriteAll(Encoding.ASCII.GetBytes(text.ReplaceLineEndings("\n\r")));
    }

    // Each line gets the time since the first one after time stamps were switched on.
    private int WriteStamped(ReadOnlySpan<byte> data)
    {
        int taken = 0;
        Span<byte> stamp = stackalloc byte[40];
        while (taken < data.Length)
        {
            if (_lineStart)
            {
                long now = Host.Loop.Clocks.NowNs(ClockType.Realtime);
                if (_timestampStartNs < 0)
                {
                    _timestampStartNs = now;
                }

                long ms = (now - _timestampStartNs) / 1_000_000;
                System.Text.Unicode.Utf8.TryWrite(
                    stamp, $"[{ms / 3_600_000:00}:{ms / 60_000 % 60:00}:{ms / 1000 % 60:00}.{ms % 1000:000}] ", out int length);
                _base.WriteAll(stamp[..length]);
                _lineStart = false;
            }

            int end = data[taken..].IndexOf((byte)'\n');
            ReadOnlySpan<byte> line = end < 0 ? data[taken..] : data.Slice(taken, end + 1);
            int n = _base.Write(line);
            taken += n;
            if (n < line.Length)
            {
                return taken;
            }

            _lineStart = end >= 0;
        }

        return taken;
    }

    /// <summary>A front end and the input that it had no room for when it had the focus.</summary>
    private sealed class Slot(CharFrontend frontend)
    {
        private readonly byte[] _pending = new byte[SlotBufferSize];
        private int _count;

        internal CharFrontend Frontend { get; } = frontend;

        internal int Room => SlotBufferSize - _count;

        internal int DirectRoom => Frontend.Handler?.CanReceive() ?? 0;

        internal void Take(ReadOnlySpan<byte> data)
        {
            Flush();
            while (!data.IsEmpty && _count == 0 && Frontend.Handler is { } handler)
            {
                int n = Math.Min(handler.CanReceive(), data.Length);
                if (n <= 0)
                {
                    break;
                }

                handler.Receive(data[..n]);
                data = data[n..];
            }

            int kept = Math.Min(data.Length, Room);
            data[..kept].CopyTo(_pending.AsSpan(_count));
            _count += kept;
        }

        internal void Flush()
        {
            Span<byte> part = stackalloc byte[SlotBufferSize];
            while (_count > 0 && Frontend.Handler is { } handler)
            {
                int n = Math.Min(handler.CanReceive(), _count);
                if (n <= 0)
                {
                    return;
                }

                _pending.AsSpan(0, n).CopyTo(part);
                _pending.AsSpan(n, _count - n).CopyTo(_pending);
                _count -= n;
                handler.Receive(part[..n]);
            }
        }
    }
}
