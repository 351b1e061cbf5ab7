using System.Buffers.Binary;
using System.Text;

namespace Vmm.Machines.Loading;

/// <summary>The setup header of an x86 Linux kernel (Documentation/x86/boot.rst of Linux, "The Real-Mode Kernel Header").</summary>
public readonly record struct LinuxSetupHeader
{
    /// <summary>Protocol version, major in the high byte.</summary>
    public ushort Version { get; init; }

    /// <summary>loadflags; bit 0 LOADED_HIGH.</summary>
    public byte LoadFlags { get; init; }

    /// <summary>Bytes of real-mode code in front of the protected-mode kernel.</summary>
    public int SetupBytes { get; init; }

    /// <summary>Bytes of the header that belong into the zero page, counted from offset 0x1f1.</summary>
    public int HeaderBytes { get; init; }

    /// <summary>Highest address that the initial RAM disk may use.</summary>
    public ulong InitrdLimit { get; init; }

    /// <summary>xloadflags; 0 before protocol 2.12.</summary>
    public ushort XLoadFlags { get; init; }

    /// <summary>The kernel has a 64-bit entry point 0x200 behind its load address (XLF_KERNEL_64).</summary>
    public bool Has64BitEntry => (XLoadFlags & 1) != 0;
}

/// <summary>Direct boot of a Linux bzImage: zero page, memory map, command line and initial RAM disk made here, no real-mode code runs.</summary>
public static class LinuxBzImage
{
    private const uint HeaderMagic = 0x53726448;
    private const ushort OldestVersion = 0x202;
    private const int ZeroPageSize = 4096;
    private const int SetupHeaderOffset = 0x1f1;
    private const int SetupHeaderLimit = 0x290;
    private const uint LoadAddress = 0x100000;
    private const int MaxE820Entries = 128;

    // The identifier that is assigned to QEMU in the boot protocol's loader table.
    private const byte LoaderType = 0xb0;

    /// <summary>True when the beginning of a file carries the boot protocol's magic number.</summary>
    public static bool IsLinux(ReadOnlySpan<byte> start)
    {
        return start.Length >= 0x212 && BinaryPrimitives.ReadUInt32LittleEndian(start[0x202..]) == HeaderMagic;
    }

    /// <summary>Reads the setup header. Never throws; false for a kernel that cannot be entered without its real-mode code.</summary>
    /// <remarks>
    /// That is a zImage, and anything from before protocol 2.02 (Linux 2.4.0), which expects its command line at an offset from 0x90000.
    /// </remarks>
    /// <param name="start">The beginning of the file, 8 KiB or the whole file if it is shorter.</param>
    /// <param name="fileLength">Size of the file in bytes.</param>
    /// <param name="header">The values, if true.</param>
    public static bool TryParse(ReadOnlySpan<byte> start, long fileLength, out LinuxSetupHeader header)
    {
        header = default;
        if (!IsLinux(start) || start.Length < 0x268)
        {
            return false;
        }

        var version = BinaryPrimitives.ReadUInt16LittleEndian(start[0x206..]);
        var sectors = start[SetupHeaderOffset] == 0 ? 4 : start[SetupHeaderOffset];
        var setupBytes = (sectors + 1) * 512;
        if (setupBytes >= fileLength || version < OldestVersion || (start[0x211] & 1) == 0)
        {
            return false;
        }

        ulong initrdLimit = 0x37ffffff;
        ushort xloadFlags = 0;
        if (version >= 0x20c)
        {
            xloadFlags = BinaryPrimitives.ReadUInt16LittleEndian(start[0x236..]);
        }

        if ((xloadFlags & 2) != 0)
        {
            // XLF_CAN_BE_LOADED_ABOVE_4G. The RAM disk stays below all the same: that is what fits the 32-bit field of the header.
            initrdLimit = uint.MaxValue;
        }
        else if (version >= 0x203)
        {
            initrdLimit = BinaryPrimitives.ReadUInt32LittleEndian(start[0x22c..]);
        }

        // The byte behind the jump opcode is the jump's distance, so it tells where the header ends.
        var headerEnd = Math.Min(0x202 + start[0x201], SetupHeaderLimit);
        header = new LinuxSetupHeader
        {
            Version = version,
            LoadFlags = start[0x211],
            SetupBytes = setupBytes,
            HeaderBytes = Math.Min(headerEnd, start.Length) - SetupHeaderOffset,
            InitrdLimit = initrdLimit,
            XLoadFlags = xloadFlags,
        };
        return true;
    }

