using Vmm.Memory;
using Vmm.ObjectModel.Qom;

namespace Vmm.Devices.FwCfg;

/// <summary>The configuration device in the port space: selector 0x510, data 0x511, DMA 0x514.</summary>
[QomType("fw_cfg_io", UserCreatable = false)]
public sealed partial class FwCfgIo : FwCfgDevice
{
    private const uint DmaOffset = 4;

    /// <summary>First port.</summary>
    public uint IoBase { get; set; } = 0x510;

    /// <inheritdoc/>
    protected override void MapRegions()
    {
        MapPorts("fwcfg", IoBase, 2, new IoWindow(ReadPort, WritePort), IoConstraints.Exact(4));
        if (DmaEnabled)
        {
            MapPorts("fwcfg.dma", IoBase + DmaOffset, 8, new IoWindow(ReadDmaRegister, WriteDmaRegister), IoConstraints.Exact(8));
        }
    }

    // Bytes are data at either port; words select. A word read means nothing and is zero.
    private ulong ReadPort(ulong offset, int size) => size == 1 ? ReadByte() : 0ul;

    private void WritePort(ulong offset, ulong value, int size)
    {
        if (size == 2 && offset == 0)
        {
            Select((ushort)value);
        }
    }
}
