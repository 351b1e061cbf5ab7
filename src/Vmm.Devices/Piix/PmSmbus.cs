using Vmm.Memory;
using Vmm.ObjectModel.VmState;

namespace Vmm.Devices.Piix;

/// <summary>
/// The PIIX4's SMBus host controller with nothing on its bus: every transaction ends with a device error.
/// </summary>
/// <remarks>Source: Intel 82371AB data sheet, 7.3. Home: the machine lock.</remarks>
internal sealed class PmSmbus : IIoHandler
{
    private const int RegStatus = 0x0;
    private const int RegControl = 0x2;
    private const int RegCommand = 0x3;
    private const int RegAddress = 0x4;
    private const int RegData0 = 0x5;
    private const int RegData1 = 0x6;
    private const int RegBlockData = 0x7;
    private const int RegAuxControl = 0xd;

    private const byte StatusBusy = 0x01;
    private const byte StatusDeviceError = 0x04;
    private const byte StatusClearable = 0x5e;
    private const byte ControlKill = 0x02;
    private const byte ControlStart = 0x40;
    private const byte AuxE32b = 0x02;
    private const byte AuxMask = 0x03;
    private const int BlockSize = 32;

    private byte _status;
    private byte _control;
    private byte _command;
    private byte _address;
    private byte _data0;
    private byte _data1;
    private uint _index;
    private readonly byte[] _block = new byte[BlockSize];
    private byte _auxControl = AuxE32b;
    private byte _blockData;
    private bool _startPending;

    public ulong Read(ulong offset, int size)
    {
        switch ((int)offset)
        {
            case RegStatus:
                byte status = _status;
                if (_startPending)
                {
                    // A transaction takes until the driver has looked once.
                    _startPending = false;
                    _status = (byte)((_status & ~StatusBusy) | StatusDeviceError);
                }

                return status;
            case RegControl:
                _index = 0;
                return (byte)(_control & ~ControlStart);
            case RegCommand:
                return _command;
            case RegAddress:
                return _address;
            case RegData0:
                return _data0;
            case RegData1:
                return _data1;
            case RegBlockData:
                byte value = _block[_index % BlockSize];
                _index = (_index + 1) % BlockSize;
                return value;
            case RegAuxControl:
                return _auxControl;
            default:
                return 0;
        }
    }

    public void Write(ulong offset, ulong value, int size)
    {
        byte v = (byte)value;
        switch ((int)offset)
        {
            case RegStatus:
                _status &= (byte)~(v & StatusClearable);
                break;
            case RegControl:
                _control = (byte)(v & ~ControlStart);
                if ((v & ControlKill) != 0)
                {
                    _startPending = false;
                    _status &= unchecked((byte)~StatusBusy);
                }
                else if ((v & ControlStart) != 0)
                {
                    _startPending = true;
                    _status |= StatusBusy;
                }

                break;
            case RegCommand:
                _command = v;
                break;
            case RegAddress:
                _address = v;
                break;
            case RegData0:
                _data0 = v;
                break;
            case RegData1:
                _data1 = v;
                break;
            case RegBlockData:
                _block[_index % BlockSize] = v;
                _index = (_index + 1) % BlockSize;
                break;
            case RegAuxControl:
                _auxControl = (byte)(v & AuxMask);
                break;
        }
    }

    public PmSmbusState Capture() => new()
    {
        Status = _status,
        Control = _control,
        Command = _command,
        Address = _address,
        Data0 = _data0,
        Data1 = _data1,
        Index = _index,
        Block = _block,
        AuxControl = _auxControl,
        BlockData = _blockData,
        StartPending = _startPending,
        OperationDone = true,
    };

    public void Apply(PmSmbusState s)
    {
        _status = s.Status;
        _control = s.Control;
        _command = s.Command;
        _address = s.Address;
        _data0 = s.Data0;
        _data1 = s.Data1;
        _index = s.Index % BlockSize;
        s.Block.CopyTo(_block, 0);
        _auxControl = s.AuxControl;
        _blockData = s.BlockData;
        _startPending = s.StartPending;
    }
}

/// <summary>State of the SMBus host controller, part of the power management function's section.</summary>
[VmState("pmsmb")]
public sealed partial record PmSmbusState
{
    /// <summary>Host status.</summary>
    public byte Status { get; init; }

    /// <summary>Host control.</summary>
    public byte Control { get; init; }

    /// <summary>Command byte.</summary>
    public byte Command { get; init; }

    /// <summary>Slave address.</summary>
    public byte Address { get; init; }

    /// <summary>Data 0.</summary>
    public byte Data0 { get; init; }

    /// <summary>Data 1.</summary>
    public byte Data1 { get; init; }

    /// <summary>Position in the block buffer.</summary>
    public uint Index { get; init; }

    /// <summary>Block buffer.</summary>
    [VmArray(32)]
    public byte[] Block { get; init; } = new byte[32];

    /// <summary>Auxiliary control.</summary>
    public byte AuxControl { get; init; }

    /// <summary>Byte of a block transfer.</summary>
    public byte BlockData { get; init; }

    /// <summary>I2C block reads.</summary>
    public bool I2cEnable { get; init; }

    /// <summary>The operation is complete.</summary>
    public bool OperationDone { get; init; } = true;

    /// <summary>An I2C block read is under way.</summary>
    public bool InI2cBlockRead { get; init; }

    /// <summary>The transaction starts when the status is read.</summary>
    public bool StartPending { get; init; }
}
