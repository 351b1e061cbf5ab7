using System.Buffers.Binary;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json.Nodes;
using Vmm.TestKit.Guests;
using Vmm.TestKit.Processes;

namespace Vmm.Guest.Tests;

/// <summary>A guest under KVM that writes to its disk all the time, and what the images must have at a moment.</summary>
/// <param name="thread">What makes an iothread serve the disk, for <c>-device</c>; nothing for the main loop.</param>
public abstract class DiskWriterFixture(string thread)
{
    private string _folder = "";
    private GuestRun? _run;

    private protected GuestRun Run => _run!;

    protected QmpClient Qmp { get; private set; } = null!;

    [SetUp]
    public void FindPeers()
    {
        GuestRun.RequireKvm();
        if (!QemuImg.IsInstalled)
        {
            Assert.Ignore(QemuImg.Missing);
        }

        _folder = Emulator.NewDirectory();
    }

    [TearDown]
    public void End()
    {
        _run?.Dispose();
        _run = null;
        if (_folder.Length > 0)
        {
            Directory.Delete(_folder, recursive: true);
        }
    }

    /// <summary>Starts the guest with a new image, node and file "disk".</summary>
    protected void Launch(string format = "qcow2", int crashAfter = 0)
    {
        Create("disk", format: format);
        _run = GuestRun.Start(
            "microvm", DiskWriterGuest.Build(crashAfter), debugExit: false, "-m", "64", "-object", "iothread,id=io",
            "-global", "virtio-mmio.force-legacy=false",
            "-blockdev", $"driver={format},node-name=disk,file.driver=file,file.filename={PathOf("disk")}",
            "-device", "virtio-blk-device,drive=disk,id=d" + thread);
        Qmp = _run.Emulator.Qmp();
        _run.WaitDebug(static text => text.Length > 0);
    }

    protected string PathOf(string name) => Path.Combine(_folder, name);

    protected void Create(string name, string backing = "", string format = "qcow2")
    {
        string[] more = backing.Length > 0 ? ["-b", PathOf(backing), "-F", "qcow2"] : [];
        string bytes = (DiskWriterGuest.Blocks * DiskWriterGuest.BlockBytes).ToString(CultureInfo.InvariantCulture);
        QemuImg.Run(["create", "-q", "-f", format, .. more, PathOf(name), bytes]);
    }

    /// <summary>Limits the disk; 0 for no limit.</summary>
    protected void Limit(int requestsPerSecond = 0, int bytesPerSecond = 0) => Qmp.Execute(
        "block_set_io_throttle",
        $$"""{"id": "d", "bps": {{bytesPerSecond}}, "bps_rd": 0, "bps_wr": 0, "iops": {{requestsPerSecond}}, "iops_rd": 0, "iops_wr": 0}""");

    /// <summary>The guest writes some more.</summary>
    protected void WriteOn(int writes = 100)
    {
        long from = Written();
        WaitFor(() => Written() >= from + writes);
    }

    protected void WaitFor(Func<bool> condition)
    {
        if (!Run.WaitFor(condition, 60))
        {
            Assert.Fail($"the guest stopped at {Written()}: {Run.DebugText} {Run.Emulator.Errors}");
        }
    }

    /// <summary>The number of writes that the guest knows to be done, since its last start.</summary>
    protected long Written() => Life().Written;

    /// <summary>The number of the guest's starts, and of the writes that it knows to be done since the last one.</summary>
    protected (long Start, long Written) Life()
    {
        ReadOnlySpan<byte> bytes = Memory(DiskWriterGuest.Completed, 8);
        return (BinaryPrimitives.ReadUInt32LittleEndian(bytes[4..]), BinaryPrimitives.ReadUInt32LittleEndian(bytes));
    }

    /// <summary>Guest memory.</summary>
    protected byte[] Memory(uint address, int bytes)
    {
        string file = PathOf("memory");
        Qmp.Execute("pmemsave", $$"""{"val": {{address}}, "size": {{bytes}}, "filename": "{{file}}"}""");
        return File.ReadAllBytes(file);
    }

    /// <summary>The numbers of writes that the guest knew to be done before and after.</summary>
    protected (long From, long To) During(Action action)
    {
        long from = Written();
        action();
        return (from, Written());
    }

    protected (long From, long To) Quit()
    {
        Qmp.Execute("stop");
        long written = Written();
        Assert.That(Run.DebugText, Does.Match("^B+$"), "no request has failed");
        Qmp.Execute("quit");
        Run.Emulator.WaitExit();
        return (written, written);
    }

    /// <summary>The image is of one moment in the guest's first life.</summary>
    protected void AssertIsOf(string image, (long From, long To) moment, string format = "qcow2")
    {
        if (format == "qcow2")
        {
            QemuImg.Run(["check", "-q", PathOf(image)]);
        }

        long[] contents = Contents(image, format);
        long last = contents.Max() & uint.MaxValue;

        // The guest learns of writes when all that were under way together are complete: each of the last ones may be there or not.
        long whole = last == 0 ? 0 : Math.Max(moment.From, (last - 1) / DiskWriterGuest.Depth * DiskWriterGuest.Depth);
        Assert.That(last, Is.LessThanOrEqualTo(moment.To + DiskWriterGuest.Depth), $"{image}: the last write, from {moment.From} on");
        long[] expected = After(1, whole);
        foreach ((int block, long value) in UnderWay(1, whole))
        {
            expected[block] = contents[block] == value ? value : expected[block];
        }

        AssertAre(image, contents, expected);
    }

    /// <summary>What the blocks have after so many writes.</summary>
    protected static long[] After(long start, long writes)
    {
        long[] expected = new long[DiskWriterGuest.Blocks];
        for (long i = 1; i <= writes; i++)
        {
            expected[DiskWriterGuest.BlockOf(i)] = (start << 32) | i;
        }

        return expected;
    }

    /// <summary>The writes that may be under way after so many are done.</summary>
    protected static IEnumerable<(int Block, long Value)> UnderWay(long start, long writes)
    {
        for (long i = writes + 1; i <= writes + DiskWriterGuest.Depth; i++)
        {
            yield return (DiskWriterGuest.BlockOf(i), (start << 32) | i);
        }
    }

    protected static void AssertAre(string image, long[] contents, long[] expected)
    {
        for (int block = 0; block < DiskWriterGuest.Blocks; block++)
        {
            Assert.That(contents[block], Is.EqualTo(expected[block]), $"{image}: block {block}");
        }
    }

    /// <summary>The number in each block, which is of one write.</summary>
    protected long[] Contents(string image, string format)
    {
        string raw = PathOf(image);
        if (format != "raw")
        {
            raw = PathOf("raw");
            QemuImg.Run(["convert", "-f", format, "-O", "raw", PathOf(image), raw]);
        }

        ReadOnlySpan<long> words = MemoryMarshal.Cast<byte, long>(File.ReadAllBytes(raw));
        const int Words = DiskWriterGuest.BlockBytes / 8;
        long[] contents = new long[DiskWriterGuest.Blocks];
        for (int block = 0; block < DiskWriterGuest.Blocks; block++)
        {
            contents[block] = words[block * Words];
            Assert.That(words.Slice(block * Words, Words).ContainsAnyExcept(contents[block]), Is.False, $"{image}: block {block} is of one write");
        }

        return contents;
    }
}
