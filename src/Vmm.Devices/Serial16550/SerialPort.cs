using Vmm.EventLoop;
using Vmm.Memory;
using Vmm.ObjectModel.Chardevs;
using Vmm.ObjectModel.Devices;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.Run;
using Vmm.ObjectModel.VmState;
using Vmm.Qapi;

namespace Vmm.Devices.Serial16550;

/// <summary>
/// The 16550A UART itself, whichever bus it sits on (QOM <c>serial</c>): eight byte registers, a character back end, one
/// interrupt output. Transmission takes no virtual time; back-pressure of the back end shows as a transmitter that stays busy.
/// </summary>
/// <remarks>
/// Source: PC16550D data sheet. Home: the main loop under the machine lock; registers are accessed on vCPU threads under that lock.
/// Modem status lines are fixed at "connected" (DCD, DSR, CTS) as no back end has real ones.
/// </remarks>
[QomType("serial", Parent = "device", UserCreatable = false)]
[Stateless] // Its state is part of the section of the device that carries it.
public sealed partial class SerialPort : Device, IIoHandler, ICharHandler
{
    // The back end is asked this many times whether it takes the byte in the shift register before the byte is lost.
    private const int MaxTransmitRetries = 4;

    private readonly ByteFifo _receiveFifo = new(FifoLength);
    private readonly ByteFifo _transmitFifo = new(FifoLength);
    private readonly Action _writable;
    private LoopTimer? _timeoutTimer;
    private Clocks? _clocks;
    private IRunControl? _run;
    private bool _watching;

    private ushort _divider;
    private byte _receiveHolding;
    private byte _transmitHolding;
    private byte _transmitShift;
    private byte _interruptEnable;
    private byte _interruptIdent;
    private byte _lineControl;
    private byte _modemControl;
    private byte _lineStatus;
    private byte _modemStatus;
    private byte _scratch;
    private byte _fifoControl;
    private byte _triggerLevel;
    private bool _transmitPending;
    private bool _timeoutPending;
    private int _transmitRetry;
    private long _charTimeNs;

    /// <summary>A port without back end and line.</summary>
    public SerialPort()
    {
        _writable = OnWritable;
        ResetRegisters();
    }

    /// <summary>The back end's name; null for none.</summary>
    [QomProperty("chardev", Type = "str", Description = "ID of a chardev to use as a backend")]
    public string? Chardev { get; set; }

    /// <summary>Clock of the divisor, in baud.</summary>
    [QomProperty("baudbase", Default = "115200")]
    public uint BaudBase { get; set; } = 115200;

    /// <summary>Input wakes a suspended guest.</summary>
    [QomProperty("wakeup", Default = "false")]
    public bool Wakeup { get; set; }

    /// <summary>Interrupt output.</summary>
    public InterruptLine Irq { get; set; } = new();

    /// <summary>Where the characters go.</summary>
    public CharFrontend Frontend { get; } = new();

    private bool FifoEnabled => (_fifoControl & FcrEnable) != 0;

    private bool Loopback => (_modemControl & McrLoop) != 0;

    /// <inheritdoc/>
    public ulong Read(ulong offset, int size)
    {
        switch ((int)offset & 7)
        {
            case RegData:
                return (_lineControl & LcrDivisorLatch) != 0 ? (byte)_divider : ReadData();
            case RegInterrupt:
                return (_lineControl & LcrDivisorLatch) != 0 ? (byte)(_divider >> 8) : _interruptEnable;
            case RegIdent:
                byte ident = _interruptIdent;
                if ((ident & IirIdentMask) == IirTransmit)
                {
                    _transmitPending = false;
                    UpdateInterrupt();
                }

                return ident;
            case RegLine:
                return _lineControl;
            case RegModem:
                return _modemControl;
            case RegLineStatus:
                byte status = _lineStatus;
                if ((status & (LsrBreak | LsrOverrun)) != 0)
                {
                    _lineStatus &= unchecked((byte)~(LsrBreak | LsrOverrun));
                    UpdateInterrupt();
                }

                return status;
            case RegModemStatus:
                return ReadModemStatus();
            default:
                return _scratch;
        }
    }

