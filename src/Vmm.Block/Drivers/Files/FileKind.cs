using Vmm.Interop;

namespace Vmm.Block.Drivers.Files;

/// <summary>What a path is to name.</summary>
public enum FileKind
{
    /// <summary>A regular file.</summary>
    Regular,

    /// <summary>A block or character device.</summary>
    Device,

    /// <summary>A CD-ROM drive, with or without a disc.</summary>
    Cdrom,
}

/// <summary>What the kernel says of a CD-ROM drive (linux/cdrom.h).</summary>
internal static class Cdrom
{
    private const uint DriveStatus = 0x5326;
    private const int CurrentSlot = int.MaxValue;
    private const int DiscOk = 4;

    /// <summary>The descriptor is one of a drive.</summary>
    internal static bool IsDrive(int fd) => Libc.Ioctl(fd, DriveStatus, CurrentSlot) >= 0;

    /// <summary>A disc is in the drive and can be read.</summary>
    internal static bool HasDisc(int fd) => Libc.Ioctl(fd, DriveStatus, CurrentSlot) == DiscOk;
}
