using System.Buffers.Binary;
using Vmm.Memory;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.Devices.FwCfg;

/// <summary>The memory mapped configuration device: data at 0, big-endian selector at 8, DMA at 16. Placed by a board.</summary>
[QomType("fw_cfg_mem", UserCreatable = false)]
public sealed partial class FwCfgMem : FwCfgDevice
{
    private const ulong SelectorOffset = 8;
    private const ulong DmaOffset = 16;

    /// <summary>Widest data access in bytes: 1, 2, 4 or 8. The board sets it.</summary>
    [QomProperty("data_width", Default = "4294967295")]
    public uint DataWidth { get; set; } = uint.MaxValue;

    /// <summary>Where the board maps it.</summary>
    public ulong Address { get; set; }

    /// <inheritdoc/>
    protected override void MapRegions()
    {
        if (DataWidth is not (1 or 2 or 4 or 8))
        {
            throw new QapiException(QapiErrorClass.GenericError, "Invalid parameter 'data_width'");
        }

        MapMemory("fwcfg.ctl", Address + SelectorOffset, 2, new IoWindow(static (_, _) => 0, WriteSelector), new IoConstraints(2, 2, 2, 2));
        MapMemory(
            "fwcfg.data",
            Address,
            DataWidth,
            new IoWindow(ReadData, static (_, _, _) => { }),
            new IoConstraints(1, (byte)DataWidth, 1, (byte)DataWidth));
        if (DmaEnabled)
        {
            MapMemory("fwcfg.dma", Address + DmaOffset, 8, new IoWindow(ReadDmaRegister, WriteDmaRegister), IoConstraints.Exact(8));
        }
    }

    // The first byte of the item comes at the lowest address.
    private ulong ReadData(ulong offset, int size)
    {
        ulong value = 0;
        for (int i = 0; i < size; i++)
        {
            value |= (ulong)ReadByte() << (i * 8);
        }

        return value;
    }

    private void WriteSelector(ulong offset, ulong value, int size) => Select(BinaryPrimitives.ReverseEndianness((ushort)value));
}