    /// <inheritdoc/>
    public void Write(ulong offset, ulong value, int size)
    {
        byte v = (byte)value;
        switch ((int)offset & 7)
        {
            case RegData:
                if ((_lineControl & LcrDivisorLatch) != 0)
                {
                    _divider = (ushort)((_divider & 0xff00) | v);
                    UpdateCharTime();
                }
                else
                {
                    WriteData(v);
                }

                break;
            case RegInterrupt:
                if ((_lineControl & LcrDivisorLatch) != 0)
                {
                    _divider = (ushort)((_divider & 0x00ff) | (v << 8));
                    UpdateCharTime();
                }
                else
                {
                    WriteInterruptEnable((byte)(v & 0x0f));
                }

                break;
            case RegIdent:
                WriteFifoControl(v);
                break;
            case RegLine:
                _lineControl = v;
                UpdateCharTime();
                break;
            case RegModem:
                _modemControl = (byte)(v & 0x1f);
                break;
            case RegScratch:
                _scratch = v;
                break;
        }
    }

    /// <inheritdoc/>
    public override void Reset()
    {
        ResetRegisters();
        _timeoutTimer?.Cancel();
        Irq.Lower();
    }

    /// <inheritdoc/>
    public int CanReceive()
    {
        if (!FifoEnabled)
        {
            return (_lineStatus & LsrDataReady) != 0 ? 0 : 1;
        }

        if (_receiveFifo.IsFull)
        {
            return 0;
        }

        // Up to the trigger level at once, so that the interrupt comes when the driver expects it; then byte by byte.
        return _receiveFifo.Count <= _triggerLevel ? Math.Max(_triggerLevel - _receiveFifo.Count, 1) : 1;
    }

    /// <inheritdoc/>
    public void Receive(ReadOnlySpan<byte> data)
    {
        if (data.IsEmpty)
        {
            return;
        }

        if (Wakeup)
        {
            _run?.WakeIfSuspended(WakeupReason.Other);
        }

        ReceiveBytes(data);
    }

    /// <inheritdoc/>
    public void OnEvent(ChardevEvent ev)
    {
        if (ev == ChardevEvent.Break)
        {
            _receiveHolding = 0;
            PushReceived(0);
            _lineStatus |= LsrBreak | LsrDataReady;
            UpdateInterrupt();
        }
    }

    /// <inheritdoc/>
    protected override void Realize(IMachineServices machine)
    {
        _clocks = machine.Clocks;
        _run = machine.Run;
        if (Chardev is { Length: > 0 } name)
        {
            ChardevProperty.Connect(Frontend, name, machine, "serial");
        }

        _timeoutTimer = machine.MainLoop.CreateTimer(ClockType.Virtual, OnTimeout);
        Frontend.SetHandler(this);
        Reset();
    }

    /// <inheritdoc/>
    protected override void Unrealize() => Close();

    /// <summary>Lets go of the back end and the timer; idempotent.</summary>
    internal void Close()
    {
        Frontend.Disconnect();
        _timeoutTimer?.Dispose();
        _timeoutTimer = null;
    }

    private void ResetRegisters()
    {
        _receiveHolding = 0;
        _transmitHolding = 0;
        _transmitShift = 0;
        _interruptEnable = 0;
        _interruptIdent = IirNone;
        _lineControl = 0;
        _lineStatus = LsrTransmitterEmpty | LsrHoldingEmpty;
        _modemStatus = MsrDcd | MsrDsr | MsrCts;
        // 9600 baud, 1 start, 8 data and 1 stop bit.
        _divider = 12;
        _modemControl = McrOut2;
        _scratch = 0;
        _transmitRetry = 0;
        _charTimeNs = WideMath.NsPerSecond / 9600 * 10;
        _receiveFifo.Clear();
        _transmitFifo.Clear();
        _transmitPending = false;
        _timeoutPending = false;
        _fifoControl = 0;
        _triggerLevel = 0;
    }

