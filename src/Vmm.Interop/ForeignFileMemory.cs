using System.Buffers.Binary;

namespace Vmm.Interop;

/// <summary>
/// A shared mapping of a file that another process may cut short at any time. The kernel answers an access behind the end of a file with SIGBUS,
/// which would end this process; here the rest of the mapping becomes private zeroes instead, the access goes on, and <see cref="IsTorn"/> says so.
/// Calls into the kernel that are given lost pages fail with EFAULT and tear nothing. Usable from any thread, which must not touch the memory after
/// <see cref="Dispose"/>.
/// </summary>
public sealed unsafe class ForeignFileMemory : IDisposable
{
    private const int Slots = 512;
    private const int SlotWords = 4;
    private const int PageBits = 12;
    private const long HugeTlbFs = 0x958458f6;

    private static readonly Lock s_lock = new();
    private static ulong* s_table;

    private readonly MappedMemory _memory;
    private readonly ulong* _slot;
    private bool _isDisposed;

    private ForeignFileMemory(MappedMemory memory, ulong* slot)
    {
        _memory = memory;
        _slot = slot;
    }

    /// <summary>First byte of the mapping.</summary>
    public nint Address => _memory.Address;

    /// <summary>Length in bytes.</summary>
    public ulong Length => _memory.Length;

    /// <summary>Something behind the end of the file was accessed: what is read since is not what the other process wrote, nor does it see what is written.</summary>
    public bool IsTorn => Volatile.Read(ref _slot[3]) != 0;

    /// <summary>
    /// Maps bytes of a file for reading and writing. EINVAL when the offset is not a multiple of the file's page size; ENOSPC when 512 are mapped already;
    /// otherwise what mmap(2) says.
    /// </summary>
    public static Errno Map(ulong length, int fd, long offset, out ForeignFileMemory? memory)
    {
        memory = null;
        Errno errno = Libc.FStatFs(fd, out long type, out long blockSize);
        if (errno != Errno.OK)
        {
            return errno;
        }

        // Pages of hugetlbfs are replaced whole; those of anything else, one by one.
        ulong page = type == HugeTlbFs ? (ulong)blockSize : (ulong)Libc.PageSize;
        if (length == 0 || length > long.MaxValue - page)
        {
            return Errno.EINVAL;
        }

        ulong whole = (length + page - 1) & ~(page - 1);
        lock (s_lock)
        {
            errno = Install();
            ulong* slot = errno == Errno.OK ? FreeSlot() : null;
            if (slot is null)
            {
                return errno == Errno.OK ? Errno.ENOSPC : errno;
            }

            errno = MappedMemory.Map(
                whole, Libc.PROT_READ | Libc.PROT_WRITE, Libc.MAP_SHARED | Libc.MAP_NORESERVE, fd, offset, out MappedMemory? mapped);
            if (errno != Errno.OK)
            {
                return errno;
            }

            slot[0] = (ulong)mapped!.Address;
            slot[2] = ~(page - 1);
            slot[3] = 0;
            Volatile.Write(ref slot[1], whole);
            memory = new ForeignFileMemory(mapped, slot);
            return Errno.OK;
        }
    }

    /// <summary>Bytes [offset, offset+length) as a span, which this object must outlive.</summary>
    public Span<byte> AsSpan(ulong offset, int length) => _memory.AsSpan(offset, length);

    /// <inheritdoc/>
    public void Dispose()
    {
        lock (s_lock)
        {
            if (!_isDisposed)
            {
                _isDisposed = true;
                Volatile.Write(ref _slot[1], 0);
                _memory.Dispose();
            }
        }
    }

    private static ulong* FreeSlot()
    {
        for (int i = 0; i < Slots; i++)
        {
            if (s_table[(i * SlotWords) + 1] == 0)
            {
                return s_table + (i * SlotWords);
            }
        }

        return null;
    }

    // The handler must be machine code of our own: managed code cannot run where managed code was interrupted. It looks the address up in a table of
    // (start, length, mask of a page, torn) and passes on what is not there to whoever handled the signal before.
    private static Errno Install()
    {
        if (s_table is not null)
        {
            return Errno.OK;
        }

        const int TableBytes = Slots * SlotWords * sizeof(ulong);
        Errno errno = MappedMemory.Map(
            TableBytes, Libc.PROT_READ | Libc.PROT_WRITE, Libc.MAP_PRIVATE | Libc.MAP_ANONYMOUS, -1, 0, out MappedMemory? table);
        if (errno != Errno.OK)
        {
            return errno;
        }

        SigAction old = default;
        errno = MappedMemory.Map(
            1 << PageBits, Libc.PROT_READ | Libc.PROT_WRITE, Libc.MAP_PRIVATE | Libc.MAP_ANONYMOUS, -1, 0, out MappedMemory? code);
        if (errno == Errno.OK)
        {
            errno = Native.CheckErrno(Native.sigaction(Libc.SIGBUS, null, &old));
        }

        if (errno == Errno.OK)
        {
            const int DefaultAt = 256;
            Write(code!.AsSpan(0, DefaultAt), (ulong)table!.Address, old.sa_handler is 0 or 1 ? (ulong)code.Address + DefaultAt : (ulong)old.sa_handler);
            WriteDefault(code.AsSpan(DefaultAt, 256), (ulong)code.Address + (2 * DefaultAt));
            errno = code.Protect(0, 1 << PageBits, Libc.PROT_READ | Libc.PROT_EXEC);
        }

        if (errno != Errno.OK)
        {
            table!.Dispose();
            code?.Dispose();
            return errno;
        }

        // Both stay until the process ends.
        s_table = (ulong*)table!.Address;
        table.SetHandleAsInvalid();
        Signals.SetHandler(Libc.SIGBUS, code!.Address, old);
        code.SetHandleAsInvalid();
        return Errno.OK;
    }

