using Vmm.Block.Backend;
using Vmm.Qapi;

namespace Vmm.Block.Drives;

/// <summary>What a drive is connected to.</summary>
public enum DriveInterface
{
    /// <summary>Nothing by itself: a device names it.</summary>
    None,

    /// <summary>IDE.</summary>
    Ide,

    /// <summary>SCSI.</summary>
    Scsi,

    /// <summary>Floppy disks.</summary>
    Floppy,

    /// <summary>Parallel flash memory.</summary>
    Pflash,

    /// <summary>Other flash memory of a board.</summary>
    Mtd,

    /// <summary>SD cards.</summary>
    Sd,

    /// <summary>virtio.</summary>
    Virtio,

    /// <summary>Xen.</summary>
    Xen,
}

/// <summary>A back end that was asked for with -drive or the like.</summary>
/// <param name="Interface">What it is connected to.</param>
/// <param name="Bus">Number of the bus.</param>
/// <param name="Unit">Number on the bus.</param>
/// <param name="Backend">The back end.</param>
/// <param name="Location">The option, for messages; null for one added at run time.</param>
public sealed record Drive(DriveInterface Interface, int Bus, int Unit, BlockBackend Backend, string? Location);

/// <summary>Names of interfaces. Pure.</summary>
public static class DriveInterfaces
{
    private static readonly string[] s_names = ["none", "ide", "scsi", "floppy", "pflash", "mtd", "sd", "virtio", "xen"];

    /// <summary>The name in options.</summary>
    public static string Name(DriveInterface type) => s_names[(int)type];

    /// <summary>The interface of that name.</summary>
    /// <exception cref="QapiException">There is none.</exception>
    public static DriveInterface Parse(string name)
    {
        int found = Array.IndexOf(s_names, name);
        return found >= 0 ? (DriveInterface)found : throw new QapiException($"unsupported bus type '{name}'");
    }

    /// <summary>Units of a bus unless the machine says otherwise; 0 where all are on one.</summary>
    public static int UnitsPerBus(DriveInterface type) => type switch
    {
        DriveInterface.Ide => 2,
        DriveInterface.Scsi => 7,
        _ => 0,
    };
}