    private void UpdateInterrupt()
    {
        byte ident;
        if ((_interruptEnable & IerLine) != 0 && (_lineStatus & LsrAnyError) != 0)
        {
            ident = IirLine;
        }
        else if ((_interruptEnable & IerReceive) != 0 && _timeoutPending)
        {
            ident = IirTimeout;
        }
        else if ((_interruptEnable & IerReceive) != 0 && (_lineStatus & LsrDataReady) != 0 &&
            (!FifoEnabled || _receiveFifo.Count >= _triggerLevel))
        {
            ident = IirReceive;
        }
        else if ((_interruptEnable & IerTransmit) != 0 && _transmitPending)
        {
            ident = IirTransmit;
        }
        else if ((_interruptEnable & IerModem) != 0 && (_modemStatus & MsrAnyDelta) != 0)
        {
            ident = IirModem;
        }
        else
        {
            ident = IirNone;
        }

        _interruptIdent = (byte)(ident | (_interruptIdent & 0xf0));
        Irq.Set(ident != IirNone);
    }

    private void UpdateCharTime()
    {
        if (_divider == 0 || BaudBase == 0)
        {
            return;
        }

        int bits = 1 + (_lineControl & 3) + 5 + ((_lineControl & 4) != 0 ? 2 : 1) + ((_lineControl & 8) != 0 ? 1 : 0);
        _charTimeNs = (long)WideMath.MulDiv((ulong)_divider * (uint)bits, (uint)WideMath.NsPerSecond, BaudBase);
    }

    private byte ReadData()
    {
        byte value;
        if (FifoEnabled)
        {
            value = _receiveFifo.Pop();
            if (_receiveFifo.Count == 0)
            {
                _lineStatus &= unchecked((byte)~(LsrDataReady | LsrBreak));
            }
            else
            {
                ArmTimeout();
            }

            _timeoutPending = false;
        }
        else
        {
            value = _receiveHolding;
            _lineStatus &= unchecked((byte)~(LsrDataReady | LsrBreak));
        }

        UpdateInterrupt();
        if (!Loopback)
        {
            Frontend.AcceptInput();
        }

        return value;
    }

    private byte ReadModemStatus()
    {
        if (Loopback)
        {
            // In loopback the outputs are connected to the inputs: OUT2 to DCD, OUT1 to RI, RTS to CTS, DTR to DSR.
            int looped = ((_modemControl & (McrOut1 | McrOut2)) << 4) | ((_modemControl & McrRts) << 3) | ((_modemControl & McrDtr) << 5);
            return (byte)looped;
        }

        byte status = _modemStatus;
        if ((status & MsrAnyDelta) != 0)
        {
            _modemStatus &= unchecked((byte)~MsrAnyDelta);
            UpdateInterrupt();
        }

        return status;
    }

    private void WriteData(byte value)
    {
        _transmitHolding = value;
        if (FifoEnabled)
        {
            _transmitFifo.PushOverwriting(value);
        }

        _transmitPending = false;
        _lineStatus &= unchecked((byte)~(LsrHoldingEmpty | LsrTransmitterEmpty));
        UpdateInterrupt();
        if (_transmitRetry == 0)
        {
            Transmit();
        }
    }

    private void WriteInterruptEnable(byte value)
    {
        byte changed = (byte)(_interruptEnable ^ value);
        _interruptEnable = value;
        if ((changed & IerTransmit) != 0)
        {
            _transmitPending = (value & IerTransmit) != 0 && (_lineStatus & LsrHoldingEmpty) != 0;
        }

        if (changed != 0)
        {
            UpdateInterrupt();
        }
    }

