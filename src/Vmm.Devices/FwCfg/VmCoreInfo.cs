using System.Buffers.Binary;
using Vmm.ObjectModel.Devices;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.VmState;
using Vmm.Qapi;

namespace Vmm.Devices.FwCfg;

/// <summary>
/// The fw_cfg file <c>etc/vmcoreinfo</c>, into which a guest's kernel writes where it keeps the note for crash dumps.
/// </summary>
/// <remarks>Source: QEMU docs/specs/vmcoreinfo. Home: the main loop under the machine lock.</remarks>
[QomType("vmcoreinfo", Category = "Misc", Hotpluggable = false)]
public sealed partial class VmCoreInfo : Device, IVmCoreInfo, IVmStateful
{
    private const string FileName = "etc/vmcoreinfo";
    private const int FileBytes = 16;
    private const ushort FormatNone = 0;
    private const ushort FormatElf = 1;

    // Format of the host's, format of the guest's, size, and address, little-endian.
    private readonly byte[] _file = new byte[FileBytes];
    private bool _isWritten;

    /// <inheritdoc/>
    public VmCoreInfoNote? Note => !_isWritten ? null : new VmCoreInfoNote(
        BinaryPrimitives.ReadUInt16LittleEndian(_file.AsSpan(2)),
        BinaryPrimitives.ReadUInt64LittleEndian(_file.AsSpan(8)),
        BinaryPrimitives.ReadUInt32LittleEndian(_file.AsSpan(4)));

    /// <inheritdoc/>
    public string VmStateName => "vmcoreinfo";

    /// <inheritdoc/>
    public int VmStateVersion => 1;

    /// <inheritdoc/>
    public override void Reset()
    {
        _isWritten = false;
        _file.AsSpan().Clear();
        BinaryPrimitives.WriteUInt16LittleEndian(_file, FormatElf);
    }

    /// <inheritdoc/>
    public void SaveState(VmStateWriter writer) => new VmCoreInfoState
    {
        IsWritten = _isWritten,
        HostFormat = BinaryPrimitives.ReadUInt16LittleEndian(_file),
        GuestFormat = BinaryPrimitives.ReadUInt16LittleEndian(_file.AsSpan(2)),
        Length = BinaryPrimitives.ReadUInt32LittleEndian(_file.AsSpan(4)),
        Address = BinaryPrimitives.ReadUInt64LittleEndian(_file.AsSpan(8)),
    }.Save(writer);

    /// <inheritdoc/>
    public void LoadState(VmStateReader reader, int version)
    {
        VmCoreInfoState state = VmCoreInfoState.Load(reader, version);
        _isWritten = state.IsWritten;
        BinaryPrimitives.WriteUInt16LittleEndian(_file, state.HostFormat);
        BinaryPrimitives.WriteUInt16LittleEndian(_file.AsSpan(2), state.GuestFormat);
        BinaryPrimitives.WriteUInt32LittleEndian(_file.AsSpan(4), state.Length);
        BinaryPrimitives.WriteUInt64LittleEndian(_file.AsSpan(8), state.Address);
    }

    /// <inheritdoc/>
    protected override void Realize(IMachineServices machine)
    {
        // The device that is being realized is in the tree already: another one makes the search ambiguous.
        machine.Objects.Resolve("", Type.Name, out bool isAmbiguous);
        if (isAmbiguous)
        {
            throw new QapiException("at most one vmcoreinfo device is permitted");
        }

        if (FwCfgDevice.Find(machine.Objects) is not { DmaEnabled: true } fwCfg)
        {
            throw new QapiException("vmcoreinfo device requires fw_cfg with DMA");
        }

        Reset();
        fwCfg.AddWritableFile(FileName, _file, OnWrite);
    }

    // Only what comes in one piece is a note.
    private void OnWrite(uint offset, uint length) =>
        _isWritten = offset == 0 && length == FileBytes && BinaryPrimitives.ReadUInt16LittleEndian(_file.AsSpan(2)) != FormatNone;
}

/// <summary>Migration section of the device.</summary>
[VmState("vmcoreinfo")]
public sealed partial record VmCoreInfoState
{
    /// <summary>The guest has told something.</summary>
    public bool IsWritten { get; init; }

    /// <summary>Form that the host understands.</summary>
    public ushort HostFormat { get; init; }

    /// <summary>Form of the information.</summary>
    public ushort GuestFormat { get; init; }

    /// <summary>Bytes.</summary>
    public uint Length { get; init; }

    /// <summary>Guest-physical address.</summary>
    public ulong Address { get; init; }
}
