using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

[assembly: DisableRuntimeMarshalling]

namespace Vmm.Interop;

/// <summary>
/// The native imports. All of them are blittable, so that no stub runs between a call and the reading of errno; a failing call's
/// errno is fetched with <see cref="Check(int)"/> directly afterwards (the runtime preserves errno across its GC transitions).
/// </summary>
internal static unsafe partial class Native
{
    private const string LibC = "libc";

    internal static Errno LastError => (Errno)Marshal.GetLastSystemError();

    internal static int Check(int result) => result >= 0 ? result : -Marshal.GetLastSystemError();

    internal static long Check(nint result) => result >= 0 ? result : -Marshal.GetLastSystemError();

    internal static Errno CheckErrno(int result) => result >= 0 ? Errno.OK : LastError;

    /// <summary>UTF-8 with a terminating NUL.</summary>
    internal static byte[] Z(string text)
    {
        byte[] bytes = new byte[System.Text.Encoding.UTF8.GetByteCount(text) + 1];
        System.Text.Encoding.UTF8.GetBytes(text, bytes);
        return bytes;
    }

    [LibraryImport(LibC)] internal static partial int open(byte* path, int flags, uint mode);
    [LibraryImport(LibC)] internal static partial int openat(int dirFd, byte* path, int flags, uint mode);
    [LibraryImport(LibC)] internal static partial int close(int fd);
    [LibraryImport(LibC)] internal static partial nint read(int fd, void* buffer, nuint count);
    [LibraryImport(LibC)] internal static partial nint write(int fd, void* buffer, nuint count);
    [LibraryImport(LibC)] internal static partial nint pread(int fd, void* buffer, nuint count, long offset);
    [LibraryImport(LibC)] internal static partial nint pwrite(int fd, void* buffer, nuint count, long offset);
    [LibraryImport(LibC)] internal static partial nint readv(int fd, IoVec* vectors, int count);
    [LibraryImport(LibC)] internal static partial nint writev(int fd, IoVec* vectors, int count);
    [LibraryImport(LibC)] internal static partial nint preadv(int fd, IoVec* vectors, int count, long offset);
    [LibraryImport(LibC)] internal static partial nint preadv2(int fd, IoVec* vectors, int count, long offset, int flags);
    [LibraryImport(LibC)] internal static partial nint pwritev2(int fd, IoVec* vectors, int count, long offset, int flags);
    [LibraryImport(LibC)] internal static partial nint pwritev(int fd, IoVec* vectors, int count, long offset);
    [LibraryImport(LibC)] internal static partial long lseek(int fd, long offset, int whence);
    [LibraryImport(LibC)] internal static partial int ftruncate(int fd, long length);
    [LibraryImport(LibC)] internal static partial int fallocate(int fd, int mode, long offset, long length);
    [LibraryImport(LibC)] internal static partial int fsync(int fd);
    [LibraryImport(LibC)] internal static partial int fdatasync(int fd);
    [LibraryImport(LibC)] internal static partial int sync_file_range(int fd, long offset, long length, uint flags);
    [LibraryImport(LibC)] internal static partial int fstat(int fd, FileStatus* status);
    [LibraryImport(LibC)] internal static partial int stat(byte* path, FileStatus* status);
    [LibraryImport(LibC)] internal static partial int access(byte* path, int mode);
    [LibraryImport(LibC)] internal static partial int unlink(byte* path);
    [LibraryImport(LibC)] internal static partial int rename(byte* from, byte* to);
    [LibraryImport(LibC)] internal static partial int mkfifo(byte* path, uint mode);
    [LibraryImport(LibC)] internal static partial int chmod(byte* path, uint mode);
    [LibraryImport(LibC)] internal static partial int mkstemp(byte* template);
    [LibraryImport(LibC)] internal static partial int dup(int fd);
    [LibraryImport(LibC)] internal static partial int dup3(int fd, int target, int flags);
    [LibraryImport(LibC)] internal static partial int fcntl(int fd, int command, nint argument);
    [LibraryImport(LibC)] internal static partial int pipe2(int* fds, int flags);
    [LibraryImport(LibC)] internal static partial nint readlink(byte* path, byte* buffer, nuint size);
    [LibraryImport(LibC)] internal static partial int ioctl(int fd, nuint request, nint argument);
    [LibraryImport(LibC)] internal static partial int flock(int fd, int operation);

    [LibraryImport(LibC)] internal static partial int eventfd(uint initial, int flags);
    [LibraryImport(LibC)] internal static partial int epoll_create1(int flags);
    [LibraryImport(LibC)] internal static partial int epoll_ctl(int epoll, int operation, int fd, EpollEvent* ev);
    [LibraryImport(LibC)] internal static partial int epoll_wait(int epoll, EpollEvent* events, int count, int timeoutMs);
    [LibraryImport(LibC)] internal static partial int timerfd_create(int clock, int flags);
    [LibraryImport(LibC)] internal static partial int timerfd_settime(int fd, int flags, TimeSpec* value, TimeSpec* old);
    [LibraryImport(LibC)] internal static partial int poll(PollFd* fds, nuint count, int timeoutMs);
    [LibraryImport(LibC)] internal static partial nint syscall(nint number, nint a, nint b, nint c, nint d, nint e, nint f);

