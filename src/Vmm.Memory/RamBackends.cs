using Vmm.Interop;

namespace Vmm.Memory;

/// <summary>NUMA policy for guest RAM.</summary>
public enum RamNumaPolicy
{
    /// <summary>The host's.</summary>
    Default,

    /// <summary>From the given nodes while they have memory.</summary>
    Preferred,

    /// <summary>From the given nodes only.</summary>
    Bind,

    /// <summary>Page by page from the given nodes in turn.</summary>
    Interleave,
}

/// <summary>What all backends of guest RAM have in common.</summary>
/// <param name="Name">Block name.</param>
/// <param name="Size">Bytes; rounded up to the page size of the backing memory.</param>
public sealed record RamOptions(string Name, ulong Size)
{
    /// <summary>Map shared.</summary>
    public bool Share { get; init; }

    /// <summary>Touch all pages before the guest runs.</summary>
    public bool Prealloc { get; init; }

    /// <summary>Threads that touch pages, at least 1.</summary>
    public int PreallocThreads { get; init; } = 1;

    /// <summary>Let the host merge equal pages (KSM).</summary>
    public bool Merge { get; init; } = true;

    /// <summary>Have the memory in core dumps of this process.</summary>
    public bool Dump { get; init; } = true;

    /// <summary>False: MAP_NORESERVE.</summary>
    public bool Reserve { get; init; } = true;

    /// <summary>Host nodes as a bit map, bit n of word n/64; empty for none.</summary>
    public ulong[] HostNodes { get; init; } = [];

    /// <summary>How <see cref="HostNodes"/> are used.</summary>
    public RamNumaPolicy Policy { get; init; }

    /// <summary>Runs the allocation of pages on the thread that its threads are to be started from; null for the caller's.</summary>
    public Action<Action>? RunPreallocation { get; init; }

    /// <summary>The file is on persistent memory: a shared mapping is to survive a crash of the host (MAP_SYNC).</summary>
    public bool IsPersistent { get; init; }

    /// <summary>Takes warnings, without line end; null for nobody.</summary>
    public Action<string>? Warn { get; init; }

    /// <summary>Largest size for later <see cref="RamBlock.Resize"/>; 0 for a fixed size.</summary>
    public ulong MaxSize { get; init; }
}

/// <summary>
/// Makes the memory behind guest RAM. Failures are QEMU's texts, ready for an error reply; nothing is left behind then.
/// </summary>
public static class RamBackends
{
    private const ulong HostPage = 4096;
    private const int HugePageShift = 26;
    private const long HugeTlbFsMagic = 0x958458f6;
    private const long TmpFsMagic = 0x01021994;

    /// <summary>Anonymous memory (<c>memory-backend-ram</c>, ROMs, frame buffers).</summary>
    public static RamBlock? CreateAnonymous(RamOptions options, out string? error)
    {
        int flags = (options.Share ? Libc.MAP_SHARED : Libc.MAP_PRIVATE) | Libc.MAP_ANONYMOUS | (options.Reserve ? 0 : Libc.MAP_NORESERVE);
        ulong used = RoundUp(options.Size, HostPage);
        ulong size = Math.Max(used, RoundUp(options.MaxSize, HostPage));

        // Transparent huge pages need memory that is aligned to them.
        ulong alignment = size >= 0x200000 ? 0x200000UL : HostPage;
        Errno errno = MappedMemory.MapAligned(size, alignment, Libc.PROT_READ | Libc.PROT_WRITE, flags, -1, 0, out MappedMemory? memory);
        if (memory is null)
        {
            error = $"cannot set up guest memory '{options.Name}': {errno.Message()}";
            return null;
        }

        var block = new RamBlock(options.Name, memory, used) { IsShared = options.Share, IsResizeable = options.MaxSize != 0 };
        return Finish(block, options, out error);
    }

