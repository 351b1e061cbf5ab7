namespace Vmm.ObjectModel.Virtio;

/// <summary>Feature bits of block devices and the place that a driver may write in their configuration (virtio 1.2, 5.2.3 and 5.2.4).</summary>
public static class VirtioBlkFeatures
{
    /// <summary>Segments have a greatest length.</summary>
    public const ulong SizeMax = 1ul << 1;

    /// <summary>Requests have a greatest number of segments.</summary>
    public const ulong SegMax = 1ul << 2;

    /// <summary>The disk has cylinders, heads and sectors.</summary>
    public const ulong Geometry = 1ul << 4;

    /// <summary>The disk cannot be written.</summary>
    public const ulong ReadOnly = 1ul << 5;

    /// <summary>The disk says what its blocks are.</summary>
    public const ulong BlockSize = 1ul << 6;

    /// <summary>Legacy: SCSI commands.</summary>
    public const ulong Scsi = 1ul << 7;

    /// <summary>Flushes.</summary>
    public const ulong Flush = 1ul << 9;

    /// <summary>The disk says how its blocks lie on the medium.</summary>
    public const ulong Topology = 1ul << 10;

    /// <summary>The driver may switch the write cache.</summary>
    public const ulong ConfigWce = 1ul << 11;

    /// <summary>Several queues.</summary>
    public const ulong Queues = 1ul << 12;

    /// <summary>Discards.</summary>
    public const ulong Discard = 1ul << 13;

    /// <summary>Writes of zeroes.</summary>
    public const ulong WriteZeroes = 1ul << 14;

    /// <summary>Where the byte that switches the write cache is in the configuration.</summary>
    public const int WceOffset = 32;
}
