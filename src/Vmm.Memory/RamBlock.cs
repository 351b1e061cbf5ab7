using System.Numerics;
using Vmm.Interop;

namespace Vmm.Memory;

/// <summary>
/// A piece of guest RAM (or ROM): host memory that never is GC memory. It stays mapped as long as any view of an address space refers to
/// it; <see cref="Discard"/> gives the pages back before that.
/// </summary>
public sealed unsafe class RamBlock
{
    /// <summary>Granularity of dirty logging: 4 KiB.</summary>
    public const int DirtyPageBits = 12;

    private readonly MappedMemory _memory;
    private ulong[]? _vgaDirty;
    private ulong[]? _migrationDirty;

    /// <summary>A block over <paramref name="memory"/>.</summary>
    /// <param name="name">Block name; see <see cref="IdString"/>.</param>
    /// <param name="memory">The mapping, owned by the block from now on.</param>
    /// <param name="usedSize">Bytes in use, at most the mapping's length.</param>
    /// <param name="fd">Descriptor behind a file or memfd mapping, owned by the block; null for anonymous memory.</param>
    /// <param name="fdOffset">Offset of the mapping in that file.</param>
    public RamBlock(string name, MappedMemory memory, ulong usedSize, SafeFd? fd = null, ulong fdOffset = 0)
    {
        Name = name;
        IdString = name;
        _memory = memory;
        UsedSize = usedSize;
        File = fd;
        FileOffset = fdOffset;
    }

    /// <summary>Name given at creation.</summary>
    public string Name { get; }

    /// <summary>Name on the migration stream, e.g. <c>pc.ram</c> or <c>0000:00:03.0/virtio-net-pci.rom</c>.</summary>
    public string IdString { get; set; }

    /// <summary>Host address of the first byte.</summary>
    public nint HostAddress => _memory.Address;

    /// <summary>Size of the mapping in bytes: the most that <see cref="UsedSize"/> can become.</summary>
    public ulong Size => _memory.Length;

    /// <summary>Bytes that the guest sees.</summary>
    public ulong UsedSize { get; private set; }

    /// <summary>Page size of the backing memory in bytes.</summary>
    public ulong PageSize { get; init; } = 4096;

    /// <summary>Mapped shared: other processes that map the file see the guest's writes.</summary>
    public bool IsShared { get; init; }

    /// <summary>Shared memory of a tmpfs file or memfd: pages that nobody has touched are holes of it, which reading would allocate.</summary>
    public bool HasHoles { get; init; }

    /// <summary><see cref="Resize"/> is allowed.</summary>
    public bool IsResizeable { get; init; }

    /// <summary>Part of the migration stream.</summary>
    public bool IsMigratable { get; set; } = true;

    /// <summary>Descriptor of the backing file or memfd; null for anonymous memory.</summary>
    public SafeFd? File { get; }

    /// <summary>Offset of the block in <see cref="File"/>.</summary>
    public ulong FileOffset { get; }

    /// <summary>The whole mapping, for madvise and mprotect.</summary>
    public MappedMemory Mapping => _memory;

    /// <summary>Bytes [offset, offset+length); throws when outside of the block. The block must outlive the span.</summary>
    public Span<byte> Span(ulong offset, int length) => _memory.AsSpan(offset, length);

    /// <summary>
    /// Whether the bytes [offset, offset+length) are known to be in a hole: they read as zeroes, and not reading them saves the memory.
    /// One system call for memory that <see cref="HasHoles"/>. Any thread.
    /// </summary>
    public bool IsHole(ulong offset, ulong length)
    {
        if (!HasHoles || length == 0)
        {
            return false;
        }

        long from = (long)(FileOffset + offset);
        long data = Libc.LSeek(File!.Fd, from, Libc.SEEK_DATA);
        return data == -(long)Errno.ENXIO || data >= from + (long)length;
    }

    /// <summary>Changes <see cref="UsedSize"/> within <see cref="Size"/>; the caller resizes the region and tells migration.</summary>
    public void Resize(ulong usedSize)
    {
        if (!IsResizeable || usedSize > Size)
        {
            throw new InvalidOperationException($"RAM block {IdString} cannot become {usedSize} bytes");
        }

        UsedSize = usedSize;
    }

    /// <summary>
    /// Gives pages back to the host: they read as zero (anonymous), or as the file has them. Shared file memory is punched out.
    /// </summary>
    public Errno Discard(ulong offset, ulong length)
    {
        if (File is { } file && IsShared)
        {
            return Libc.FAllocate(file.Fd, Libc.FALLOC_FL_PUNCH_HOLE | Libc.FALLOC_FL_KEEP_SIZE, (long)(FileOffset + offset), (long)length);
        }

        return _memory.Advise(offset, length, Libc.MADV_DONTNEED);
    }

    /// <summary>Makes a bitmap for each of <paramref name="clients"/>, all clean, unless it is there.</summary>
    public void EnableDirtyBitmap(DirtyClients clients)
    {
        int words = checked((int)(((Size >> DirtyPageBits) + 63) / 64)) + 1;
        if ((clients & DirtyClients.Vga) != 0 && _vgaDirty is null)
        {
            Volatile.Write(ref _vgaDirty, new ulong[words]);
        }

        if ((clients & DirtyClients.Migration) != 0 && _migrationDirty is null)
        {
            Volatile.Write(ref _migrationDirty, new ulong[words]);
        }
    }