    [LibraryImport(LibC)] internal static partial int socket(int family, int type, int protocol);
    [LibraryImport(LibC)] internal static partial int socketpair(int family, int type, int protocol, int* fds);
    [LibraryImport(LibC)] internal static partial int bind(int fd, byte* address, uint length);
    [LibraryImport(LibC)] internal static partial int listen(int fd, int backlog);
    [LibraryImport(LibC)] internal static partial int accept4(int fd, byte* address, uint* length, int flags);
    [LibraryImport(LibC)] internal static partial int connect(int fd, byte* address, uint length);
    [LibraryImport(LibC)] internal static partial int getsockname(int fd, byte* address, uint* length);
    [LibraryImport(LibC)] internal static partial int getpeername(int fd, byte* address, uint* length);
    [LibraryImport(LibC)] internal static partial int getsockopt(int fd, int level, int name, void* value, uint* length);
    [LibraryImport(LibC)] internal static partial int setsockopt(int fd, int level, int name, void* value, uint length);
    [LibraryImport(LibC)] internal static partial int shutdown(int fd, int how);
    [LibraryImport(LibC)] internal static partial nint sendmsg(int fd, MsgHdr* message, int flags);
    [LibraryImport(LibC)] internal static partial nint recvmsg(int fd, MsgHdr* message, int flags);
    [LibraryImport(LibC)] internal static partial nint sendto(int fd, void* data, nuint size, int flags, byte* address, uint length);
    [LibraryImport(LibC)] internal static partial nint recvfrom(int fd, void* data, nuint size, int flags, byte* address, uint* length);
    [LibraryImport(LibC)] internal static partial int getaddrinfo(byte* node, byte* service, AddrInfo* hints, AddrInfo** result);
    [LibraryImport(LibC)] internal static partial void freeaddrinfo(AddrInfo* result);

    [LibraryImport(LibC)] internal static partial void* mmap(void* address, nuint length, int protection, int flags, int fd, long offset);
    [LibraryImport(LibC)] internal static partial int munmap(void* address, nuint length);
    [LibraryImport(LibC)] internal static partial int mprotect(void* address, nuint length, int protection);
    [LibraryImport(LibC)] internal static partial int madvise(void* address, nuint length, int advice);
    [LibraryImport(LibC)] internal static partial int msync(void* address, nuint length, int flags);
    [LibraryImport(LibC)] internal static partial int mlockall(int flags);
    [LibraryImport(LibC)]
    internal static partial int dl_iterate_phdr(delegate* unmanaged[Cdecl]<DlPhdrInfo*, nuint, void*, int> callback, void* data);

    [LibraryImport(LibC)] internal static partial int getpid();
    [LibraryImport(LibC)] internal static partial int getppid();
    [LibraryImport(LibC)] internal static partial uint getuid();
    [LibraryImport(LibC)] internal static partial int kill(int pid, int signal);
    [LibraryImport(LibC)] internal static partial int prctl(int option, nint a, nint b, nint c, nint d);
    [LibraryImport(LibC)] internal static partial uint umask(uint mask);
    [LibraryImport(LibC)] internal static partial int setsid();
    [LibraryImport(LibC)] internal static partial int chdir(byte* path);
    [LibraryImport(LibC)] internal static partial int execve(byte* path, byte** arguments, byte** environment);
    [LibraryImport(LibC)]
    internal static partial int posix_spawn(int* pid, byte* path, void* actions, void* attributes, byte** arguments, byte** environment);
    [LibraryImport(LibC)] internal static partial int posix_spawn_file_actions_init(void* actions);
    [LibraryImport(LibC)] internal static partial int posix_spawn_file_actions_destroy(void* actions);
    [LibraryImport(LibC)] internal static partial int posix_spawn_file_actions_adddup2(void* actions, int fd, int target);
    [LibraryImport(LibC)] internal static partial int posix_spawn_file_actions_addclose(void* actions, int fd);
    [LibraryImport(LibC)] internal static partial int posix_spawnattr_init(void* attributes);
    [LibraryImport(LibC)] internal static partial int posix_spawnattr_destroy(void* attributes);
    [LibraryImport(LibC)] internal static partial int posix_spawnattr_setflags(void* attributes, short flags);
    [LibraryImport(LibC)] internal static partial int posix_spawnattr_setsigmask(void* attributes, ulong* set);
    [LibraryImport(LibC)] internal static partial int posix_spawnattr_setsigdefault(void* attributes, ulong* set);
    [LibraryImport(LibC)] internal static partial int waitpid(int pid, int* status, int options);
    [LibraryImport(LibC)] internal static partial void _exit(int status);

    [LibraryImport(LibC)] internal static partial int sigaction(int signal, SigAction* action, SigAction* old);
    [LibraryImport(LibC)] internal static partial int pthread_sigmask(int how, ulong* set, ulong* old);
    [LibraryImport(LibC)] internal static partial int signalfd(int fd, ulong* set, int flags);
    [LibraryImport(LibC)] internal static partial nint dlsym(nint library, byte* name);
    [LibraryImport(LibC)] internal static partial int sched_setaffinity(int pid, nuint size, ulong* mask);
    [LibraryImport(LibC)] internal static partial int sched_getaffinity(int pid, nuint size, ulong* mask);
    [LibraryImport(LibC)] internal static partial int sched_yield();

    [LibraryImport(LibC)] internal static partial nint getrandom(void* buffer, nuint size, uint flags);
    [LibraryImport(LibC), SuppressGCTransition] internal static partial int clock_gettime(int clock, TimeSpec* value);
    [LibraryImport(LibC)] internal static partial long sysconf(int name);

    [LibraryImport(LibC)] internal static partial int posix_openpt(int flags);
    [LibraryImport(LibC)] internal static partial int grantpt(int fd);
    [LibraryImport(LibC)] internal static partial int unlockpt(int fd);
    [LibraryImport(LibC)] internal static partial int ptsname_r(int fd, byte* buffer, nuint size);
    [LibraryImport(LibC)] internal static partial int tcgetattr(int fd, Termios* value);
    [LibraryImport(LibC)] internal static partial int tcsetattr(int fd, int actions, Termios* value);
    [LibraryImport(LibC)] internal static partial int isatty(int fd);
}
