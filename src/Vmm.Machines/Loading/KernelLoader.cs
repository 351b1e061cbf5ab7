using System.Buffers.Binary;

namespace Vmm.Machines.Loading;

/// <summary>What the operator asked to boot, and the machine it is for.</summary>
public sealed class KernelRequest
{
    /// <summary><c>-kernel</c>.</summary>
    public required string KernelPath { get; init; }

    /// <summary><c>-initrd</c>, or null. For a multiboot kernel: modules "file arguments,file arguments".</summary>
    public string? InitrdPath { get; init; }

    /// <summary><c>-append</c>, with what the machine adds to it.</summary>
    public string CommandLine { get; init; } = "";

    public required RamLayout Ram { get; init; }

    /// <summary>Bytes at the top of low RAM where no initial RAM disk goes: 0x28000 on <c>pc</c>, 0 on <c>microvm</c>, as QEMU keeps them.</summary>
    public uint ReservedAtTop { get; init; }

    /// <summary>True when the vCPU model has long mode, so that a 64-bit entry point may be used.</summary>
    public bool LongMode { get; init; } = true;

    /// <summary>ACPI tables to place, or empty; see <c>Acpi.AcpiTables</c>.</summary>
    public IReadOnlyList<BootSegment> FirmwareTables { get; init; } = [];

    /// <summary>Address of the RSDP among <see cref="FirmwareTables"/>; 0 without ACPI.</summary>
    public ulong RsdpAddress { get; init; }
}

/// <summary>Recognises a kernel's format and prepares a direct boot, in the order in which QEMU tries: Linux, multiboot, PVH ELF.</summary>
public static class KernelLoader
{
    /// <summary>How much of a file's beginning decides what it is: the span in which multiboot 1 wants its header.</summary>
    internal const int ProbeBytes = 8192;


    /// <summary>Opens the files and lays the boot out. Nothing is written to guest memory yet.</summary>
    /// <exception cref="BootLoadException">With QEMU's message.</exception>
    public static BootImage Load(KernelRequest request)
    {
        BootFile kernel;
        try
        {
            kernel = BootFile.Open(request.KernelPath);
        }
        catch (BootFileException e) when (e.Opened)
        {
            throw BootLoadException.Complete($"qemu: could not load kernel '{request.KernelPath}': {e.Message}");
        }
        catch (BootFileException e)
        {
            throw BootLoadException.Complete($"qemu: could not open kernel file '{request.KernelPath}': {e.Message}");
        }

        try
        {
            return Load(request, kernel);
        }
        catch
        {
            kernel.Dispose();
            throw;
        }
    }

    /// <summary>As <see cref="Load(KernelRequest)"/> with a kernel that is open already; the image takes it over.</summary>
    public static BootImage Load(KernelRequest request, BootFile kernel)
    {
        var probe = new byte[(int)Math.Min(kernel.Length, ProbeBytes)];
        if (probe.Length == 0 || !kernel.TryReadExactly(0, probe))
        {
            throw BootLoadException.Complete($"qemu: could not load kernel '{kernel.Name}': Success");
        }

        if (LinuxBzImage.IsLinux(probe))
        {
            return LinuxBzImage.Load(request, kernel, probe);
        }

        if (Multiboot1.FindHeader(probe) is { } header)
        {
            return Multiboot1.Load(request, kernel, header);
        }

        if (probe.Length >= 4 && BinaryPrimitives.ReadUInt32BigEndian(probe) == 0x7f454c46)
        {
            return PvhElf.Load(request, kernel);
        }

        // What is left is either garbage or a kernel from before the boot protocol, which only its own real-mode code and a BIOS can start.
        throw BootLoadException.Complete("qemu: invalid kernel header");
    }

    /// <summary>Opens the initial RAM disk and finds its place as high as possible.</summary>
    /// <param name="request">Names the file; no file is no RAM disk.</param>
    /// <param name="limit">Highest address that the kernel accepts.</param>
    /// <param name="kernelStart">First address of the kernel.</param>
    /// <param name="kernelEnd">First address behind it; the two must not overlap.</param>
    /// <param name="address">Where it goes; 4 KiB aligned.</param>
    /// <exception cref="BootLoadException">The file cannot be read or does not fit.</exception>
    internal static BootFile? OpenInitrd(KernelRequest request, ulong limit, ulong kernelStart, ulong kernelEnd, out ulong address)
    {
        address = 0;
        if (string.IsNullOrEmpty(request.InitrdPath))
        {
            return null;
        }

        var path = request.InitrdPath;
        BootFile initrd;
        try
        {
            initrd = BootFile.Open(path);
        }
        catch (BootFileException e) when (e.Opened)
        {
            throw BootLoadException.Complete($"qemu: error reading initrd {path}: Failed to map {path}' {path}': mmap() failed: No such device");
        }
        catch (BootFileException e)
        {
            throw BootLoadException.Complete($"qemu: error reading initrd {path}: Failed to open file “{path}”: open() failed: {e.Message}");
        }

        var max = Math.Min(limit, request.Ram.BelowFourGiB - request.ReservedAtTop - 1);
        var length = (ulong)initrd.Length;
        if (length < max)
        {
            address = (max - length) & ~0xfffUL;
            if (length == 0 || address + length <= kernelStart || kernelEnd <= address)
            {
                return initrd;
            }

            max -= Math.Min(max, kernelEnd);
        }

        initrd.Dispose();
        throw BootLoadException.Complete($"qemu: initrd is too large, cannot support.(max: {max}, need {length})");
    }

    /// <summary>The BIOS data area words that a kernel may look at (COM1, extended area, base memory) and the caller's ACPI tables.</summary>
    internal static void AddFirmwareAreas(KernelRequest request, List<BootSegment> segments)
    {
        var bda = new byte[0x15];
        BinaryPrimitives.WriteUInt16LittleEndian(bda, 0x3f8);
        BinaryPrimitives.WriteUInt16LittleEndian(bda.AsSpan(0x0e), (ushort)(LowMemory.EbdaBase >> 4));
        BinaryPrimitives.WriteUInt16LittleEndian(bda.AsSpan(0x13), (ushort)(LowMemory.EbdaBase >> 10));
        segments.Add(BootSegment.FromBytes(LowMemory.BiosDataArea, bda));
        segments.AddRange(request.FirmwareTables);
    }
}
