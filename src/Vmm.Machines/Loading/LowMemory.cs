namespace Vmm.Machines.Loading;

/// <summary>How the first MiB is used when a kernel is started without firmware, and a small allocator for what the loaders put there.</summary>
/// <remarks>
/// 0x400 BIOS data area, 0x6000..0x90000 boot structures around whatever the kernel itself claims, 0x90000..0x9fc00 ACPI tables,
/// 0x9fc00 extended BIOS data area with the RSDP in its first KiB, where a kernel that is told nothing looks for it (ACPI 6.4, 5.2.5.1). SMBIOS
/// structures, where there are any, are where the BIOS would be.
/// </remarks>
public sealed class LowMemory
{
    public const ulong BiosDataArea = 0x400;
    public const ulong StructuresBase = 0x6000;
    public const ulong AcpiBase = 0x90000;
    public const ulong EbdaBase = 0x9fc00;
    public const ulong SmbiosBase = 0xf0000;
    public const int SmbiosSize = 0x10000;

    private readonly List<(ulong Start, ulong End)> _used = [];

    /// <summary>Takes a range out; ranges above the first MiB are remembered but do not matter.</summary>
    public void Claim(ulong gpa, ulong length) => _used.Add((gpa, gpa + length));

    /// <summary>The lowest free aligned range of <paramref name="length"/> bytes between the structures' base and the ACPI tables.</summary>
    /// <exception cref="BootLoadException">The kernel leaves no room for it.</exception>
    public ulong Allocate(ulong length, ulong alignment)
    {
        var start = StructuresBase;
        while (true)
        {
            start = (start + alignment - 1) & ~(alignment - 1);
            if (start + length > AcpiBase)
            {
                throw new BootLoadException("kernel does not fit in address space");
            }

            var next = start;
            foreach (var (s, e) in _used)
            {
                if (s < start + length && start < e && e > next)
                {
                    next = e;
                }
            }

            if (next == start)
            {
                Claim(start, length);
                return start;
            }

            start = next;
        }
    }
}