    // Registers need not be preserved: the return from a signal restores all.
    private static void Write(Span<byte> at, ulong table, ulong next)
    {
        ReadOnlySpan<byte> routine =
        [
            0xF3, 0x0F, 0x1E, 0xFA,                         // 00 endbr64
            0x49, 0x89, 0xFC,                               // 04 mov r12, rdi
            0x49, 0x89, 0xF5,                               // 07 mov r13, rsi
            0x49, 0x89, 0xD6,                               // 0a mov r14, rdx
            0x83, 0x7E, 0x08, 0x02,                         // 0d cmp dword [rsi+8], BUS_ADRERR
            0x75, 0x27,                                     // 11 jne chain
            0x4C, 0x8B, 0x7E, 0x10,                         // 13 mov r15, [rsi+16]
            0x48, 0xBB, 0, 0, 0, 0, 0, 0, 0, 0,             // 17 mov rbx, table
            0xB9, Slots & 0xFF, Slots >> 8, 0, 0,           // 21 mov ecx, slots
            0x4C, 0x89, 0xF8,                               // 26 next: mov rax, r15
            0x48, 0x2B, 0x03,                               // 29 sub rax, [rbx]
            0x48, 0x3B, 0x43, 0x08,                         // 2c cmp rax, [rbx+8]
            0x72, 0x1D,                                     // 30 jb found
            0x48, 0x83, 0xC3, SlotWords * sizeof(ulong),    // 32 add rbx, 32
            0xFF, 0xC9,                                     // 36 dec ecx
            0x75, 0xEC,                                     // 38 jnz next
            0x4C, 0x89, 0xE7,                               // 3a chain: mov rdi, r12
            0x4C, 0x89, 0xEE,                               // 3d mov rsi, r13
            0x4C, 0x89, 0xF2,                               // 40 mov rdx, r14
            0x48, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0,             // 43 mov rax, next handler
            0xFF, 0xE0,                                     // 4d jmp rax
            0x4C, 0x89, 0xFF,                               // 4f found: mov rdi, r15
            0x48, 0x23, 0x7B, 0x10,                         // 52 and rdi, [rbx+16]
            0x48, 0x3B, 0x3B,                               // 56 cmp rdi, [rbx]
            0x48, 0x0F, 0x42, 0x3B,                         // 59 cmovb rdi, [rbx]
            0x48, 0x8B, 0x33,                               // 5d mov rsi, [rbx]
            0x48, 0x03, 0x73, 0x08,                         // 60 add rsi, [rbx+8]
            0x48, 0x29, 0xFE,                               // 64 sub rsi, rdi
            0xBA, 3, 0, 0, 0,                               // 67 mov edx, PROT_READ | PROT_WRITE
            0x41, 0xBA, 0x32, 0x40, 0, 0,                   // 6c mov r10d, MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS | MAP_NORESERVE
            0x49, 0x83, 0xC8, 0xFF,                         // 72 or r8, -1
            0x45, 0x31, 0xC9,                               // 76 xor r9d, r9d
            0xB8, 9, 0, 0, 0,                               // 79 mov eax, SYS_mmap
            0x0F, 0x05,                                     // 7e syscall
            0x48, 0x3D, 0x01, 0xF0, 0xFF, 0xFF,             // 80 cmp rax, -4095
            0x73, 0xB2,                                     // 86 jae chain
            0xC7, 0x43, 0x18, 1, 0, 0, 0,                   // 88 mov dword [rbx+24], 1
            0xC3,                                           // 8f ret
        ];
        routine.CopyTo(at);
        BinaryPrimitives.WriteUInt64LittleEndian(at[0x19..], table);
        BinaryPrimitives.WriteUInt64LittleEndian(at[0x45..], next);
    }

    // The default action, for a signal that nobody handled before: it is blocked now, and ends the process on return.
    private static void WriteDefault(Span<byte> at, ulong zeroes)
    {
        ReadOnlySpan<byte> routine =
        [
            0xBF, Libc.SIGBUS, 0, 0, 0,                     // 00 mov edi, SIGBUS
            0x48, 0xBE, 0, 0, 0, 0, 0, 0, 0, 0,             // 05 mov rsi, action of zeroes
            0x31, 0xD2,                                     // 0f xor edx, edx
            0x41, 0xBA, 8, 0, 0, 0,                         // 11 mov r10d, bytes of a signal set
            0xB8, 13, 0, 0, 0,                              // 17 mov eax, SYS_rt_sigaction
            0x0F, 0x05,                                     // 1c syscall
            0xB8, 39, 0, 0, 0,                              // 1e mov eax, SYS_getpid
            0x0F, 0x05,                                     // 23 syscall
            0x89, 0xC3,                                     // 25 mov ebx, eax
            0xB8, 186, 0, 0, 0,                             // 27 mov eax, SYS_gettid
            0x0F, 0x05,                                     // 2c syscall
            0x89, 0xDF,                                     // 2e mov edi, ebx
            0x89, 0xC6,                                     // 30 mov esi, eax
            0xBA, Libc.SIGBUS, 0, 0, 0,                     // 32 mov edx, SIGBUS
            0xB8, 234, 0, 0, 0,                             // 37 mov eax, SYS_tgkill
            0x0F, 0x05,                                     // 3c syscall
            0xC3,                                           // 3e ret
        ];
        routine.CopyTo(at);
        BinaryPrimitives.WriteUInt64LittleEndian(at[7..], zeroes);
    }
}
