using Vmm.Block.Graph;
using Vmm.Block.Jobs;
using Vmm.Block.Tests.Nbd;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;

namespace Vmm.Block.Tests;

/// <summary>The terminal's commit, beside qemu-img's.</summary>
public sealed class CommitTests : NbdFixture
{
    [TestCase("0.10", false)]
    [TestCase("1.1", true)]
    public void TheBackingFileGetsWhatQemuImgPutsThere(string compat, bool hasSnapshot)
    {
        Need("qemu-img", "qemu-io");
        foreach (string who in new[] { "ours", "theirs" })
        {
            Good("qemu-img", "create", "-q", "-f", "qcow2", $"{who}.base", "1M");
            Good("qemu-io", "-c", "write -P 1 0 1M", $"{who}.base");
            Good("qemu-img", "create", "-q", "-f", "qcow2", "-o", "compat=" + compat, "-b", $"{who}.base", "-F", "qcow2", $"{who}.top", "3M");
            Good("qemu-io", "-c", "write -P 2 64k 200k", "-c", "write -z 640k 64k", "-c", "write -P 3 2M 512k", $"{who}.top");
            if (hasSnapshot)
            {
                Good("qemu-img", "snapshot", "-c", "s", $"{who}.top");
                Good("qemu-io", "-c", "write -P 4 128k 64k", $"{who}.top");
            }
        }

        string before = Path.Combine(Folder, "before");
        Good("qemu-img", "convert", "-O", "raw", "ours.top", before);
        BlockNode top = Open($$"""{"driver": "qcow2", "node-name": "t", "file": {"driver": "file", "filename": "{{Path.Combine(Folder, "ours.top")}}"} }""");
        Graph.AddMonitorOwned(top);
        Assert.That(Commit(top), Is.Zero);
        Assert.That(Read(top, 0, 3 << 20), Is.EqualTo(File.ReadAllBytes(before)));
        Assert.That(Loop.RunUntil(top.StatusAsync(0, 3 << 20, false)).Flags & BlockStatusFlags.Allocated, Is.EqualTo(BlockStatusFlags.None), "the image is empty");
        Write(top, 70000, Pattern(1000, 1));
        Write(top, 70000, File.ReadAllBytes(before)[70000..71000]);
        Assert.That(Commit(top), Is.Zero);
        Loop.RunUntil(Graph.DeleteAsync(top));
        Good("qemu-img", "commit", "-q", "theirs.top");
        foreach (string image in new[] { "base", "top" })
        {
            Good("qemu-img", "check", "-q", "ours." + image);
            Good("qemu-img", "compare", "-q", "ours." + image, "theirs." + image);
        }
    }

    [Test]
    public void RefusalsHaveTheirNumbers()
    {
        BlockNode plain = Open("""{"driver": "null-co", "node-name": "n", "size": 65536}""");
        Assert.That(Commit(plain), Is.EqualTo(BlockResult.NotSupported));
        Need("qemu-img");
        Good("qemu-img", "create", "-q", "-f", "qcow2", "b", "1M");
        Good("qemu-img", "create", "-q", "-f", "qcow2", "-b", "b", "-F", "qcow2", "t");
        BlockNode top = Open($$"""{"driver": "qcow2", "node-name": "t", "file": {"driver": "file", "filename": "{{Path.Combine(Folder, "t")}}"} }""");
        top.JobInUse = JobType.Mirror;
        Assert.That(Commit(top), Is.EqualTo(-(int)Errno.EBUSY));
        top.JobInUse = null;
        Loop.RunUntil(Graph.CloseIfUnusedAsync(top));
    }

    private int Commit(BlockNode top)
    {
        int result = 0;
        Loop.RunUntil(Graph.ChangeAsync(async () => result = await ImageCommit.RunAsync(Graph, top)));
        return result;
    }
}
