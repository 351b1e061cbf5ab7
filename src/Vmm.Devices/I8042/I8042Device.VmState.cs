using Vmm.ObjectModel.VmState;

namespace Vmm.Devices.I8042;

public sealed partial class I8042Device : IVmStateful
{
    /// <inheritdoc/>
    public string VmStateName => "pckbd";

    /// <inheritdoc/>
    public int VmStateVersion => 3;

    private byte DefaultOutport =>
        (byte)(OutReset | OutA20 | OutOnes |
            ((_status & StatusOutputFull) != 0 ? OutOutputFull : 0) | ((_status & StatusMouseOutput) != 0 ? OutMouseOutputFull : 0));

    /// <inheritdoc/>
    public void SaveState(VmStateWriter writer) => new I8042State
    {
        WriteCommand = _writeCommand,
        Status = _status,
        Mode = _mode,
        Pending = (byte)_pending,
        Outport = _outport == DefaultOutport ? null : new I8042OutportState { Outport = _outport },
        Extended = ExtendedState
            ? new I8042ExtendedState { OutputSource = _outputSource, OutputData = _outputData, ControllerData = _controllerData }
            : null,
    }.Save(writer);

    /// <inheritdoc/>
    public void LoadState(VmStateReader reader, int version)
    {
        I8042State s = I8042State.Load(reader, version);
        _writeCommand = s.WriteCommand;
        _status = s.Status;
        _mode = s.Mode;
        _outport = s.Outport?.Outport ?? DefaultOutport;
        if (s.Extended is { } extended)
        {
            _pending = (Sources)s.Pending;
            _outputSource = (byte)extended.OutputSource;
            _outputData = extended.OutputData;
            _controllerData = extended.ControllerData;
        }
        else
        {
            // Without the extension the pending bits stand for both devices' queues and the buffer belongs to one of them.
            Sources pending = (Sources)s.Pending;
            _pending = ((pending & Sources.KeyboardCompat) != 0 ? Sources.Keyboard : 0) | ((pending & Sources.MouseCompat) != 0 ? Sources.Mouse : 0);
            _outputSource = (_status & StatusMouseOutput) != 0 ? SourceMouse : SourceKeyboard;
            _outputData = 0;
            _controllerData = 0;
        }
    }
}

/// <summary>Migration section of the keyboard controller.</summary>
[VmState("pckbd", Version = 3, MinimumVersion = 3)]
public sealed partial record I8042State
{
    /// <summary>Command whose data byte is awaited; 0 for none.</summary>
    public byte WriteCommand { get; init; }

    /// <summary>Status port.</summary>
    public byte Status { get; init; }

    /// <summary>Command byte.</summary>
    public byte Mode { get; init; }

    /// <summary>Who has something for the output buffer.</summary>
    public byte Pending { get; init; }

    /// <summary>Present when the output port is not what the status implies.</summary>
    [VmSubsection]
    public I8042OutportState? Outport { get; init; }

    /// <summary>Output buffer.</summary>
    [VmSubsection]
    public I8042ExtendedState? Extended { get; init; }
}

/// <summary>Output port.</summary>
[VmState("pckbd_outport")]
public sealed partial record I8042OutportState
{
    /// <summary>The port.</summary>
    public byte Outport { get; init; }
}

/// <summary>Output buffer.</summary>
[VmState("pckbd/extended_state", Version = 0, MinimumVersion = 0)]
public sealed partial record I8042ExtendedState
{
    /// <summary>Bit 0: the throttle timer was running, which ours never is.</summary>
    public uint Flags { get; init; }

    /// <summary>Where the output buffer's byte comes from.</summary>
    public uint OutputSource { get; init; }

    /// <summary>Byte last read.</summary>
    public byte OutputData { get; init; }

    /// <summary>The controller's own byte.</summary>
    public byte ControllerData { get; init; }
}
