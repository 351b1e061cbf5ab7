using Vmm.ObjectModel.VmState;

namespace Vmm.Devices.I8257;

/// <summary>One channel of a DMA controller.</summary>
internal sealed class DmaChannel
{
    public int CurrentAddress { get; private set; }

    public int CurrentCount { get; private set; }

    public ushort BaseAddress { get; private set; }

    public ushort BaseCount { get; private set; }

    public byte Mode { get; set; }

    public byte Page { get; set; }

    public byte HighPage { get; set; }

    /// <summary>Writes one byte of a base register; the second one restarts the channel.</summary>
    public void WriteBase(bool isCount, byte value, bool high, int shift)
    {
        ushort old = isCount ? BaseCount : BaseAddress;
        ushort updated = (ushort)(high ? (old & 0x00ff) | (value << 8) : (old & 0xff00) | value);
        if (isCount)
        {
            BaseCount = updated;
        }
        else
        {
            BaseAddress = updated;
        }

        if (high)
        {
            CurrentAddress = BaseAddress << shift;
            CurrentCount = 0;
        }
    }

    public DmaChannelState Capture() => new()
    {
        CurrentAddress = CurrentAddress,
        CurrentCount = CurrentCount,
        BaseAddress = BaseAddress,
        BaseCount = BaseCount,
        Mode = Mode,
        Page = Page,
        PageHigh = HighPage,
    };

    public void Apply(DmaChannelState s)
    {
        CurrentAddress = s.CurrentAddress;
        CurrentCount = s.CurrentCount;
        BaseAddress = s.BaseAddress;
        BaseCount = s.BaseCount;
        Mode = s.Mode;
        Page = s.Page;
        HighPage = s.PageHigh;
    }
}

/// <summary>Migration section of a DMA controller.</summary>
[VmState("dma")]
public sealed partial record DmaState
{
    /// <summary>Command register.</summary>
    public byte Command { get; init; }

    /// <summary>Masked channels.</summary>
    public byte Mask { get; init; }

    /// <summary>The next byte is the high one.</summary>
    public byte FlipFlop { get; init; }

    /// <summary>Size of a transfer as a power of two.</summary>
    public int Shift { get; init; }

    /// <summary>The channels.</summary>
    [VmArray(4)]
    public DmaChannelState[] Channels { get; init; } = [new(), new(), new(), new()];
}

/// <summary>A channel.</summary>
[VmState("dma_regs")]
public sealed partial record DmaChannelState
{
    /// <summary>Address now.</summary>
    public int CurrentAddress { get; init; }

    /// <summary>Bytes transferred.</summary>
    public int CurrentCount { get; init; }

    /// <summary>Start address.</summary>
    public ushort BaseAddress { get; init; }

    /// <summary>Length less one.</summary>
    public ushort BaseCount { get; init; }

    /// <summary>Mode register.</summary>
    public byte Mode { get; init; }

    /// <summary>Page register.</summary>
    public byte Page { get; init; }

    /// <summary>High page register.</summary>
    public byte PageHigh { get; init; }

    /// <summary>Acknowledge.</summary>
    public byte Acknowledge { get; init; }

    /// <summary>End of process.</summary>
    public byte EndOfProcess { get; init; }
}
