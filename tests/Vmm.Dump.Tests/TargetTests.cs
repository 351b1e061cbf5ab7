using Vmm.Dump.Guest;
using Vmm.Dump.Kdump;
using Vmm.Dump.Tests.Readers;
using Vmm.Interop;

namespace Vmm.Dump.Tests;

public sealed class TargetTests
{
    private TestMemory _memory = null!;
    private string _path = "";

    [SetUp]
    public void Make()
    {
        _memory = new TestMemory();
        byte[] contents = new byte[3 << 20];
        new Random(1).NextBytes(contents.AsSpan(1 << 20, 1 << 20));
        _memory.Add(0x1000, contents);
        _path = Path.GetTempFileName();
    }

    [TearDown]
    public void Remove() => File.Delete(_path);

    [Test]
    public void PipeTakesItInOrder([Values] bool isCore, [Values] bool isNonBlocking)
    {
        Libc.Pipe(isNonBlocking ? Libc.O_NONBLOCK : 0, out SafeFd read, out SafeFd write);
        if (isNonBlocking)
        {
            Libc.SetNonBlocking(read.Fd, false);
        }

        Task<byte[]> reader = Task.Run(() => ReadAll(read));
        Assert.That(Dumps.Write(write, _memory.Map, isCore ? null : KdumpCompression.Zlib, isFlat: true), Is.Null);
        AssertIsDump(reader.Result, isCore);
    }

    [Test]
    public void FileThatIsAppendedToKeepsWhatItHas([Values] bool isCore)
    {
        File.WriteAllText(_path, "abc");
        Assert.That(
            Dumps.Write(Dumps.Open(_path, Libc.O_APPEND), _memory.Map, isCore ? null : KdumpCompression.Zlib, isFlat: true), Is.Null);
        byte[] bytes = File.ReadAllBytes(_path);
        Assert.That(bytes.AsSpan(0, 3).SequenceEqual("abc"u8), Is.True);
        AssertIsDump(bytes[3..], isCore);
    }

    [Test]
    public void FileThatHasContentsIsOverwritten([Values] bool isCore)
    {
        byte[] old = new byte[8 << 20];
        Array.Fill(old, (byte)0xee);
        File.WriteAllBytes(_path, old);
        Assert.That(Dumps.Write(Dumps.Open(_path), _memory.Map, isCore ? null : KdumpCompression.Zlib, isFlat: !isCore), Is.Null);
        byte[] bytes = File.ReadAllBytes(_path);
        Assert.That(bytes, Has.Length.EqualTo(old.Length), "what is behind the dump stays");
        byte[] dump = Dumps.ToFile(_memory.Map, isCore ? null : KdumpCompression.Zlib, isFlat: !isCore);
        Assert.That(bytes.AsSpan(0, dump.Length).SequenceEqual(dump), Is.True);
        Assert.That(bytes.AsSpan(dump.Length).IndexOfAnyExcept((byte)0xee), Is.EqualTo(-1));
    }

    [Test]
    public void DescriptorInTheMiddleOfAFileBeginsThere([Values] bool isCore)
    {
        File.WriteAllBytes(_path, [1, 2, 3, 4, 5]);
        SafeFd file = Dumps.Open(_path);
        Libc.LSeek(file.Fd, 5, Libc.SEEK_SET);
        file.Dup(out SafeFd same);
        using (same)
        {
            Assert.That(Dumps.Write(file, _memory.Map, isCore ? null : KdumpCompression.Zlib, isFlat: !isCore), Is.Null);
            byte[] bytes = File.ReadAllBytes(_path);
            Assert.That(Libc.LSeek(same.Fd, 0, Libc.SEEK_CUR), Is.EqualTo(bytes.Length), "whoever goes on writing does so behind the dump");
            Assert.That(bytes.AsSpan(0, 5).SequenceEqual<byte>([1, 2, 3, 4, 5]), Is.True);
            AssertIsDump(bytes[5..], isCore);
        }
    }

    [Test]
    public void HolesStayHoles()
    {
        TestMemory memory = new();
        byte[] contents = new byte[64 << 20];
        contents[32 << 20] = 1;
        contents[^1] = 2;
        memory.Add(0, contents);
        SafeFd file = Dumps.Open(_path);
        file.Dup(out SafeFd same);
        using (same)
        {
            Assert.That(Dumps.Write(file, memory.Map), Is.Null);
            Libc.FStat(same.Fd, out FileStatus status);
            Assert.That(status.st_size, Is.GreaterThan(64 << 20));
            Assert.That(status.st_blocks * 512, Is.LessThan(4 << 20));
            CoreFile core = new(File.ReadAllBytes(_path));
            Assert.That(core.Contents(core.Loads[0]).SequenceEqual(contents), Is.True);
        }
    }

    [Test]
    public void FullDeviceIsAnError()
    {
        Assert.That(Dumps.Write(Dumps.Open("/dev/full"), _memory.Map), Is.EqualTo("dump: failed to write elf header: No space left on device"));
        Assert.That(
            Dumps.Write(Dumps.Open("/dev/full"), _memory.Map, KdumpCompression.Zlib, isFlat: true),
            Is.EqualTo("dump: failed to write start flat header"));
    }

    [Test]
    public void ReaderThatGoesAwayIsAnError([Values] bool isCore)
    {
        Libc.Pipe(0, out SafeFd read, out SafeFd write);
        read.Dispose();
        string? error = Dumps.Write(write, _memory.Map, isCore ? null : KdumpCompression.Zlib, isFlat: true);
        Assert.That(error, Is.EqualTo(isCore ? "dump: failed to write elf header: Broken pipe" : "dump: failed to write start flat header"));
    }

