using Vmm.EventLoop;
using Vmm.ObjectModel.VmState;

namespace Vmm.Devices.Serial16550;

public sealed partial class SerialPort
{
    /// <summary>Present state as it goes into a migration stream.</summary>
    internal SerialPortState Capture()
    {
        bool pendingExpected = (_interruptIdent & IirIdentMask) == IirTransmit;
        return new SerialPortState
        {
            Divider = _divider,
            ReceiveHolding = _receiveHolding,
            InterruptEnable = _interruptEnable,
            InterruptIdent = _interruptIdent,
            LineControl = _lineControl,
            ModemControl = _modemControl,
            LineStatus = _lineStatus,
            ModemStatus = _modemStatus,
            Scratch = _scratch,
            FifoControl = _fifoControl,
            TransmitPending = (_interruptEnable & IerTransmit) != 0 && _transmitPending != pendingExpected
                ? new SerialTransmitPendingState { Pending = _transmitPending ? 1 : 0 }
                : null,
            Transmitter = _transmitRetry == 0
                ? null
                : new SerialTransmitterState { Retry = (uint)_transmitRetry, Holding = _transmitHolding, Shift = _transmitShift },
            ReceiveFifo = _receiveFifo.Count == 0 ? null : new SerialReceiveFifoState { Fifo = CaptureFifo(_receiveFifo) },
            TransmitFifo = _transmitFifo.Count == 0 ? null : new SerialTransmitFifoState { Fifo = CaptureFifo(_transmitFifo) },
            TimeoutTimer = _timeoutTimer is { IsArmed: true } timer ? new SerialTimeoutTimerState { DeadlineNs = timer.DeadlineNs } : null,
            TimeoutPending = _timeoutPending ? new SerialTimeoutPendingState { Pending = 1 } : null,
        };
    }

    /// <summary>Refuses a state that no UART can be in; null when it is fine.</summary>
    internal static string? Validate(SerialPortState s)
    {
        if (s.ReceiveFifo is { } receive && !IsFifoValid(receive.Fifo))
        {
            return "serial: receive FIFO is out of range";
        }

        if (s.TransmitFifo is { } transmit && !IsFifoValid(transmit.Fifo))
        {
            return "serial: transmit FIFO is out of range";
        }

        if (s.Transmitter is { Retry: > 0 } transmitter)
        {
            if ((s.LineStatus & LsrTransmitterEmpty) != 0)
            {
                return $"inconsistent state in serial device (tsr empty, tsr_retry={transmitter.Retry}";
            }
        }
        else if ((s.LineStatus & LsrTransmitterEmpty) == 0)
        {
            return "inconsistent state in serial device (tsr not empty, tsr_retry=0";
        }

        return null;
    }

    /// <summary>Takes over a validated state.</summary>
    internal void Apply(SerialPortState s)
    {
        ResetRegisters();
        _divider = s.Divider;
        _receiveHolding = s.ReceiveHolding;
        _interruptEnable = s.InterruptEnable;
        _interruptIdent = s.InterruptIdent;
        _lineControl = s.LineControl;
        _modemControl = s.ModemControl;
        _lineStatus = s.LineStatus;
        _modemStatus = s.ModemStatus;
        _scratch = s.Scratch;
        SetFifoControl(s.FifoControl);
        _transmitPending = s.TransmitPending is { } pending ? pending.Pending != 0 : (s.InterruptIdent & IirIdentMask) == IirTransmit;
        if (s.Transmitter is { } transmitter)
        {
            _transmitRetry = (int)Math.Min(transmitter.Retry, MaxTransmitRetries);
            _transmitHolding = transmitter.Holding;
            _transmitShift = transmitter.Shift;
        }

        if (s.ReceiveFifo is { } receive)
        {
            _receiveFifo.Restore(receive.Fifo.Data, (int)receive.Fifo.Head, (int)receive.Fifo.Count);
        }

        if (s.TransmitFifo is { } transmit)
        {
            _transmitFifo.Restore(transmit.Fifo.Data, (int)transmit.Fifo.Head, (int)transmit.Fifo.Count);
        }

        _timeoutPending = s.TimeoutPending is { Pending: not 0 };
        if (s.TimeoutTimer is { DeadlineNs: >= 0 } timer)
        {
            _timeoutTimer?.ArmAt(timer.DeadlineNs);
        }
        else
        {
            _timeoutTimer?.Cancel();
        }

        UpdateCharTime();
        if (_transmitRetry > 0 && !_watching)
        {
            _watching = Frontend.WatchWritable(_writable);
        }
    }

    private static SerialFifoState CaptureFifo(ByteFifo fifo) =>
        new() { Data = fifo.Storage.ToArray(), Head = (uint)fifo.Head, Count = (uint)fifo.Count };

