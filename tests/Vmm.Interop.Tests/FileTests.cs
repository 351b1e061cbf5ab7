using System.Text;

namespace Vmm.Interop.Tests;

public sealed class FileTests
{
    [TestCase(Errno.ENOENT, "No such file or directory", "ENOENT")]
    [TestCase(Errno.EHWPOISON, "Memory page has hardware error", "EHWPOISON")]
    [TestCase(Errno.EAGAIN, "Resource temporarily unavailable", "EAGAIN")]
    [TestCase(Errno.OK, "Success", "OK")]
    [TestCase((Errno)4095, "Unknown error 4095", null)]
    public void Errno_texts(Errno errno, string text, string? name)
    {
        Assert.That(errno.Message(), Is.EqualTo(text));
        Assert.That(errno.Name(), Is.EqualTo(name));
    }

    [Test]
    public void A_missing_file_is_an_errno()
    {
        Assert.That(Libc.Open("/nonexistent/file", Libc.O_RDONLY, out SafeFd file), Is.EqualTo(Errno.ENOENT));
        Assert.That(file.IsInvalid);
    }

    [Test]
    public void Descriptors_are_close_on_exec_and_closed_once()
    {
        Assert.That(Libc.Open("/dev/zero", Libc.O_RDONLY, out SafeFd file), Is.EqualTo(Errno.OK));
        int fd = file.Fd;
        Assert.That(Libc.Fcntl(fd, Libc.F_GETFD, 0), Is.EqualTo(Libc.FD_CLOEXEC));
        Assert.That(file.Dup(out SafeFd copy), Is.EqualTo(Errno.OK));
        file.Dispose();
        file.Dispose();
        Assert.That(file.Fd, Is.EqualTo(-1));
        Assert.That(copy.Read(new byte[4]), Is.EqualTo(4));
        int raw = copy.Detach();
        copy.Dispose();
        Assert.That(Libc.Fcntl(raw, Libc.F_GETFD, 0), Is.EqualTo(Libc.FD_CLOEXEC));
        Assert.That(Libc.Close(raw), Is.EqualTo(Errno.OK));
    }

    [Test]
    public void Positioned_io_and_size()
    {
        Assert.That(Libc.MemFdCreate("test", 0, out SafeFd file), Is.EqualTo(Errno.OK));
        using (file)
        {
            Assert.That(Libc.FTruncate(file.Fd, 8192), Is.EqualTo(Errno.OK));
            Assert.That(Libc.PWrite(file.Fd, "hello"u8, 4096), Is.EqualTo(5));
            byte[] buffer = new byte[5];
            Assert.That(Libc.PRead(file.Fd, buffer, 4096), Is.EqualTo(5));
            Assert.That(buffer, Is.EqualTo("hello"u8.ToArray()));
            Assert.That(Libc.FStat(file.Fd, out FileStatus status), Is.EqualTo(Errno.OK));
            Assert.That(status.st_size, Is.EqualTo(8192));
            Assert.That(status.IsRegular);
            Assert.That(Libc.FAllocate(file.Fd, Libc.FALLOC_FL_PUNCH_HOLE | Libc.FALLOC_FL_KEEP_SIZE, 4096, 4096), Is.EqualTo(Errno.OK));
            Assert.That(Libc.PRead(file.Fd, buffer, 4096), Is.EqualTo(5));
            Assert.That(buffer, Is.All.Zero);
            Assert.That(Libc.LSeek(file.Fd, 0, Libc.SEEK_END), Is.EqualTo(8192));
        }
    }

    [Test]
    public void Ofd_locks_exclude_another_open_file()
    {
        Assert.That(Libc.MkStemp(Path.Combine(Path.GetTempPath(), "vmm-XXXXXX"), out SafeFd first, out string path), Is.EqualTo(Errno.OK));
        using (first)
        {
            Assert.That(Libc.Open(path, Libc.O_RDWR, out SafeFd second), Is.EqualTo(Errno.OK));
            using (second)
            {
                Assert.That(Libc.OfdLock(first.Fd, Libc.F_WRLCK, 100, 1), Is.EqualTo(Errno.OK));
                Assert.That(Libc.OfdLock(second.Fd, Libc.F_RDLCK, 100, 1), Is.EqualTo(Errno.EAGAIN));
                Assert.That(Libc.OfdTestLock(second.Fd, Libc.F_RDLCK, 100, 1, out short conflict), Is.EqualTo(Errno.OK));
                Assert.That(conflict, Is.EqualTo(Libc.F_WRLCK));
                Assert.That(Libc.OfdLock(second.Fd, Libc.F_WRLCK, 101, 1), Is.EqualTo(Errno.OK));
                Assert.That(Libc.OfdLock(first.Fd, Libc.F_UNLCK, 100, 1), Is.EqualTo(Errno.OK));
                Assert.That(Libc.OfdLock(second.Fd, Libc.F_RDLCK, 100, 1), Is.EqualTo(Errno.OK));
            }
        }

        Assert.That(Libc.Unlink(path), Is.EqualTo(Errno.OK));
    }

    [Test]
    public void Small_files_are_read_whole_and_large_ones_refused()
    {
        Assert.That(Libc.ReadFile("/proc/self/stat", 1 << 16, out byte[] content), Is.EqualTo(Errno.OK));
        Assert.That(Encoding.UTF8.GetString(content), Does.StartWith($"{Libc.GetPid()} ("));
        Assert.That(Libc.ReadFile("/proc/self/stat", 4, out _), Is.EqualTo(Errno.EFBIG));
    }

