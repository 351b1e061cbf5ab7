using Vmm.Block.Drivers.Files;
using Vmm.Block.Graph;
using Vmm.Block.Jobs;
using Vmm.Block.Qmp;
using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Tests;

/// <summary>What a job writes begins to go to stable storage while the job runs; what others write is left to the kernel.</summary>
public sealed class WriteOutTests : BlockFixture
{
    private const int Length = 9 << 20;

    [TestCase("'file': {'driver': 'file', 'filename': 'F'}")]
    [TestCase("'file': {'driver': 'file', 'filename': 'F', 'aio': 'io_uring'}")]
    public void AMirrorsTargetIsWrittenOut(string file)
    {
        byte[] data = Pattern(Length, 3);
        string source = NewFile("src", 0);
        string target = NewFile("dst", Length);
        File.WriteAllBytes(source, data);
        Graph.AddMonitorOwned(Open($$"""{'driver': 'file', 'node-name': 'src', 'filename': '{{source}}'}"""));
        BlockNode node;
        try
        {
            node = Open($"{{'driver': 'raw', 'node-name': 'dst', {file.Replace("'F'", $"'{target}'", StringComparison.Ordinal)} }}");
        }
        catch (QapiException e) when (file.Contains("io_uring", StringComparison.Ordinal))
        {
            Assert.Ignore("the host has no io_uring: " + e.Desc);
            return;
        }

        Graph.AddMonitorOwned(node);
        BlockNode below = node.File!.Node;
        FileDriver driver = (FileDriver)below.Driver;
        Write(node, 0, data);
        Assert.That(driver.WriteOutSteps, Is.Zero, "no job");
        JobManager jobs = new(Graph, new JobEventLog());
        Loop.RunUntil(new MirrorCommands(jobs).BlockdevMirror(
            "j", "src", "dst", null, MirrorSyncMode.Full, null, null, null, null, null, null, null, null, null));
        Assert.That(below.IsFilledByJob);
        while (jobs.Find("j")!.Status != JobStatus.Ready)
        {
            Loop.RunOnce(block: true);
        }

        Loop.RunUntil(new JobCommands(jobs).BlockCancel("j", force: null));
        while (jobs.Find("j") is not null)
        {
            Loop.RunOnce(block: true);
        }

        Assert.That(driver.WriteOutSteps, Is.Positive);
        Assert.That(below.IsFilledByJob, Is.False);
        Assert.That(File.ReadAllBytes(target), Is.EqualTo(data));
    }

    [Test]
    public void ADrainedSectionWaitsForTheDescriptorThatAStepUses()
    {
        BlockNode node = Open($$"""{'driver': 'file', 'filename': '{{NewFile("f", Length)}}'}""");
        node.AddFiller(1);
        byte[] data = Pattern(Length, 1);
        Write(node, 0, data);
        Loop.RunUntil(node.DrainAsync());
        Assert.That(((FileDriver)node.Driver).WriteOutSteps, Is.EqualTo(1));
        node.DrainEnd();
        Loop.RunUntil(Graph.CloseIfUnusedAsync(node));
    }
}