    /// <summary>Drops bitmaps.</summary>
    public void DisableDirtyBitmap(DirtyClients clients)
    {
        if ((clients & DirtyClients.Vga) != 0)
        {
            Volatile.Write(ref _vgaDirty, null);
        }

        if ((clients & DirtyClients.Migration) != 0)
        {
            Volatile.Write(ref _migrationDirty, null);
        }
    }

    /// <summary>
    /// The bitmap of one client, bit n of word n/64 for page n; empty when it has none. Other threads may be setting bits.
    /// </summary>
    public Span<ulong> DirtyBitmap(DirtyClients client) => Bitmap(client);

    /// <summary>Sets the bits of all pages that the bytes [offset, offset+length) touch. Any thread.</summary>
    public void MarkDirty(ulong offset, ulong length, DirtyClients clients)
    {
        if (length == 0)
        {
            return;
        }

        ulong first = offset >> DirtyPageBits;
        ulong last = (offset + length - 1) >> DirtyPageBits;
        if ((clients & DirtyClients.Vga) != 0)
        {
            SetBits(Volatile.Read(ref _vgaDirty), first, last);
        }

        if ((clients & DirtyClients.Migration) != 0)
        {
            SetBits(Volatile.Read(ref _migrationDirty), first, last);
        }
    }

    /// <summary>
    /// Merges a log of the accelerator: bit n of <paramref name="log"/> is page <paramref name="firstPage"/> + n of the block. Any
    /// thread.
    /// </summary>
    public void MergeDirty(ulong firstPage, ReadOnlySpan<ulong> log, ulong pages, DirtyClients clients)
    {
        for (int client = 1; client <= (int)DirtyClients.Migration; client <<= 1)
        {
            ulong[]? bitmap = ((int)clients & client) != 0 ? Bitmap((DirtyClients)client) : null;
            if (bitmap is null || bitmap.Length == 0)
            {
                continue;
            }

            int shift = (int)(firstPage & 63);
            ulong word = firstPage >> 6;
            for (int i = 0; (ulong)i * 64 < pages; i++)
            {
                ulong bits = log[i];
                ulong left = pages - ((ulong)i * 64);
                if (left < 64)
                {
                    bits &= (1UL << (int)left) - 1;
                }

                if (bits == 0)
                {
                    continue;
                }

                Interlocked.Or(ref bitmap[(int)word + i], bits << shift);
                if (shift != 0 && bits >> (64 - shift) != 0)
                {
                    Interlocked.Or(ref bitmap[(int)word + i + 1], bits >> (64 - shift));
                }
            }
        }
    }

    /// <summary>True when any page that the bytes [offset, offset+length) touch is dirty.</summary>
    public bool IsDirty(ulong offset, ulong length, DirtyClients client)
    {
        ulong[] bitmap = Bitmap(client);
        if (bitmap.Length == 0 || length == 0)
        {
            return false;
        }

        ulong last = (offset + length - 1) >> DirtyPageBits;
        for (ulong page = offset >> DirtyPageBits; page <= last;)
        {
            ulong mask = WordMask(page, last, out ulong next);
            if ((Volatile.Read(ref bitmap[(int)(page >> 6)]) & mask) != 0)
            {
                return true;
            }

            page = next;
        }

        return false;
    }

    /// <summary>Clears the bits of all pages that the bytes touch and says whether any was set. Any thread.</summary>
    public bool TestAndClearDirty(ulong offset, ulong length, DirtyClients client)
    {
        ulong[] bitmap = Bitmap(client);
        if (bitmap.Length == 0 || length == 0)
        {
            return false;
        }

        bool any = false;
        ulong last = (offset + length - 1) >> DirtyPageBits;
        for (ulong page = offset >> DirtyPageBits; page <= last;)
        {
            ulong mask = WordMask(page, last, out ulong next);
            ref ulong word = ref bitmap[(int)(page >> 6)];
            if ((Volatile.Read(ref word) & mask) != 0)
            {
                any |= (Interlocked.And(ref word, ~mask) & mask) != 0;
            }

            page = next;
        }

        return any;
    }

    /// <summary>Number of dirty pages of one client.</summary>
    public ulong CountDirty(DirtyClients client)
    {
        ulong count = 0;
        foreach (ulong word in Bitmap(client))
        {
            count += (ulong)BitOperations.PopCount(word);
        }

        return count;
    }

    /// <inheritdoc/>
    public override string ToString() => $"{IdString} ({UsedSize:x})";

    private static void SetBits(ulong[]? bitmap, ulong page, ulong last)
    {
        if (bitmap is null)
        {
            return;
        }

        while (page <= last)
        {
            ulong mask = WordMask(page, last, out ulong next);
            ref ulong word = ref bitmap[(int)(page >> 6)];
            if ((Volatile.Read(ref word) & mask) != mask)
            {
                Interlocked.Or(ref word, mask);
            }

            page = next;
        }
    }

    private static ulong WordMask(ulong page, ulong last, out ulong next)
    {
        ulong wordLast = page | 63;
        ulong mask = ulong.MaxValue << (int)(page & 63);
        if (last < wordLast)
        {
            mask &= ulong.MaxValue >> (63 - (int)(last & 63));
        }

        next = wordLast + 1;
        return mask;
    }

    private ulong[] Bitmap(DirtyClients client) => client switch
    {
        DirtyClients.Vga => Volatile.Read(ref _vgaDirty) ?? [],
        DirtyClients.Migration => Volatile.Read(ref _migrationDirty) ?? [],
        _ => [],
    };
}
