using Vmm.ObjectModel.Accel;

namespace Vmm.Dump.Guest;

/// <summary>Notes of a dump: processors, and what the guest's kernel says of itself.</summary>
internal sealed class GuestNotes
{
    private GuestNotes(byte[] bytes, VmCoreInfo? info, bool isLong)
    {
        Bytes = bytes;
        if (info is not null)
        {
            VmCoreInfoOffset = bytes.Length - info.Note.Length + info.DescriptorOffset;
            VmCoreInfoLength = info.Descriptor.Length;

            // Kernels of 32 bits have no such line.
            PhysicalBase = isLong ? (ulong)(info.Number("NUMBER(phys_base)="u8) ?? 0) : 0;
        }
    }

    /// <summary>All notes, one behind the other.</summary>
    internal byte[] Bytes { get; }

    /// <summary>Where the text of VMCOREINFO is in <see cref="Bytes"/>.</summary>
    internal int VmCoreInfoOffset { get; }

    /// <summary>Bytes of that text; 0 when the guest gave none.</summary>
    internal int VmCoreInfoLength { get; }

    /// <summary>Physical address that the guest's kernel was loaded for, less the one it was linked for.</summary>
    internal ulong PhysicalBase { get; }

    /// <summary>The notes of processors, and behind them the guest's own.</summary>
    internal static GuestNotes Of(ReadOnlySpan<CpuArchState> cpus, VmCoreInfo? info) =>
        new(info is null ? CpuNotes.Write(cpus) : [.. CpuNotes.Write(cpus), .. info.Note], info, CpuNotes.IsLong(cpus[0]));
}
