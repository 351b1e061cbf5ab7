using System.Buffers.Binary;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json.Nodes;
using Vmm.TestKit.Guests;
using Vmm.TestKit.Processes;

namespace Vmm.Guest.Tests;

/// <summary>
/// A guest under KVM that writes to its disk all the time, several requests being under way whenever a job begins, becomes ready or ends. Images
/// have, by qemu-img, what the guest had written at the moment that the job promises: writes that were complete before, none that began after,
/// and of the few between them whole ones.
/// </summary>
[TestFixture("")]
[TestFixture(",iothread=io")]
public sealed class DiskJobTests(string thread)
{
    // Slow enough for writes to meet the copy.
    private const int BytesPerSecond = 16 << 20;

    private string _folder = "";
    private GuestRun? _run;
    private QmpClient _qmp = null!;

    [SetUp]
    public void Launch()
    {
        GuestRun.RequireKvm();
        if (!File.Exists("/usr/bin/qemu-img"))
        {
            Assert.Ignore("qemu-img (package qemu-utils) is not installed");
        }

        _folder = Emulator.NewDirectory();
        Create("disk", "");
        _run = GuestRun.Start(
            "microvm", DiskWriterGuest.Build(), debugExit: false, "-m", "64", "-object", "iothread,id=io", "-global", "virtio-mmio.force-legacy=false",
            "-blockdev", $"driver=qcow2,node-name=disk,file.driver=file,file.filename={PathOf("disk")}",
            "-device", "virtio-blk-device,drive=disk,id=d" + thread);
        _qmp = _run.Emulator.Qmp();
        _run.WaitDebug(static text => text == "B");
        WriteOn();
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

    [Test]
    public void BackupsHaveTheMomentOfTheirBeginning()
    {
        Add("full");
        _qmp.Execute("block-dirty-bitmap-add", """{"node": "disk", "name": "b"}""");
        (long, long) first = During(() => _qmp.Execute("transaction", $$"""
            {"actions": [
              {"type": "block-dirty-bitmap-clear", "data": {"node": "disk", "name": "b"} },
              {"type": "blockdev-backup", "data": {"job-id": "j", "device": "disk", "target": "full", "sync": "full", "speed": {{BytesPerSecond}} } }]}
            """));
        WriteOn();
        WaitCompleted();
        WriteOn();
        Add("more", backing: "full");
        (long, long) second = During(() => _qmp.Execute(
            "blockdev-backup",
            $$"""{"job-id": "j", "device": "disk", "target": "more", "sync": "incremental", "bitmap": "b", "speed": {{BytesPerSecond}} }"""));
        WriteOn();
        WaitCompleted();
        WriteOn();
        (long, long) last = Quit();
        AssertIsOf("full", first);
        AssertIsOf("more", second);
        AssertIsOf("disk", last);
    }

    [TestCase("background")]
    [TestCase("write-blocking")]
    public void TheDiskMovesToAMirror(string mode)
    {
        Add("target");
        StartMirror(mode);
        WaitReady(isPaced: mode == "background");
        (long, long) moment = During(Complete);
        WriteOn();
        (long, long) last = Quit();
        AssertIsOf("disk", moment);
        AssertIsOf("target", last);
    }

    [TestCase("background")]
    [TestCase("write-blocking")]
    public void AMirrorThatIsCancelledHasTheMomentOfItsEnd(string mode)
    {
        Add("target");
        StartMirror(mode);
        WaitReady(isPaced: mode == "background");
        (long, long) moment = During(() =>
        {
            _qmp.Execute("block-job-cancel", """{"device": "j"}""");
            WaitCompleted();
        });
        Pace(0);
        WriteOn();
        (long, long) last = Quit();
        AssertIsOf("target", moment);
        AssertIsOf("disk", last);
    }

    [Test]
    public void TheActiveLayerIsCommitted()
    {
        (long, long) moment = Snapshot();
        _qmp.Execute("block-commit", $$"""{"job-id": "j", "device": "top", "speed": {{BytesPerSecond}} }""");
        WaitReady(isPaced: true);
        Complete();
        WriteOn();
        (long, long) last = Quit();
        Assert.That(last.Item1, Is.GreaterThan(moment.Item2));
        AssertIsOf("disk", last);
    }

    [Test]
    public void ASnapshotStaysWhileItIsStreamed()
    {
        (long, long) moment = Snapshot();
        _qmp.Execute("block-stream", $$"""{"job-id": "j", "device": "top", "speed": {{BytesPerSecond}} }""");
        WriteOn();
        WaitCompleted();
        WriteOn();
        (long, long) last = Quit();
        AssertIsOf("disk", moment);
        AssertIsOf("top", last);
        Assert.That(JsonNode.Parse(Img(["info", "--output=json", PathOf("top")]))!.AsObject().ContainsKey("backing-filename"), Is.False);
    }

    private string PathOf(string name) => Path.Combine(_folder, name);

    private void Create(string name, string backing)
    {
        string[] more = backing.Length > 0 ? ["-b", PathOf(backing), "-F", "qcow2"] : [];
        string bytes = (DiskWriterGuest.Blocks * DiskWriterGuest.BlockBytes).ToString(CultureInfo.InvariantCulture);
        Img(["create", "-q", "-f", "qcow2", .. more, PathOf(name), bytes]);
    }

    private void Add(string node, string backing = "")
    {
        Create(node, backing);
        string more = backing.Length > 0 ? $", \"backing\": \"{backing}\"" : "";
        _qmp.Execute("blockdev-add", $$"""{"driver": "qcow2", "node-name": "{{node}}", "file": {"driver": "file", "filename": "{{PathOf(node)}}"}{{more}} }""");
    }

    private (long, long) Snapshot()
    {
        (long, long) moment = During(() => _qmp.Execute(
            "blockdev-snapshot-sync", $$"""{"node-name": "disk", "snapshot-file": "{{PathOf("top")}}", "snapshot-node-name": "top"}"""));
        WriteOn();
        return moment;
    }

    private void StartMirror(string mode) => _qmp.Execute(
        "blockdev-mirror",
        $$"""{"job-id": "j", "device": "disk", "target": "target", "sync": "full", "copy-mode": "{{mode}}", "speed": {{BytesPerSecond}} }""");

    // A copy in the background ends only under a guest that leaves it time.
    private void WaitReady(bool isPaced)
    {
        WriteOn();
        if (isPaced)
        {
            Pace(200);
        }

        _qmp.Execute("block-job-set-speed", """{"device": "j", "speed": 0}""");
        _qmp.WaitEvent("BLOCK_JOB_READY");
        WriteOn(8);
    }

    private void Pace(int writesPerSecond) => _qmp.Execute(
        "block_set_io_throttle", $$"""{"id": "d", "bps": 0, "bps_rd": 0, "bps_wr": 0, "iops": {{writesPerSecond}}, "iops_rd": 0, "iops_wr": 0}""");

    private void Complete()
    {
        _qmp.Execute("job-complete", """{"id": "j"}""");
        WaitCompleted();
        Pace(0);
    }

    private void WaitCompleted()
    {
        JsonObject data = _qmp.WaitEvent("BLOCK_JOB_COMPLETED")["data"]!.AsObject();
        Assert.That(data.ContainsKey("error"), Is.False, data.ToJsonString());
    }

    // The guest has written some more.
    private void WriteOn(int writes = 100)
    {
        long from = Written();
        if (!_run!.WaitFor(() => Written() >= from + writes, 60))
        {
            Assert.Fail($"the guest stopped writing at {from}: {_run.DebugText} {_run.Emulator.Errors}");
        }
    }

    private long Written()
    {
        string file = PathOf("count");
        _qmp.Execute("pmemsave", $$"""{"val": {{DiskWriterGuest.Completed}}, "size": 8, "filename": "{{file}}"}""");
        return BinaryPrimitives.ReadInt64LittleEndian(File.ReadAllBytes(file));
    }

    // The numbers of writes that the guest knew to be done before and after.
    private (long From, long To) During(Action action)
    {
        long from = Written();
        action();
        return (from, Written());
    }

    private (long From, long To) Quit()
    {
        _qmp.Execute("stop");
        long written = Written();
        Assert.That(_run!.DebugText, Is.EqualTo("B"), "no request has failed");
        _qmp.Execute("quit");
        _run.Emulator.WaitExit();
        return (written, written);
    }

    private void AssertIsOf(string image, (long From, long To) moment)
    {
        Img(["check", "-q", PathOf(image)]);
        Img(["convert", "-O", "raw", PathOf(image), PathOf("raw")]);
        ReadOnlySpan<long> contents = MemoryMarshal.Cast<byte, long>(File.ReadAllBytes(PathOf("raw")));
        const int Words = DiskWriterGuest.BlockBytes / 8;
        long last = 0;
        for (int block = 0; block < DiskWriterGuest.Blocks; block++)
        {
            last = Math.Max(last, contents[block * Words]);
        }

        // The guest learns of writes when all that were under way together are complete: each of the last ones may be there or not.
        long whole = last == 0 ? 0 : Math.Max(moment.From, (last - 1) / DiskWriterGuest.Depth * DiskWriterGuest.Depth);
        Assert.That(last, Is.LessThanOrEqualTo(moment.To + DiskWriterGuest.Depth), $"{image}: the last write, from {moment.From} on");
        long[] expected = new long[DiskWriterGuest.Blocks];
        long[] alternative = new long[DiskWriterGuest.Blocks];
        for (long i = 1; i <= whole; i++)
        {
            expected[DiskWriterGuest.BlockOf(i)] = i;
        }

        for (long i = whole + 1; i <= whole + DiskWriterGuest.Depth; i++)
        {
            alternative[DiskWriterGuest.BlockOf(i)] = i;
        }

        for (int block = 0; block < DiskWriterGuest.Blocks; block++)
        {
            ReadOnlySpan<long> words = contents.Slice(block * Words, Words);
            long value = words[0] != 0 && words[0] == alternative[block] ? words[0] : expected[block];
            Assert.That(words.ContainsAnyExcept(value), Is.False, $"{image}: block {block} after {whole} writes has {words[0]}, not {value}");
        }
    }

    private static string Img(string[] arguments)
    {
        (int status, string output, string errors) = Emulator.Run("/usr/bin/qemu-img", arguments);
        Assert.That(status, Is.Zero, $"qemu-img {string.Join(' ', arguments)}: {output}{errors}");
        return output;
    }
}
