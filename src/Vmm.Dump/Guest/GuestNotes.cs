namespace Vmm.Dump.Guest;

/// <summary>Notes of a dump: processors, and what the guest's kernel says of itself.</summary>
internal sealed class GuestNotes
{
    /// <summary>All notes, one behind the other.</summary>
    internal required byte[] Bytes { get; init; }

    /// <summary>Where the text of VMCOREINFO is in <see cref="Bytes"/>.</summary>
    internal int VmCoreInfoOffset { get; init; }

    /// <summary>Bytes of that text; 0 when the guest gave none.</summary>
    internal int VmCoreInfoLength { get; init; }

    /// <summary>Physical address that the guest's kernel was loaded for, less the one it was linked for.</summary>
    internal ulong PhysicalBase { get; init; }
}
