using Vmm.Interop;

namespace Vmm.Block.Graph;

/// <summary>What a user of a node does with it, or lets others do.</summary>
[Flags]
public enum BlockPermissions
{
    /// <summary>Nothing.</summary>
    None = 0,

    /// <summary>Reads that see consistent contents.</summary>
    ConsistentRead = 1,

    /// <summary>Writes.</summary>
    Write = 2,

    /// <summary>Writes that do not change what is read.</summary>
    WriteUnchanged = 4,

    /// <summary>Changes of the size.</summary>
    Resize = 8,

    /// <summary>All.</summary>
    All = 15,
}

/// <summary>What a child is to its parent.</summary>
[Flags]
public enum ChildRole
{
    /// <summary>Not set.</summary>
    None = 0,

    /// <summary>Holds guest data.</summary>
    Data = 1,

    /// <summary>Holds metadata of the parent's format.</summary>
    Metadata = 2,

    /// <summary>Shows the same contents as the parent, a filter.</summary>
    Filtered = 4,

    /// <summary>Read where the parent has nothing of its own: the backing file.</summary>
    Cow = 8,

    /// <summary>The one by which the parent is named.</summary>
    Primary = 16,

    /// <summary>The file of an image format.</summary>
    Image = Data | Metadata | Primary,
}

/// <summary>How a request is to be done.</summary>
[Flags]
public enum BlockRequestFlags
{
    /// <summary>As usual.</summary>
    None = 0,

    /// <summary>On stable storage when it completes.</summary>
    Fua = 1,

    /// <summary>Zeroes may be made by unmapping.</summary>
    MayUnmap = 2,

    /// <summary>Zeroes only if that is faster than writing them; else ENOTSUP.</summary>
    NoFallback = 4,

    /// <summary>The write does not change what is read.</summary>
    WriteUnchanged = 8,

    /// <summary>Waits for overlapping requests, and they for it.</summary>
    Serialising = 16,

    /// <summary>With <see cref="Serialising"/>: gives up with EBUSY instead of waiting.</summary>
    NoWait = 32,

    /// <summary>Compressed clusters are written.</summary>
    Compressed = 64,

    /// <summary>Reads copy what comes from the backing file.</summary>
    CopyOnRead = 128,

    /// <summary>Reads only fetch into the cache.</summary>
    Prefetch = 256,
}

/// <summary>What is known about a range of a node.</summary>
[Flags]
public enum BlockStatusFlags
{
    /// <summary>Nothing: not allocated here.</summary>
    None = 0,

    /// <summary>There is data at some place.</summary>
    Data = 1,

    /// <summary>It reads as zeroes.</summary>
    Zero = 2,

    /// <summary><see cref="BlockStatus.MapOffset"/> and <see cref="BlockStatus.File"/> are valid: the bytes stand there as they are.</summary>
    OffsetValid = 4,

    /// <summary>The contents come from this node, not from its backing file.</summary>
    Allocated = 8,

    /// <summary>The range ends at the end of the node.</summary>
    Eof = 16,

    /// <summary>Ask the file at the offset whether it is zero there.</summary>
    Recurse = 32,

    /// <summary>Compressed.</summary>
    Compressed = 64,

    /// <summary>A filter or raw view: the answer is that of <see cref="BlockStatus.File"/> at the offset.</summary>
    Raw = 128,
}

/// <summary>Answer of a driver about the beginning of a range.</summary>
/// <param name="Flags">What is known.</param>
/// <param name="Bytes">For how many bytes it holds, at least 1; or a negative errno.</param>
/// <param name="MapOffset">Where the bytes are in <paramref name="File"/>.</param>
/// <param name="File">The node that has them.</param>
public readonly record struct BlockStatus(BlockStatusFlags Flags, long Bytes, long MapOffset = 0, BlockNode? File = null)
{
    /// <summary>A failure.</summary>
    public static BlockStatus Error(int negativeErrno) => new(BlockStatusFlags.None, negativeErrno);

    /// <summary>A failure.</summary>
    public static BlockStatus Error(Errno errno) => new(BlockStatusFlags.None, -(int)errno);

    /// <summary>0, or a negative errno.</summary>
    public int Result => Bytes < 0 ? (int)Bytes : 0;
}

/// <summary>What a node wants of requests, in bytes. 0: no limit or no wish.</summary>
public struct BlockLimits
{
    /// <summary>Offsets and lengths of reads and writes are multiples; a power of two, at least 1.</summary>
    public int RequestAlignment;

    /// <summary>Longest read or write.</summary>
    public int MaxTransfer;

    /// <summary>Best length of reads and writes.</summary>
    public int OptTransfer;

    /// <summary>Alignment of memory that needs no bounce buffer.</summary>
    public int MemoryAlignment;

    /// <summary>Most pieces of a request.</summary>
    public int MaxIov;

    /// <summary>Longest discard.</summary>
    public long MaxDiscard;

    /// <summary>Discards smaller or not aligned to this are not worth while.</summary>
    public int DiscardAlignment;

    /// <summary>Longest write of zeroes.</summary>
    public long MaxWriteZeroes;

    /// <summary>Zeroes that are not aligned to this are written as data.</summary>
    public int WriteZeroesAlignment;
}

/// <summary>How a file is preallocated when it is created or grows.</summary>
public enum PreallocMode
{
    /// <summary>Not.</summary>
    Off,

    /// <summary>Metadata of the format.</summary>
    Metadata,

    /// <summary>Space is reserved.</summary>
    Falloc,

    /// <summary>Written in full.</summary>
    Full,
}

/// <summary>Short spellings of request results.</summary>
public static class BlockResult
{
    /// <summary>Longest single request in bytes: what a 32-bit length allows, rounded to sectors.</summary>
    public const int MaxRequestBytes = int.MaxValue & ~511;

    /// <summary>EIO.</summary>
    public const int Io = -(int)Errno.EIO;

    /// <summary>EINVAL.</summary>
    public const int Invalid = -(int)Errno.EINVAL;

    /// <summary>ENOTSUP.</summary>
    public const int NotSupported = -(int)Errno.ENOTSUP;

    /// <summary>ENOMEDIUM.</summary>
    public const int NoMedium = -(int)Errno.ENOMEDIUM;

    /// <summary>ENOSPC.</summary>
    public const int NoSpace = -(int)Errno.ENOSPC;

    /// <summary>The text of a negative result.</summary>
    public static string Text(int result) => ErrnoText.FromResult(result).Message();
}
