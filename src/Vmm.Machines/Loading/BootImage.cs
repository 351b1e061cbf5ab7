using Vmm.ObjectModel.Accel;

namespace Vmm.Machines.Loading;

/// <summary>Gives access to guest RAM at <paramref name="gpa"/>.</summary>
/// <returns>A prefix of the requested range that is contiguous in host memory: at least one byte, or empty where no RAM answers.</returns>
public delegate Span<byte> GuestRamMapper(ulong gpa, int length);

/// <summary>A range of guest RAM and where its bytes come from: memory, a slice of an open file, or zeros.</summary>
public readonly struct BootSegment
{
    private readonly ReadOnlyMemory<byte> _bytes;
    private readonly BootFile? _file;
    private readonly long _fileOffset;

    private BootSegment(ulong gpa, ulong length, ReadOnlyMemory<byte> bytes, BootFile? file, long fileOffset)
    {
        Gpa = gpa;
        Length = length;
        _bytes = bytes;
        _file = file;
        _fileOffset = fileOffset;
    }

    /// <summary>First guest physical address.</summary>
    public ulong Gpa { get; }

    /// <summary>Size in bytes, never zero.</summary>
    public ulong Length { get; }

    /// <summary>First address behind the segment.</summary>
    public ulong End => Gpa + Length;

    /// <summary>True when the range is only cleared: a fresh machine's RAM needs no write there.</summary>
    public bool IsZero => _file is null && _bytes.IsEmpty;

    public static BootSegment FromBytes(ulong gpa, ReadOnlyMemory<byte> bytes) => new(gpa, (ulong)bytes.Length, bytes, null, 0);

    public static BootSegment FromFile(ulong gpa, BootFile file, long offset, ulong length) => new(gpa, length, default, file, offset);

    public static BootSegment Zero(ulong gpa, ulong length) => new(gpa, length, default, null, 0);

    public bool Overlaps(ulong gpa, ulong length) => Gpa < gpa + length && gpa < End;

    /// <summary>Writes the segment into guest RAM; a file is read straight into it.</summary>
    /// <exception cref="BootLoadException">No RAM at some address, or the file has become shorter.</exception>
    public void WriteTo(GuestRamMapper map)
    {
        ulong done = 0;
        while (done < Length)
        {
            var chunk = (int)Math.Min(Length - done, 1u << 30);
            var target = map(Gpa + done, chunk);
            if (target.IsEmpty)
            {
                throw new BootLoadException("kernel does not fit in address space");
            }

            if (target.Length > chunk)
            {
                target = target[..chunk];
            }

            if (_file is not null)
            {
                if (_file.Read(_fileOffset + (long)done, target) != target.Length)
                {
                    throw new BootLoadException($"Error loading file '{_file.Name}'");
                }
            }
            else if (!_bytes.IsEmpty)
            {
                _bytes.Span.Slice((int)done, target.Length).CopyTo(target);
            }
            else
            {
                target.Clear();
            }

            done += (ulong)target.Length;
        }
    }
}

/// <summary>The boot protocol that an image follows.</summary>
public enum BootProtocol
{
    Linux,
    Pvh,
    Multiboot,
}

/// <summary>Everything a machine needs to start a kernel without firmware: what to place in RAM, and how the first vCPU starts.</summary>
/// <remarks>Applied at start and again at every reset. Owns the files that its segments refer to. The other vCPUs wait for INIT and SIPI.</remarks>
public sealed class BootImage : IDisposable
{
    private readonly BootFile[] _files;

    internal BootImage(BootProtocol protocol, List<BootSegment> segments, CpuEntryState entry, params ReadOnlySpan<BootFile?> files)
    {
        Protocol = protocol;
        Segments = segments;
        Entry = entry;
        var owned = new List<BootFile>(files.Length);
        foreach (var file in files)
        {
            if (file is not null)
            {
                owned.Add(file);
            }
        }

        _files = [.. owned];
    }

    public BootProtocol Protocol { get; }

    /// <summary>What to place, in this order: a later segment wins where two overlap.</summary>
    public IReadOnlyList<BootSegment> Segments { get; }

    /// <summary>State of the bootstrap processor when it starts.</summary>
    public CpuEntryState Entry { get; }

    /// <summary>Lines that QEMU prints while it loads such an image and goes on.</summary>
    public IReadOnlyList<string> Warnings { get; init; } = [];

    /// <summary>What monitors list of the kernel; only ELF files have pieces that are known by name.</summary>
    public IReadOnlyList<RomInfo> Roms { get; init; } = [];

    /// <summary>Places all segments.</summary>
    /// <param name="map">Access to guest RAM.</param>
    /// <param name="ramIsZero">True for a machine that has never run: clearing is skipped, so untouched pages stay unallocated.</param>
    /// <exception cref="BootLoadException">A segment lies outside RAM, or a file has become shorter.</exception>
    public void LoadInto(GuestRamMapper map, bool ramIsZero)
    {
        foreach (var segment in Segments)
        {
            if (!(segment.IsZero && ramIsZero))
            {
                segment.WriteTo(map);
            }
        }
    }

    public void Dispose()
    {
        foreach (var file in _files)
        {
            file.Dispose();
        }
    }
}