    /// <summary>Memory in a memfd (<c>memory-backend-memfd</c>).</summary>
    /// <param name="options">Common options.</param>
    /// <param name="hugeTlb">Use huge pages.</param>
    /// <param name="hugeTlbSize">Their size in bytes; 0 for the host's default.</param>
    /// <param name="seal">Forbid that the file changes size.</param>
    /// <param name="error">QEMU's text on failure.</param>
    public static RamBlock? CreateMemFd(RamOptions options, bool hugeTlb, ulong hugeTlbSize, bool seal, out string? error)
    {
        if (hugeTlbSize != 0 && !ulong.IsPow2(hugeTlbSize))
        {
            error = "Hugepage size must be a power of 2";
            return null;
        }

        uint flags = seal ? (uint)Libc.MFD_ALLOW_SEALING : 0;
        if (hugeTlb)
        {
            flags |= (uint)Libc.MFD_HUGETLB;
            if (hugeTlbSize != 0)
            {
                flags |= (uint)ulong.Log2(hugeTlbSize) << HugePageShift;
            }
        }

        Errno errno = Libc.MemFdCreate("memory-backend-memfd", flags, out SafeFd file);
        if (errno != Errno.OK)
        {
            file.Dispose();
            error = $"failed to create memfd: {errno.Message()}";
            return null;
        }

        errno = Libc.FTruncate(file.Fd, (long)options.Size);
        if (errno != Errno.OK)
        {
            file.Dispose();
            error = $"failed to resize memfd to {options.Size}: {errno.Message()}";
            return null;
        }

        if (seal)
        {
            const int seals = Libc.F_SEAL_GROW | Libc.F_SEAL_SHRINK | Libc.F_SEAL_SEAL;
            errno = ErrnoText.FromResult(Libc.Fcntl(file.Fd, Libc.F_ADD_SEALS, seals));
            if (errno != Errno.OK)
            {
                file.Dispose();
                error = $"failed to add seals {seals:x}: {errno.Message()}";
                return null;
            }
        }

        return MapFile(options with { Share = options.Share }, file, 0, false, out error);
    }

    /// <summary>Memory in a file, or in a nameless file in a directory such as a hugetlbfs mount (<c>memory-backend-file</c>).</summary>
    /// <param name="options">Common options.</param>
    /// <param name="path">File (made when missing) or directory.</param>
    /// <param name="align">Alignment of the mapping in bytes; 0 for the page size.</param>
    /// <param name="readOnly">Open and map the file read-only.</param>
    /// <param name="error">QEMU's text on failure.</param>
    public static RamBlock? CreateFile(RamOptions options, string path, ulong align, bool readOnly, out string? error)
    {
        Errno errno = OpenBackingFile(path, options.Name, readOnly, out SafeFd file, out bool created);
        if (errno != Errno.OK)
        {
            file.Dispose();
            error = $"can't open backing store {path} for guest RAM: {errno.Message()}";
            return null;
        }

        ulong actual = 0;
        if (Libc.FStat(file.Fd, out FileStatus status) == Errno.OK && !status.IsDirectory)
        {
            actual = (ulong)Math.Max(0, status.st_size);
        }

        if (actual > 0 && actual < options.Size)
        {
            file.Dispose();
            error = $"backing store size 0x{actual:x} does not match 'size' option 0x{options.Size:x}";
            return null;
        }

        RamBlock? block = MapFile(options, file, align, readOnly, out error, grow: actual == 0);
        if (block is null && created)
        {
            _ = Libc.Unlink(path);
        }

        return block;
    }

    /// <summary>Memory over a descriptor that the caller opened; the block owns it from now on, also when this fails.</summary>
    public static RamBlock? CreateFromFd(RamOptions options, SafeFd file, bool readOnly, out string? error) =>
        MapFile(options, file, 0, readOnly, out error);

    /// <summary>
    /// Touches all pages of the bytes [offset, offset+length) so that the guest finds them allocated. On failure the text is QEMU's.
    /// </summary>
    /// <param name="block">The memory.</param>
    /// <param name="offset">Offset of the first byte.</param>
    /// <param name="length">Number of bytes.</param>
    /// <param name="threads">Threads that share the work.</param>
    /// <param name="run">Runs a job on the thread that those are to be started from; null for the caller's.</param>
    /// <param name="error">QEMU's text on failure.</param>
    public static bool Preallocate(RamBlock block, ulong offset, ulong length, int threads, Action<Action>? run, out string? error)
    {
        if (run is null)
        {
            return Preallocate(block, offset, length, threads, out error);
        }

        string? failure = null;
        bool done = false;
        run(() => done = Preallocate(block, offset, length, threads, out failure));
        error = failure;
        return done;
    }

