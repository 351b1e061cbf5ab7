using Vmm.Dump.Guest;
using Vmm.Dump.Kdump;
using Vmm.Dump.Tests.Readers;
using Vmm.Interop;
using Vmm.Memory;

namespace Vmm.Dump.Tests;

/// <summary>Memory that is shared with other processes costs what the guest has touched of it, also when it has been dumped.</summary>
public sealed class SharedMemoryTests
{
    private const ulong Size = 256 << 20;
    private const int PageBytes = 4096;
    private static readonly ulong[] s_touched = [0, 5 * PageBytes, 100 << 20, Size - PageBytes];

    [Test]
    public void ADumpDoesNotAllocateWhatTheGuestHasNotTouched([Values] bool isFile, [Values("elf", "kdump", "window")] string format)
    {
        RamBlock block = Shared(isFile);
        byte[] page = new byte[PageBytes];
        new Random(3).NextBytes(page);
        foreach (ulong at in s_touched)
        {
            page.CopyTo(block.Span(at, PageBytes));
        }

        GuestMemoryMap map = GuestMemoryMap.Of([new GuestMemoryRange(0, Size, block, 0)]);
        long before = Allocated(block);
        Assert.That(before, Is.EqualTo(s_touched.Length * PageBytes));
        byte[] dump = Dumps.ToFile(
            map, format == "kdump" ? KdumpCompression.Zlib : null, window: format == "window" ? (0, (long)Size - PageBytes) : null);

        // Core files are written in pieces of 2 MiB, each of which is read as a whole.
        Assert.That(Allocated(block), format == "kdump" ? Is.EqualTo(before) : Is.LessThanOrEqualTo(4 * (2 << 20)));
        Assert.That(block.IsHole(200 << 20, 2 << 20), Is.True);
        Assert.That(block.IsHole((100 << 20) - PageBytes, 2 * PageBytes), Is.False);
        if (format == "elf")
        {
            CoreFile file = new(dump);
            ReadOnlySpan<byte> contents = file.Contents(file.Loads[0]);
            byte[] expected = new byte[Size];
            foreach (ulong at in s_touched)
            {
                page.CopyTo(expected, (int)at);
            }

            Assert.That(contents.SequenceEqual(expected), Is.True);
        }
    }

    [Test]
    public void PrivateMemoryOfAFileIsNotTakenForItsHoles()
    {
        RamBlock? block = RamBackends.CreateMemFd(new RamOptions("m", Size), hugeTlb: false, 0, seal: false, out string? error);
        Assert.That(error, Is.Null);
        block!.Span(PageBytes, PageBytes).Fill(7);
        Assert.That(block.IsHole(PageBytes, PageBytes), Is.False);
    }

    private static RamBlock Shared(bool isFile)
    {
        RamOptions options = new("m", Size) { Share = true };
        RamBlock? block = isFile
            ? RamBackends.CreateFile(options, "/dev/shm", 0, readOnly: false, out string? error)
            : RamBackends.CreateMemFd(options, hugeTlb: false, 0, seal: true, out error);
        Assert.That(error, Is.Null);
        return block!;
    }

    private static long Allocated(RamBlock block)
    {
        Assert.That(Libc.FStat(block.File!.Fd, out FileStatus status), Is.EqualTo(Errno.OK));
        return status.st_blocks * 512;
    }
}
