using System.Text.Json.Nodes;
using Vmm.TestKit.Processes;

namespace Vmm.Guest.Tests;

/// <summary>
/// A guest under KVM that writes to its disk all the time, several requests being under way whenever a job begins, becomes ready or ends. Images
/// have, by qemu-img, what the guest had written at the moment that the job promises: writes that were complete before, none that began after,
/// and of the few between them whole ones.
/// </summary>
[TestFixture("")]
[TestFixture(",iothread=io")]
public sealed class DiskJobTests(string thread) : DiskWriterFixture(thread)
{
    // Slow enough for writes to meet the copy.
    private const int BytesPerSecond = 16 << 20;

    [SetUp]
    public void Start()
    {
        Launch();
        WriteOn();
    }

    [Test]
    public void BackupsHaveTheMomentOfTheirBeginning()
    {
        Add("full");
        Qmp.Execute("block-dirty-bitmap-add", """{"node": "disk", "name": "b"}""");
        (long, long) first = During(() => Qmp.Execute("transaction", $$"""
            {"actions": [
              {"type": "block-dirty-bitmap-clear", "data": {"node": "disk", "name": "b"} },
              {"type": "blockdev-backup", "data": {"job-id": "j", "device": "disk", "target": "full", "sync": "full", "speed": {{BytesPerSecond}} } }]}
            """));
        WriteOn();
        WaitCompleted();
        WriteOn();
        Add("more", backing: "full");
        (long, long) second = During(() => Qmp.Execute(
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
            Qmp.Execute("block-job-cancel", """{"device": "j"}""");
            WaitCompleted();
        });
        Limit();
        WriteOn();
        (long, long) last = Quit();
        AssertIsOf("target", moment);
        AssertIsOf("disk", last);
    }

    [Test]
    public void TheActiveLayerIsCommitted()
    {
        (long, long) moment = Snapshot();
        Qmp.Execute("block-commit", $$"""{"job-id": "j", "device": "top", "speed": {{BytesPerSecond}} }""");
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
        Qmp.Execute("block-stream", $$"""{"job-id": "j", "device": "top", "speed": {{BytesPerSecond}} }""");
        WriteOn();
        WaitCompleted();
        WriteOn();
        (long, long) last = Quit();
        AssertIsOf("disk", moment);
        AssertIsOf("top", last);
        Assert.That(JsonNode.Parse(QemuImg.Run(["info", "--output=json", PathOf("top")]))!.AsObject().ContainsKey("backing-filename"), Is.False);
    }

    private void Add(string node, string backing = "")
    {
        Create(node, backing);
        string more = backing.Length > 0 ? $", \"backing\": \"{backing}\"" : "";
        Qmp.Execute("blockdev-add", $$"""{"driver": "qcow2", "node-name": "{{node}}", "file": {"driver": "file", "filename": "{{PathOf(node)}}"}{{more}} }""");
    }

    private (long, long) Snapshot()
    {
        (long, long) moment = During(() => Qmp.Execute(
            "blockdev-snapshot-sync", $$"""{"node-name": "disk", "snapshot-file": "{{PathOf("top")}}", "snapshot-node-name": "top"}"""));
        WriteOn();
        return moment;
    }

    private void StartMirror(string mode) => Qmp.Execute(
        "blockdev-mirror",
        $$"""{"job-id": "j", "device": "disk", "target": "target", "sync": "full", "copy-mode": "{{mode}}", "speed": {{BytesPerSecond}} }""");

    // A copy in the background ends only under a guest that leaves it time.
    private void WaitReady(bool isPaced)
    {
        WriteOn();
        if (isPaced)
        {
            Limit(requestsPerSecond: 200);
        }

        Qmp.Execute("block-job-set-speed", """{"device": "j", "speed": 0}""");
        Qmp.WaitEvent("BLOCK_JOB_READY");
        WriteOn(8);
    }

    private void Complete()
    {
        Qmp.Execute("job-complete", """{"id": "j"}""");
        WaitCompleted();
        Limit();
    }

    private void WaitCompleted()
    {
        JsonObject data = Qmp.WaitEvent("BLOCK_JOB_COMPLETED")["data"]!.AsObject();
        Assert.That(data.ContainsKey("error"), Is.False, data.ToJsonString());
    }
}