    private void WriteFifoControl(byte value)
    {
        if (((value ^ _fifoControl) & FcrEnable) != 0)
        {
            value |= FcrResetReceive | FcrResetTransmit;
        }

        if ((value & FcrResetReceive) != 0)
        {
            _lineStatus &= unchecked((byte)~(LsrDataReady | LsrBreak));
            _timeoutTimer?.Cancel();
            _timeoutPending = false;
            _receiveFifo.Clear();
        }

        if ((value & FcrResetTransmit) != 0)
        {
            _lineStatus |= LsrHoldingEmpty;
            _transmitPending = true;
            _transmitFifo.Clear();
        }

        SetFifoControl((byte)(value & FcrStored));
        UpdateInterrupt();
    }

    private void SetFifoControl(byte value)
    {
        _fifoControl = value;
        if ((value & FcrEnable) != 0)
        {
            _interruptIdent |= IirFifoEnabled;
            _triggerLevel = (value >> 6) switch { 0 => 1, 1 => 4, 2 => 8, _ => 14 };
        }
        else
        {
            _interruptIdent &= unchecked((byte)~IirFifoEnabled);
        }
    }

    /// <summary>Moves bytes from the FIFO or holding register through the shift register to the back end until none is left or it blocks.</summary>
    private void Transmit()
    {
        do
        {
            if (_transmitRetry == 0)
            {
                if (FifoEnabled)
                {
                    if (_transmitFifo.Count == 0)
                    {
                        _lineStatus |= LsrHoldingEmpty;
                        break;
                    }

                    _transmitShift = _transmitFifo.Pop();
                    if (_transmitFifo.Count == 0)
                    {
                        _lineStatus |= LsrHoldingEmpty;
                    }
                }
                else
                {
                    _transmitShift = _transmitHolding;
                    _lineStatus |= LsrHoldingEmpty;
                }

                if ((_lineStatus & LsrHoldingEmpty) != 0 && !_transmitPending)
                {
                    _transmitPending = true;
                    UpdateInterrupt();
                }
            }

            if (Loopback)
            {
                ReceiveBytes(new ReadOnlySpan<byte>(in _transmitShift));
            }
            else if (Frontend.Write(new ReadOnlySpan<byte>(in _transmitShift)) != 1 && _transmitRetry < MaxTransmitRetries)
            {
                if (_watching || Frontend.WatchWritable(_writable))
                {
                    _watching = true;
                    _transmitRetry++;
                    return;
                }
            }

            _transmitRetry = 0;
        }
        while ((_lineStatus & LsrHoldingEmpty) == 0);

        _lineStatus |= LsrTransmitterEmpty;
    }

    private void OnWritable()
    {
        _watching = false;
        if (_transmitRetry > 0)
        {
            Transmit();
        }
    }

    private void ReceiveBytes(ReadOnlySpan<byte> data)
    {
        if (FifoEnabled)
        {
            foreach (byte b in data)
            {
                PushReceived(b);
            }

            _lineStatus |= LsrDataReady;
            ArmTimeout();
        }
        else
        {
            if ((_lineStatus & LsrDataReady) != 0)
            {
                _lineStatus |= LsrOverrun;
            }

            _receiveHolding = data[0];
            _lineStatus |= LsrDataReady;
        }

        UpdateInterrupt();
    }

    private void PushReceived(byte value)
    {
        if (_receiveFifo.IsFull)
        {
            _lineStatus |= LsrOverrun;
        }
        else
        {
            _receiveFifo.Push(value);
        }
    }

    // Bytes below the trigger level are announced after four character times of silence.
    private void ArmTimeout() => _timeoutTimer?.ArmAt(_clocks!.NowNs(ClockType.Virtual) + (_charTimeNs * 4));

    private void OnTimeout()
    {
        if (_receiveFifo.Count > 0)
        {
            _timeoutPending = true;
            UpdateInterrupt();
        }
    }
}