    private static bool Preallocate(RamBlock block, ulong offset, ulong length, int threads, out string? error)
    {
        ulong page = block.PageSize;
        ulong pages = length / page;
        int count = (int)Math.Clamp((ulong)Math.Max(threads, 1), 1, Math.Max(pages, 1));
        var results = new Errno[count];
        var workers = new Thread[count];
        ulong each = pages / (ulong)count;
        for (int i = 0; i < count; i++)
        {
            int index = i;
            ulong from = offset + ((ulong)i * each * page);
            ulong bytes = (i == count - 1 ? pages - (each * (ulong)i) : each) * page;
            workers[i] = new Thread(() => results[index] = bytes == 0 ? Errno.OK : Populate(block, from, bytes), 128 * 1024)
            {
                IsBackground = true, Name = "touch_pages",
            };
            if (count == 1)
            {
                results[0] = Populate(block, from, bytes);
            }
            else
            {
                workers[i].Start();
            }
        }

        if (count > 1)
        {
            foreach (Thread worker in workers)
            {
                worker.Join();
            }
        }

        foreach (Errno errno in results)
        {
            if (errno != Errno.OK)
            {
                error = $"qemu_prealloc_mem: preallocating memory failed: {errno.Message()}";
                return false;
            }
        }

        error = null;
        return true;
    }

    private static unsafe Errno Populate(RamBlock block, ulong offset, ulong bytes)
    {
        Errno errno = block.Mapping.Advise(offset, bytes, Libc.MADV_POPULATE_WRITE);
        if (errno != Errno.EINVAL)
        {
            return errno;
        }

        for (ulong at = 0; at < bytes; at += block.PageSize)
        {
            byte* p = (byte*)block.HostAddress + offset + at;
            Volatile.Write(ref *p, *p);
        }

        return Errno.OK;
    }

    private static Errno OpenBackingFile(string path, string name, bool readOnly, out SafeFd file, out bool created)
    {
        created = false;
        int access = readOnly ? Libc.O_RDONLY : Libc.O_RDWR;
        Errno errno = Libc.Open(path, access | Libc.O_CLOEXEC, out file);
        if (errno == Errno.ENOENT && !readOnly)
        {
            file.Dispose();
            errno = Libc.Open(path, Libc.O_RDWR | Libc.O_CREAT | Libc.O_EXCL | Libc.O_CLOEXEC, 0x1a4, out file);
            created = errno == Errno.OK;
        }
        else if (errno == Errno.EISDIR)
        {
            file.Dispose();
            string clean = name.Replace('/', '_');
            errno = Libc.MkStemp($"{path}/qemu_back_mem.{clean}.XXXXXX", out file, out string temporary);
            if (errno == Errno.OK)
            {
                _ = Libc.Unlink(temporary);
            }
        }

        return errno;
    }

    private static RamBlock? MapFile(RamOptions options, SafeFd file, ulong align, bool readOnly, out string? error, bool grow = false)
    {
        ulong page = PageSizeOf(file);
        if (align != 0 && align % page != 0)
        {
            file.Dispose();
            error = $"alignment 0x{align:x} must be multiples of page size 0x{page:x}";
            return null;
        }

        if (align != 0 && !ulong.IsPow2(align))
        {
            file.Dispose();
            error = $"alignment 0x{align:x} must be a power of two";
            return null;
        }

        if (options.Size < page)
        {
            file.Dispose();
            error = $"memory size 0x{options.Size:x} must be equal to or larger than page size 0x{page:x}";
            return null;
        }

        ulong size = RoundUp(options.Size, page);
        if (grow && !readOnly && Libc.FTruncate(file.Fd, (long)size) is var truncated && truncated != Errno.OK)
        {
            StdIo.Error.Write($"ftruncate: {truncated.Message()}\n");
        }

        int flags = (options.Share ? Libc.MAP_SHARED : Libc.MAP_PRIVATE) | (options.Reserve ? 0 : Libc.MAP_NORESERVE);
        int protection = Libc.PROT_READ | (readOnly ? 0 : Libc.PROT_WRITE);
        ulong alignment = Math.Max(Math.Max(align, page), size >= 0x200000 ? 0x200000UL : HostPage);
        Errno errno = Map(options, size, alignment, protection, flags, file, out MappedMemory? memory);
        if (memory is null)
        {
            file.Dispose();
            error = $"unable to map backing store for guest RAM: {errno.Message()}";
            return null;
        }

        var block = new RamBlock(options.Name, memory, size, file)
        {
            IsShared = options.Share,
            PageSize = page,
            HasHoles = options.Share && FileSystemOf(file).Type == TmpFsMagic,
        };
        return Finish(block, options, out error);
    }