    [Test]
    public void ReaderThatGoesAwayInTheMiddleIsAnError()
    {
        Libc.Pipe(0, out SafeFd read, out SafeFd write);
        Task reader = Task.Run(() =>
        {
            byte[] buffer = new byte[10_000];
            for (int got = 0; got < 500_000; got += read.Read(buffer))
            {
            }

            read.Dispose();
        });
        Assert.That(Dumps.Write(write, _memory.Map), Is.EqualTo("dump: failed to save memory: Broken pipe"));
        reader.Wait();
    }

    /// <summary>The file cannot grow beyond some length, and has had a complete dump before.</summary>
    [TestCase("elf", false)]
    [TestCase("kdump", false)]
    [TestCase("kdump", true)]
    public void FileThatCouldNotBeWrittenIsNoDump(string format, bool isFlat)
    {
        KdumpCompression? compression = format == "elf" ? null : KdumpCompression.Zlib;
        byte[] old = Dumps.ToFile(_memory.Map, compression, isFlat);
        Assert.That(Libc.MemFdCreate("dump", Libc.MFD_ALLOW_SEALING | Libc.MFD_CLOEXEC, out SafeFd file), Is.EqualTo(Errno.OK));
        Libc.Write(file.Fd, old);
        Libc.LSeek(file.Fd, 0, Libc.SEEK_SET);
        Assert.That(Libc.Fcntl(file.Fd, Libc.F_ADD_SEALS, Libc.F_SEAL_GROW), Is.Zero);
        TestMemory larger = new();
        larger.Add(0x1000, _memory.Model[0].Contents);
        byte[] more = new byte[1 << 20];
        new Random(2).NextBytes(more);
        larger.Add(0x80_0000, more);
        file.Dup(out SafeFd same);
        using (same)
        {
            string? error = Dumps.Write(file, larger.Map, compression, isFlat);
            Assert.That(error, Is.EqualTo(
                format == "elf" ? "dump: failed to save memory: Operation not permitted"
                : isFlat ? "dump: failed to write page desc" : "dump: failed to write page data"));
            byte[] start = new byte[16];
            Libc.PRead(same.Fd, start, 0);
            Assert.That(start, Is.EqualTo(new byte[16]), "neither the new dump nor the old one");
        }
    }

    [Test]
    public void MemoryOfADumpDoesNotGrowWithTheGuest()
    {
        long before = NativeBuffer.LiveBytes;
        long[] allocated = new long[2];
        GuestMemoryMap[] guests = [Zeroes(4 << 20), Zeroes(256 << 20)];
        foreach (KdumpCompression? compression in new KdumpCompression?[] { null, KdumpCompression.Zlib })
        {
            Assert.That(Dumps.Write(Dumps.Open(_path), guests[0], compression), Is.Null);
            for (int i = 0; i < guests.Length; i++)
            {
                long start = GC.GetTotalAllocatedBytes();
                Assert.That(Dumps.Write(Dumps.Open(_path), guests[i], compression), Is.Null);
                allocated[i] = GC.GetTotalAllocatedBytes() - start;
            }

            Assert.That(allocated[1] - allocated[0], Is.LessThan(1 << 20));
        }

        Assert.That(NativeBuffer.LiveBytes, Is.EqualTo(before));
    }

    [Test]
    public void BuffersOfADumpAreThoseOfItsThreads()
    {
        const int Threads = 3;
        long before = NativeBuffer.LiveBytes;
        Libc.Pipe(0, out SafeFd read, out SafeFd write);
        byte[] contents = new byte[16 << 20];
        new Random(3).NextBytes(contents);
        TestMemory memory = new();
        memory.Add(0, contents);
        Task<string?> dump = Task.Run(() => Dumps.Write(write, memory.Map, KdumpCompression.Zlib, isFlat: true, threads: Threads));
        byte[] buffer = new byte[4096];
        for (int got = 0; got < 4 << 20;)
        {
            got += read.Read(buffer);
        }

        Assert.That(NativeBuffer.LiveBytes - before, Is.InRange(1, Threads * (600 << 10)));
        ReadAll(read);
        Assert.That(dump.Result, Is.Null);
        Assert.That(NativeBuffer.LiveBytes, Is.EqualTo(before));
    }

    private static GuestMemoryMap Zeroes(ulong bytes) => GuestMemoryMap.Of([new GuestMemoryRange(0, bytes, TestMemory.Block(bytes), 0)]);

    private static byte[] ReadAll(SafeFd file)
    {
        using MemoryStream all = new();
        byte[] buffer = new byte[65536];
        for (int n; (n = file.Read(buffer)) > 0;)
        {
            all.Write(buffer, 0, n);
        }

        file.Dispose();
        return all.ToArray();
    }

    private void AssertIsDump(byte[] bytes, bool isCore)
    {
        byte[] contents = _memory.Model[0].Contents;
        if (isCore)
        {
            CoreFile core = new(bytes);
            Assert.That(core.Contents(core.Loads[0]).SequenceEqual(contents), Is.True);
        }
        else
        {
            KdumpReader dump = new(bytes);
            Assert.That(dump.IsFlat, Is.True);
            Assert.That(dump.Pages.SelectMany(dump.Read).SequenceEqual(contents), Is.True);
        }
    }
}