    [Test]
    public void Eventfd_counts_and_drains()
    {
        using EventFd fd = EventFd.Create();
        Assert.That(fd.Drain(), Is.EqualTo(0));
        fd.Signal();
        fd.Signal();
        Assert.That(Libc.Poll(fd.Fd, Libc.POLLIN, 0), Is.EqualTo(Libc.POLLIN));
        Assert.That(fd.Drain(), Is.EqualTo(2));
        Assert.That(fd.Drain(), Is.EqualTo(0));
    }

    [Test]
    public void Epoll_tells_the_ready_ones()
    {
        using Epoll epoll = Epoll.Create();
        using EventFd fd = EventFd.Create();
        Assert.That(epoll.Add(fd.Fd, Libc.EPOLLIN, 77), Is.EqualTo(Errno.OK));
        Assert.That(epoll.Add(fd.Fd, Libc.EPOLLIN, 77), Is.EqualTo(Errno.EEXIST));
        Assert.That(epoll.Wait(0), Is.EqualTo(0));
        Assert.That(epoll.Wait(1000), Is.EqualTo(0));
        fd.Signal();
        Assert.That(epoll.Wait(-1), Is.EqualTo(1));
        Assert.That(epoll.GetEvent(0).data, Is.EqualTo(77));
        Assert.That(epoll.Remove(fd.Fd), Is.EqualTo(Errno.OK));
        Assert.That(epoll.Wait(0), Is.EqualTo(0));
    }

    [Test]
    public void Timerfd_expires()
    {
        using TimerFd timer = TimerFd.Create();
        timer.ArmAt(Libc.ClockNs(Libc.CLOCK_MONOTONIC) - 1);
        Assert.That(Libc.Poll(timer.Fd, Libc.POLLIN, -1), Is.EqualTo(Libc.POLLIN));
        Assert.That(timer.Drain(), Is.EqualTo(1));
        timer.ArmAt(0);
        Assert.That(Libc.Poll(timer.Fd, Libc.POLLIN, 0), Is.EqualTo(0));
    }

    [Test]
    public void Mapped_memory_is_aligned_guarded_and_advisable()
    {
        const ulong length = 3 * 4096;
        Assert.That(
            MappedMemory.MapAligned(
                length,
                2 << 20,
                Libc.PROT_READ | Libc.PROT_WRITE,
                Libc.MAP_PRIVATE | Libc.MAP_ANONYMOUS,
                -1,
                0,
                out MappedMemory? memory),
            Is.EqualTo(Errno.OK));
        using (memory)
        {
            Assert.That(memory!.Address % (2 << 20), Is.EqualTo((nint)0));
            memory.AsSpan()[^1] = 5;
            Assert.That(memory.AsSpan(length - 1, 1)[0], Is.EqualTo(5));
            Assert.That(() => memory.AsSpan(length, 1).Length, Throws.TypeOf<ArgumentOutOfRangeException>());
            Assert.That(memory.Advise(Libc.MADV_DONTNEED), Is.EqualTo(Errno.OK));
            Assert.That(memory.AsSpan()[^1], Is.EqualTo(0));

            // The page behind is a mapping without access, so nothing else can come to lie there.
            string maps = File.ReadAllText("/proc/self/maps");
            long end = memory.Address + (long)length;
            Assert.That(maps, Does.Match($"(?m)^{end:x}-{end + 4096:x} ---p"));
        }

        Assert.That(
            MappedMemory.Map(0, Libc.PROT_READ, Libc.MAP_PRIVATE | Libc.MAP_ANONYMOUS, -1, 0, out MappedMemory? none),
            Is.EqualTo(Errno.EINVAL));
        Assert.That(none, Is.Null);
    }

    [Test]
    public void Pseudo_terminals_turn_raw()
    {
        Assert.That(Libc.OpenPty(out SafeFd master, out string slavePath), Is.EqualTo(Errno.OK));
        using (master)
        {
            Assert.That(Libc.Open(slavePath, Libc.O_RDWR | Libc.O_NOCTTY, out SafeFd slave), Is.EqualTo(Errno.OK));
            using (slave)
            {
                Assert.That(Libc.IsATty(slave.Fd));
                Assert.That(Libc.TcGetAttr(slave.Fd, out Termios mode), Is.EqualTo(Errno.OK));
                Assert.That(Libc.TcSetAttr(slave.Fd, Libc.TCSANOW, Libc.MakeRaw(mode)), Is.EqualTo(Errno.OK));
                Assert.That(slave.Write("a\n"u8), Is.EqualTo(2));
                byte[] buffer = new byte[8];

                // Cooked output would say "a\r\n".
                Assert.That(master.Read(buffer), Is.EqualTo(2));
                WinSize size = new() { ws_row = 24, ws_col = 80 };
                Assert.That(Libc.Ioctl(master.Fd, Libc.TIOCSWINSZ, ref size), Is.Zero);
                Assert.That(Libc.GetWinSize(slave.Fd, out size), Is.EqualTo(Errno.OK));
                Assert.That((size.ws_row, size.ws_col), Is.EqualTo(((ushort)24, (ushort)80)));
            }
        }
    }
}
