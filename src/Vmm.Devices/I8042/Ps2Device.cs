using Vmm.ObjectModel.Devices;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.VmState;

namespace Vmm.Devices.I8042;

/// <summary>
/// What PS/2 keyboards and mice have in common: a queue of bytes towards the controller. A device may let answers to commands
/// overtake input that is already waiting.
/// </summary>
[QomType("ps2-device", Parent = "sys-bus-device", UserCreatable = false)]
public abstract partial class Ps2Device : Device
{
    /// <summary>No argument byte is awaited.</summary>
    protected const int NoCommand = -1;

    /// <summary>Command accepted.</summary>
    protected const byte Acknowledge = 0xfa;

    /// <summary>Command not understood.</summary>
    protected const byte Resend = 0xfe;

    /// <summary>Self test passed.</summary>
    protected const byte SelfTestPassed = 0xaa;

    // Input is dropped beyond this many bytes; answers may use the headroom above it.
    private const int QueueLimit = 16;
    private const int Headroom = 8;
    private const int BufferSize = 256;

    private readonly byte[] _buffer = new byte[BufferSize];
    private int _read;
    private int _write;
    private int _answersEnd = -1;

    /// <summary>Told when the device has or no longer has a byte for the controller.</summary>
    internal Action<bool>? DataAvailable { get; set; }

    /// <summary>Bytes waiting.</summary>
    public int QueuedBytes { get; private set; }

    /// <summary>Command whose argument is awaited, or <see cref="NoCommand"/>.</summary>
    protected int PendingCommand { get; set; } = NoCommand;

    /// <summary>Handles a byte from the controller.</summary>
    public abstract void WriteByte(byte value);

    /// <summary>Takes the next byte; the last one again when there is none, which some memory managers expect.</summary>
    public byte ReadByte()
    {
        if (QueuedBytes == 0)
        {
            return _buffer[(_read - 1) & (BufferSize - 1)];
        }

        byte value = _buffer[_read];
        _read = (_read + 1) & (BufferSize - 1);
        QueuedBytes--;
        if (_read == _answersEnd)
        {
            _answersEnd = -1;
        }

        // An edge per byte: the line drops and rises again while more is waiting.
        DataAvailable?.Invoke(false);
        if (QueuedBytes > 0)
        {
            DataAvailable?.Invoke(true);
        }

        return value;
    }

    /// <inheritdoc/>
    protected override void Realize(IMachineServices machine)
    {
    }

    /// <summary>Queues input; false when it does not fit and is lost.</summary>
    protected bool QueueInput(ReadOnlySpan<byte> data)
    {
        if (QueuedBytes + data.Length > QueueLimit)
        {
            return false;
        }

        foreach (byte b in data)
        {
            _buffer[_write] = b;
            _write = (_write + 1) & (BufferSize - 1);
            QueuedBytes++;
        }

        DataAvailable?.Invoke(true);
        return true;
    }

    /// <summary>Puts the answer to a command in front of everything, replacing an unread older answer.</summary>
    protected void Answer(ReadOnlySpan<byte> data)
    {
        if (_answersEnd >= 0)
        {
            QueuedBytes -= (_answersEnd - _read) & (BufferSize - 1);
            _read = _answersEnd;
        }

        _answersEnd = _read;
        _read = (_read - data.Length) & (BufferSize - 1);
        for (int i = 0; i < data.Length; i++)
        {
            _buffer[(_read + i) & (BufferSize - 1)] = data[i];
        }

        QueuedBytes += data.Length;
        DataAvailable?.Invoke(true);
    }

    /// <summary>Answers one byte.</summary>
    protected void Answer(byte value) => Answer(new ReadOnlySpan<byte>(in value));

    /// <summary>Drops everything that waits.</summary>
    protected void ClearQueue()
    {
        _read = 0;
        _write = 0;
        _answersEnd = -1;
        QueuedBytes = 0;
        DataAvailable?.Invoke(false);
    }

    /// <summary>Power-on state of the common part.</summary>
    protected void ResetCommon()
    {
        PendingCommand = NoCommand;
        ClearQueue();
        Array.Clear(_buffer);
    }

    internal Ps2CommonState CaptureCommon() => new()
    {
        PendingCommand = PendingCommand,
        Read = _read,
        Write = _write,
        Count = QueuedBytes,
        Buffer = _buffer,
    };

    internal Ps2AnswerQueueState? CaptureAnswers() => _answersEnd < 0 ? null : new Ps2AnswerQueueState { End = _answersEnd };

    /// <summary>Takes over a queue; contents that contradict themselves are cut down to a queue that can exist.</summary>
    internal void ApplyCommon(Ps2CommonState state, Ps2AnswerQueueState? answers)
    {
        PendingCommand = state.PendingCommand is >= 0 and <= 0xff ? state.PendingCommand : NoCommand;
        int read = state.Read & (BufferSize - 1);
        int count = Math.Clamp(state.Count, 0, QueueLimit + Headroom);
        state.Buffer.CopyTo(_buffer, 0);
        _read = read;
        _write = (read + count) & (BufferSize - 1);
        QueuedBytes = count;
        _answersEnd = -1;
        if (answers is { End: >= 0 and < BufferSize } a)
        {
            int length = (a.End - read) & (BufferSize - 1);
            if (length > 0 && length <= count)
            {
                _answersEnd = a.End;
            }
        }
    }
}

/// <summary>Common part of the keyboard's and the mouse's sections.</summary>
[VmState("PS2 Common State", Version = 3, MinimumVersion = 2)]
public sealed partial record Ps2CommonState
{
    /// <summary>Command whose argument is awaited; -1 for none.</summary>
    public int PendingCommand { get; init; }

    /// <summary>Index of the oldest byte.</summary>
    public int Read { get; init; }

    /// <summary>Index behind the newest byte.</summary>
    public int Write { get; init; }

    /// <summary>Bytes in the queue.</summary>
    public int Count { get; init; }

    /// <summary>Storage.</summary>
    [VmArray(256)]
    public byte[] Buffer { get; init; } = new byte[256];
}

/// <summary>Where the answer at the head of the queue ends.</summary>
public sealed record Ps2AnswerQueueState
{
    /// <summary>Index behind the answer's last byte.</summary>
    public int End { get; init; }
}
