using System.Runtime.InteropServices;

namespace Vmm.Interop;

/// <summary>
/// An io_uring instance (io_uring_setup(2), io_uring_enter(2)). Its descriptor is readable while completions wait. One thread at a time.
/// Memory that a request names must stay where it is until its completion is taken, vectors included.
/// </summary>
public sealed unsafe class IoUring : SafeFd
{
    private const nint SYS_io_uring_setup = 425;
    private const nint SYS_io_uring_enter = 426;
    private const uint IORING_SETUP_CLAMP = 1 << 4;
    private const uint IORING_FEAT_SINGLE_MMAP = 1;
    private const uint IORING_FEAT_NODROP = 2;
    private const long IORING_OFF_SQES = 0x10000000;
    private const byte IORING_OP_READV = 1;
    private const byte IORING_OP_WRITEV = 2;
    private const byte IORING_OP_FSYNC = 3;
    private const uint IORING_FSYNC_DATASYNC = 1;

    private readonly MappedMemory _rings;
    private readonly MappedMemory _entries;
    private readonly uint* _submissionHead;
    private readonly uint* _submissionTail;
    private readonly uint _submissionMask;
    private readonly uint _submissionCount;
    private readonly uint* _completionHead;
    private readonly uint* _completionTail;
    private readonly uint _completionMask;
    private readonly Completion* _completions;
    private uint _tail;
    private uint _submitted;

    private IoUring(int fd, in Parameters p, MappedMemory rings, MappedMemory entries)
        : base(fd)
    {
        _rings = rings;
        _entries = entries;
        byte* at = (byte*)rings.Address;
        _submissionHead = (uint*)(at + p.sq_off.head);
        _submissionTail = (uint*)(at + p.sq_off.tail);
        _submissionMask = *(uint*)(at + p.sq_off.ring_mask);
        _submissionCount = p.sq_entries;
        _completionHead = (uint*)(at + p.cq_off.head);
        _completionTail = (uint*)(at + p.cq_off.tail);
        _completionMask = *(uint*)(at + p.cq_off.ring_mask);
        _completions = (Completion*)(at + p.cq_off.cqes);

        // Entry i is always named by slot i.
        uint* slots = (uint*)(at + p.sq_off.array);
        for (uint i = 0; i < p.sq_entries; i++)
        {
            slots[i] = i;
        }
    }

    /// <summary>Requests that were prepared and not yet submitted.</summary>
    public int Prepared => (int)(_tail - _submitted);

    /// <summary>A ring for <paramref name="entries"/> requests between two submissions. ENOSYS, EPERM, ENOMEM; EOPNOTSUPP before Linux 5.5.</summary>
    public static Errno Create(int entries, out IoUring? ring)
    {
        ring = null;
        Parameters p = new() { flags = IORING_SETUP_CLAMP };
        int fd = (int)Native.Check(Native.syscall(SYS_io_uring_setup, entries, (nint)(&p), 0, 0, 0, 0));
        if (fd < 0)
        {
            return ErrnoText.FromResult(fd);
        }

        SafeFd owner = new(fd);
        if ((p.features & (IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP)) != (IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP))
        {
            owner.Dispose();
            return Errno.EOPNOTSUPP;
        }

        ulong bytes = Math.Max(p.sq_off.array + (p.sq_entries * sizeof(uint)), p.cq_off.cqes + (p.cq_entries * (uint)sizeof(Completion)));
        const int Protection = Libc.PROT_READ | Libc.PROT_WRITE;
        Errno errno = MappedMemory.Map(bytes, Protection, Libc.MAP_SHARED, fd, 0, out MappedMemory? rings);
        MappedMemory? entriesMemory = null;
        if (errno == Errno.OK)
        {
            errno = MappedMemory.Map(p.sq_entries * (ulong)sizeof(Entry), Protection, Libc.MAP_SHARED, fd, IORING_OFF_SQES, out entriesMemory);
        }

        if (errno != Errno.OK)
        {
            rings?.Dispose();
            owner.Dispose();
            return errno;
        }

        ring = new IoUring(owner.Detach(), p, rings!, entriesMemory!);
        return Errno.OK;
    }

    /// <summary>Prepares a preadv(2); false when the ring is full.</summary>
    public bool TryRead(int fd, nint vectors, int count, long offset, ulong cookie) =>
        TryPrepare(IORING_OP_READV, fd, vectors, (uint)count, offset, 0, cookie);