    // A kernel that does not know the flags, or a file that is not on persistent memory, gets the mapping that it can have.
    private static Errno Map(RamOptions options, ulong size, ulong alignment, int protection, int flags, SafeFd file, out MappedMemory? memory)
    {
        if (options.IsPersistent && options.Share)
        {
            int wanted = flags | Libc.MAP_SYNC | Libc.MAP_SHARED_VALIDATE;
            Errno errno = MappedMemory.MapAligned(size, alignment, protection, wanted, file.Fd, 0, out memory);
            if (errno == Errno.OK)
            {
                return errno;
            }

            if (errno == Errno.EOPNOTSUPP)
            {
                string? path = Libc.ReadLink($"/proc/self/fd/{file.Fd}");
                StdIo.Error.Write($"Warning: requesting persistence across crashes for backend file {path} failed. "
                    + "Proceeding without persistence, data might become corrupted in case of host crash.\n");
                options.Warn?.Invoke("Using non DAX backing file with 'pmem=on' option is deprecated");
            }
        }

        return MappedMemory.MapAligned(size, alignment, protection, flags, file.Fd, 0, out memory);
    }

    private static RamBlock? Finish(RamBlock block, RamOptions options, out string? error)
    {
        MappedMemory memory = block.Mapping;
        if (options.Merge)
        {
            _ = memory.Advise(Libc.MADV_MERGEABLE);
        }

        if (!options.Dump)
        {
            _ = memory.Advise(Libc.MADV_DONTDUMP);
        }

        if (block.PageSize == HostPage)
        {
            _ = memory.Advise(Libc.MADV_HUGEPAGE);
        }

        // A child process must not get copies of guest pages: that would split huge pages and double the memory.
        _ = memory.Advise(Libc.MADV_DONTFORK);

        error = Bind(memory, options);
        if (error is null && options.Prealloc)
        {
            _ = Preallocate(block, 0, block.UsedSize, options.PreallocThreads, options.RunPreallocation, out error);
        }

        if (error is not null)
        {
            memory.Dispose();
            block.File?.Dispose();
            return null;
        }

        return block;
    }

    private static string? Bind(MappedMemory memory, RamOptions options)
    {
        bool any = options.HostNodes.AsSpan().ContainsAnyExcept(0UL);
        if (any && options.Policy == RamNumaPolicy.Default)
        {
            return "host-nodes must be empty for policy default, or you should explicitly specify a policy other than default";
        }

        if (!any && options.Policy != RamNumaPolicy.Default)
        {
            return $"host-nodes must be set for policy {PolicyName(options.Policy)}";
        }

        if (!any)
        {
            return null;
        }

        uint flags = options.Prealloc ? (uint)(Libc.MPOL_MF_STRICT | Libc.MPOL_MF_MOVE) : 0;
        Errno errno = memory.Bind((int)options.Policy, options.HostNodes, flags);
        return errno is Errno.OK or Errno.ENOSYS ? null : $"cannot bind memory to host NUMA nodes: {errno.Message()}";
    }

    private static string PolicyName(RamNumaPolicy policy) => policy switch
    {
        RamNumaPolicy.Preferred => "preferred",
        RamNumaPolicy.Bind => "bind",
        RamNumaPolicy.Interleave => "interleave",
        _ => "default",
    };

    private static ulong PageSizeOf(SafeFd file) => FileSystemOf(file) is (HugeTlbFsMagic, var blockSize) ? (ulong)blockSize : HostPage;

    private static (long Type, long BlockSize) FileSystemOf(SafeFd file) =>
        Libc.FStatFs(file.Fd, out long type, out long blockSize) == Errno.OK ? (type, blockSize) : (0, 0);

    private static ulong RoundUp(ulong value, ulong to) => (value + to - 1) / to * to;
}
