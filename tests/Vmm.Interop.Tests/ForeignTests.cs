namespace Vmm.Interop.Tests;

/// <summary>What other processes share with this one and may spoil.</summary>
public sealed class ForeignTests
{
    [Test]
    public void AFullEventThatBlocksIsSignalledWithoutWaiting()
    {
        using EventFd fd = EventFd.Create();
        Assert.That(Libc.SetNonBlocking(fd.Fd, false), Is.EqualTo(Errno.OK));
        Assert.That(Libc.Write(fd.Fd, BitConverter.GetBytes(ulong.MaxValue - 1)), Is.EqualTo(8));
        Task signals = Task.Run(() =>
        {
            // More than the kernel keeps results for.
            for (int i = 0; i < 2000; i++)
            {
                fd.SignalForeign();
            }
        });
        bool isDone = signals.Wait(TimeSpan.FromSeconds(60));
        Libc.Read(fd.Fd, new byte[8]);
        Assert.That(isDone);
    }

    [Test]
    public void SignalsOfThreadsAreCounted()
    {
        using EventFd fd = EventFd.Create();
        Parallel.For(0, 4, _ =>
        {
            for (int i = 0; i < 500; i++)
            {
                fd.SignalForeign();
            }
        });
        Assert.That(fd.Drain(), Is.EqualTo(2000));
    }

    [Test]
    public void AFileCutShortTearsWhatIsBehindItsEnd()
    {
        const int Page = 4096;
        using SafeFd file = Shared(8 * Page);
        Assert.That(ForeignFileMemory.Map(8 * Page, file.Fd, 0, out ForeignFileMemory? memory), Is.EqualTo(Errno.OK));
        using (memory)
        {
            memory!.AsSpan(0, 8 * Page).Fill(1);
            Assert.That(Libc.FTruncate(file.Fd, 2 * Page), Is.EqualTo(Errno.OK));
            Assert.That(memory.AsSpan(Page, 1)[0], Is.EqualTo(1));
            Assert.That(memory.IsTorn, Is.False, "nobody has seen it");
            Assert.That(memory.AsSpan(4 * Page, Page).IndexOfAnyExcept((byte)0), Is.EqualTo(-1));
            Assert.That(memory.IsTorn);
            Assert.That(memory.AsSpan(0, 2 * Page).IndexOfAnyExcept((byte)1), Is.EqualTo(-1), "what is left of the file");
            memory.AsSpan(3 * Page, 1)[0] = 7;
            memory.AsSpan(7 * Page, Page).Fill(7);
            Assert.That(memory.AsSpan(3 * Page, 1)[0], Is.EqualTo(7));
            byte[] stays = new byte[1];
            Assert.That(Libc.PRead(file.Fd, stays, 0), Is.EqualTo(1));
            Assert.That(stays[0], Is.EqualTo(1));
        }
    }

    [Test]
    public void TheKernelFailsOnLostPages()
    {
        const int Page = 4096;
        using SafeFd file = Shared(2 * Page);
        Assert.That(ForeignFileMemory.Map(2 * Page, file.Fd, 0, out ForeignFileMemory? memory), Is.EqualTo(Errno.OK));
        using (memory)
        {
            Libc.FTruncate(file.Fd, 0);
            Assert.That(Libc.Open("/dev/zero", Libc.O_RDONLY, out SafeFd zero), Is.EqualTo(Errno.OK));
            using (zero)
            {
                Assert.That(Libc.PRead(zero.Fd, memory!.Address, Page, 0), Is.EqualTo(-(int)Errno.EFAULT));
            }

            Assert.That(memory.IsTorn, Is.False);
        }
    }

    [Test]
    public void PlacesAreUsedAgain()
    {
        using SafeFd file = Shared(4096);
        List<ForeignFileMemory> all = [];
        Errno errno;
        while ((errno = ForeignFileMemory.Map(4096, file.Fd, 0, out ForeignFileMemory? memory)) == Errno.OK)
        {
            all.Add(memory!);
        }

        Assert.That(errno, Is.EqualTo(Errno.ENOSPC));
        Libc.FTruncate(file.Fd, 0);
        all.ForEach(static m => Assert.That(m.AsSpan(0, 1)[0], Is.Zero));
        Assert.That(all, Has.All.Property(nameof(ForeignFileMemory.IsTorn)).True);
        all.ForEach(static m => m.Dispose());
        Libc.FTruncate(file.Fd, 4096);
        Assert.That(ForeignFileMemory.Map(4096, file.Fd, 0, out ForeignFileMemory? again), Is.EqualTo(Errno.OK));
        Assert.That(again!.IsTorn, Is.False);
        again.Dispose();
    }

    private static SafeFd Shared(int bytes)
    {
        Assert.That(Libc.MemFdCreate("foreign", 0, out SafeFd file), Is.EqualTo(Errno.OK));
        Assert.That(Libc.FTruncate(file.Fd, bytes), Is.EqualTo(Errno.OK));
        return file;
    }
}