    /// <summary>Prepares a pwritev(2); false when the ring is full.</summary>
    public bool TryWrite(int fd, nint vectors, int count, long offset, ulong cookie) =>
        TryPrepare(IORING_OP_WRITEV, fd, vectors, (uint)count, offset, 0, cookie);

    /// <summary>Prepares an fdatasync(2); false when the ring is full.</summary>
    public bool TryFDataSync(int fd, ulong cookie) => TryPrepare(IORING_OP_FSYNC, fd, 0, 0, 0, IORING_FSYNC_DATASYNC, cookie);

    /// <summary>Gives everything that was prepared to the kernel. EAGAIN and EBUSY: take completions and try again.</summary>
    public Errno Submit()
    {
        ObjectDisposedException.ThrowIf(IsClosed, this);
        Volatile.Write(ref *_submissionTail, _tail);
        while (_submitted != _tail)
        {
            int result = (int)Native.Check(Native.syscall(SYS_io_uring_enter, Fd, (nint)(_tail - _submitted), 0, 0, 0, 0));
            if (result > 0)
            {
                _submitted += (uint)result;
            }
            else if (result != -(int)Errno.EINTR)
            {
                return result == 0 ? Errno.EAGAIN : ErrnoText.FromResult(result);
            }
        }

        return Errno.OK;
    }

    /// <summary>Takes a completion: the cookie of its request, and bytes or -errno. False when there is none, or no ring any more.</summary>
    public bool TryTake(out ulong cookie, out int result)
    {
        if (IsClosed)
        {
            (cookie, result) = (0, 0);
            return false;
        }

        uint head = *_completionHead;
        if (head == Volatile.Read(ref *_completionTail))
        {
            (cookie, result) = (0, 0);
            return false;
        }

        Completion completion = _completions[head & _completionMask];
        Volatile.Write(ref *_completionHead, head + 1);
        (cookie, result) = (completion.user_data, completion.res);
        return true;
    }

    /// <inheritdoc/>
    protected override bool ReleaseHandle()
    {
        _entries.Dispose();
        _rings.Dispose();
        return base.ReleaseHandle();
    }

    private bool TryPrepare(byte opcode, int fd, nint address, uint length, long offset, uint flags, ulong cookie)
    {
        ObjectDisposedException.ThrowIf(IsClosed, this);
        if (_tail - Volatile.Read(ref *_submissionHead) == _submissionCount)
        {
            return false;
        }

        ((Entry*)_entries.Address)[_tail & _submissionMask] = new Entry
        {
            opcode = opcode,
            fd = fd,
            off = (ulong)offset,
            addr = (ulong)address,
            len = length,
            op_flags = flags,
            user_data = cookie,
        };
        _tail++;
        return true;
    }

    // struct io_uring_sqe
    [StructLayout(LayoutKind.Explicit, Size = 64)]
    private struct Entry
    {
        [FieldOffset(0)] public byte opcode;
        [FieldOffset(4)] public int fd;
        [FieldOffset(8)] public ulong off;
        [FieldOffset(16)] public ulong addr;
        [FieldOffset(24)] public uint len;
        [FieldOffset(28)] public uint op_flags;
        [FieldOffset(32)] public ulong user_data;
    }

    // struct io_uring_cqe
    [StructLayout(LayoutKind.Sequential)]
    private struct Completion
    {
        public ulong user_data;
        public int res;
        public uint flags;
    }

    // struct io_sqring_offsets
    [StructLayout(LayoutKind.Sequential)]
    private struct SubmissionOffsets
    {
        public uint head, tail, ring_mask, ring_entries, flags, dropped, array, resv1;
        public ulong user_addr;
    }

    // struct io_cqring_offsets
    [StructLayout(LayoutKind.Sequential)]
    private struct CompletionOffsets
    {
        public uint head, tail, ring_mask, ring_entries, overflow, cqes, flags, resv1;
        public ulong user_addr;
    }

    // struct io_uring_params
    [StructLayout(LayoutKind.Sequential)]
    private struct Parameters
    {
        public uint sq_entries, cq_entries, flags, sq_thread_cpu, sq_thread_idle, features, wq_fd, resv0, resv1, resv2;
        public SubmissionOffsets sq_off;
        public CompletionOffsets cq_off;
    }
}