    private static bool IsFifoValid(SerialFifoState fifo) => fifo.Head < FifoLength && fifo.Count <= FifoLength;
}

/// <summary>Migration section of a UART.</summary>
[VmState("serial", Version = 3, MinimumVersion = 2)]
public sealed partial record SerialPortState
{
    /// <summary>Divisor latch.</summary>
    public ushort Divider { get; init; }

    /// <summary>RBR.</summary>
    public byte ReceiveHolding { get; init; }

    /// <summary>IER.</summary>
    public byte InterruptEnable { get; init; }

    /// <summary>IIR.</summary>
    public byte InterruptIdent { get; init; }

    /// <summary>LCR.</summary>
    public byte LineControl { get; init; }

    /// <summary>MCR.</summary>
    public byte ModemControl { get; init; }

    /// <summary>LSR.</summary>
    public byte LineStatus { get; init; }

    /// <summary>MSR.</summary>
    public byte ModemStatus { get; init; }

    /// <summary>SCR.</summary>
    public byte Scratch { get; init; }

    /// <summary>FCR without its reset bits.</summary>
    [VmSince(3)]
    public byte FifoControl { get; init; }

    /// <summary>Present when the transmit interrupt is not what IIR says.</summary>
    [VmSubsection]
    public SerialTransmitPendingState? TransmitPending { get; init; }

    /// <summary>Present while a byte waits in the shift register.</summary>
    [VmSubsection]
    public SerialTransmitterState? Transmitter { get; init; }

    /// <summary>Present while the receive FIFO holds bytes.</summary>
    [VmSubsection]
    public SerialReceiveFifoState? ReceiveFifo { get; init; }

    /// <summary>Present while the transmit FIFO holds bytes.</summary>
    [VmSubsection]
    public SerialTransmitFifoState? TransmitFifo { get; init; }

    /// <summary>Present while the character timeout runs.</summary>
    [VmSubsection]
    public SerialTimeoutTimerState? TimeoutTimer { get; init; }

    /// <summary>Present while the character timeout is signalled.</summary>
    [VmSubsection]
    public SerialTimeoutPendingState? TimeoutPending { get; init; }

    /// <summary>Present when the back end's modem lines are polled, which ours never are.</summary>
    [VmSubsection]
    public SerialPollState? Poll { get; init; }
}

/// <summary>Transmit interrupt latch.</summary>
[VmState("serial/thr_ipending")]
public sealed partial record SerialTransmitPendingState
{
    /// <summary>0 or 1.</summary>
    public int Pending { get; init; }
}

/// <summary>Shift register of a blocked transmitter.</summary>
[VmState("serial/tsr")]
public sealed partial record SerialTransmitterState
{
    /// <summary>Times that the back end was asked.</summary>
    public uint Retry { get; init; }

    /// <summary>THR.</summary>
    public byte Holding { get; init; }

    /// <summary>TSR.</summary>
    public byte Shift { get; init; }
}

/// <summary>A ring of 16 bytes.</summary>
[VmState("Fifo8")]
public sealed partial record SerialFifoState
{
    /// <summary>Storage.</summary>
    [VmArray(16)]
    public byte[] Data { get; init; } = new byte[16];

    /// <summary>Index of the oldest byte.</summary>
    public uint Head { get; init; }

    /// <summary>Number of bytes.</summary>
    public uint Count { get; init; }
}

/// <summary>Receive FIFO.</summary>
[VmState("serial/recv_fifo")]
public sealed partial record SerialReceiveFifoState
{
    /// <summary>The ring.</summary>
    public SerialFifoState Fifo { get; init; } = new();
}

/// <summary>Transmit FIFO.</summary>
[VmState("serial/xmit_fifo")]
public sealed partial record SerialTransmitFifoState
{
    /// <summary>The ring.</summary>
    public SerialFifoState Fifo { get; init; } = new();
}

/// <summary>Character timeout timer.</summary>
[VmState("serial/fifo_timeout_timer")]
public sealed partial record SerialTimeoutTimerState
{
    /// <summary>Virtual clock value at which it fires; -1 when not armed.</summary>
    public long DeadlineNs { get; init; }
}

/// <summary>Character timeout latch.</summary>
[VmState("serial/timeout_ipending")]
public sealed partial record SerialTimeoutPendingState
{
    /// <summary>0 or 1.</summary>
    public int Pending { get; init; }
}

/// <summary>Modem line polling.</summary>
[VmState("serial/poll")]
public sealed partial record SerialPollState
{
    /// <summary>-1: lines unknown, 0: not polled, 1: polled.</summary>
    public int Poll { get; init; }

    /// <summary>Next poll; -1 for none.</summary>
    public long DeadlineNs { get; init; }
}