    internal static BootImage Load(KernelRequest request, BootFile kernel, ReadOnlySpan<byte> probe)
    {
        if (!string.IsNullOrEmpty(request.InitrdPath) && BinaryPrimitives.ReadUInt16LittleEndian(probe[0x206..]) < 0x200)
        {
            throw BootLoadException.Complete("qemu: linux kernel too old to load a ram disk");
        }

        if (!TryParse(probe, kernel.Length, out var header) || header.HeaderBytes < 0x20f - SetupHeaderOffset)
        {
            throw BootLoadException.Complete("qemu: invalid kernel header");
        }

        var segments = new List<BootSegment>();
        var low = new LowMemory();
        var kernelBytes = (ulong)(kernel.Length - header.SetupBytes);
        if (!request.Ram.IsRam(LoadAddress, kernelBytes))
        {
            throw new BootLoadException("kernel does not fit in address space");
        }

        low.Claim(LoadAddress, kernelBytes);
        KernelLoader.AddFirmwareAreas(request, segments);
        segments.Add(BootSegment.FromFile(LoadAddress, kernel, header.SetupBytes, kernelBytes));

        var videoMode = ParseVideoMode(request.CommandLine);
        var commandLine = Encoding.UTF8.GetBytes(request.CommandLine + '\0');
        var zeroPageAddress = low.Allocate(ZeroPageSize, 4096);
        var commandLineAddress = low.Allocate((ulong)commandLine.Length, 16);
        segments.Add(BootSegment.FromBytes(commandLineAddress, commandLine));

        var initrd = KernelLoader.OpenInitrd(request, header.InitrdLimit, LoadAddress, LoadAddress + kernelBytes, out var initrdAddress);
        if (initrd is { Length: > 0 })
        {
            segments.Add(BootSegment.FromFile(initrdAddress, initrd, 0, (ulong)initrd.Length));
        }

        var zeroPage = new byte[ZeroPageSize];
        probe.Slice(SetupHeaderOffset, header.HeaderBytes).CopyTo(zeroPage.AsSpan(SetupHeaderOffset));
        FillHeader(zeroPage, (uint)commandLineAddress, videoMode);
        if (initrd is not null)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(zeroPage.AsSpan(0x218), (uint)initrdAddress);
            BinaryPrimitives.WriteUInt32LittleEndian(zeroPage.AsSpan(0x21c), (uint)initrd.Length);
        }

        FillMemory(zeroPage, request);
        segments.Add(BootSegment.FromBytes(zeroPageAddress, zeroPage));

        var entry = header.Has64BitEntry && request.LongMode
            ? EntryTables.Long64(segments, low, LoadAddress + 0x200, rsi: zeroPageAddress)
            : EntryTables.Protected32(segments, low, LoadAddress, rsi: zeroPageAddress);
        return new BootImage(BootProtocol.Linux, segments, entry, kernel, initrd);
    }

    private static void FillHeader(Span<byte> zeroPage, uint commandLine, ushort? videoMode)
    {
        if (videoMode is { } mode)
        {
            BinaryPrimitives.WriteUInt16LittleEndian(zeroPage[0x1fa..], mode);
        }

        zeroPage[0x210] = LoaderType;
        zeroPage[0x211] |= 0x80;
        BinaryPrimitives.WriteUInt32LittleEndian(zeroPage[0x214..], LoadAddress);
        BinaryPrimitives.WriteUInt16LittleEndian(zeroPage[0x224..], 0xfe00);
        BinaryPrimitives.WriteUInt32LittleEndian(zeroPage[0x228..], commandLine);
    }

    // SPEC: Documentation/x86/zero-page.rst.
    private static void FillMemory(Span<byte> zeroPage, KernelRequest request)
    {
        BinaryPrimitives.WriteUInt64LittleEndian(zeroPage[0x70..], request.RsdpAddress);
        var extendedKiB = (request.Ram.BelowFourGiB - 0x100000) >> 10;
        BinaryPrimitives.WriteUInt16LittleEndian(zeroPage[0x02..], (ushort)Math.Min(extendedKiB, 0xfc00));
        BinaryPrimitives.WriteUInt32LittleEndian(zeroPage[0x1e0..], (uint)extendedKiB);
        var entries = Math.Min(request.Ram.E820.Count, MaxE820Entries);
        zeroPage[0x1e8] = (byte)entries;
        for (var i = 0; i < entries; i++)
        {
            var at = zeroPage[(0x2d0 + i * 20)..];
            BinaryPrimitives.WriteUInt64LittleEndian(at, request.Ram.E820[i].Address);
            BinaryPrimitives.WriteUInt64LittleEndian(at[8..], request.Ram.E820[i].Length);
            BinaryPrimitives.WriteUInt32LittleEndian(at[16..], (uint)request.Ram.E820[i].Type);
        }
    }

    /// <summary>The video mode that a <c>vga=</c> parameter asks the boot loader for: normal, ext, ask, or a number in C notation.</summary>
    /// <exception cref="BootLoadException">The value is none of these.</exception>
    internal static ushort? ParseVideoMode(string commandLine)
    {
        var at = commandLine.IndexOf("vga=", StringComparison.Ordinal);
        if (at < 0)
        {
            return null;
        }

        var value = commandLine.AsSpan(at + 4);
        var end = value.IndexOf(' ');
        if (end >= 0)
        {
            value = value[..end];
        }

        if (value.StartsWith("normal"))
        {
            return 0xffff;
        }

        if (value.StartsWith("ext"))
        {
            return 0xfffe;
        }

        if (value.StartsWith("ask"))
        {
            return 0xfffd;
        }

        var ok = value.StartsWith("0x", StringComparison.OrdinalIgnoreCase)
            ? ushort.TryParse(value[2..], System.Globalization.NumberStyles.AllowHexSpecifier, null, out var mode)
            : ushort.TryParse(value, out mode);
        return ok ? mode : throw BootLoadException.Complete("qemu: invalid 'vga=' kernel parameter.");
    }
}
