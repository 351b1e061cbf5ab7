namespace Vmm.ObjectModel.Virtio;

/// <summary>A queue as a migration stream has it.</summary>
public struct QueueState
{
    /// <summary>Entries.</summary>
    public uint Size;

    /// <summary>Alignment of a legacy ring.</summary>
    public uint Alignment;

    /// <summary>Address of the descriptors.</summary>
    public ulong Descriptors;

    /// <summary>Address of the available ring.</summary>
    public ulong Available;

    /// <summary>Address of the used ring.</summary>
    public ulong Used;

    /// <summary>Next available index.</summary>
    public ushort LastAvailable;
}

/// <summary>Where a packed ring is.</summary>
public readonly record struct PackedPosition(ushort LastAvailable, bool AvailableWrap, ushort UsedIndex, bool UsedWrap, uint InUse)
{
    /// <summary>After a reset.</summary>
    public static PackedPosition Start => new(0, true, 0, true, 0);
}
