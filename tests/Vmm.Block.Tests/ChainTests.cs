using Vmm.Block.Backend;
using Vmm.Block.Graph;
using Vmm.Block.Jobs;
using Vmm.Block.Qmp;
using Vmm.Block.Tests.Qcow2;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;

namespace Vmm.Block.Tests;

/// <summary>Commits and streams over chains that qemu-img has made, while the image on top is written; qemu-img reads the result.</summary>
public sealed class ChainTests : Qcow2Fixture
{
    private const int Length = 4 << 20;
    private const int Cluster = 65536;

    private readonly JobEventLog _events = new();
    private JobManager _jobs = null!;
    private ChainCommands _chains = null!;
    private JobCommands _commands = null!;
    private BlockBackend _disk = null!;
    private byte[] _model = null!;

    [SetUp]
    public void MakeChain()
    {
        _events.Lines.Clear();
        _jobs = new JobManager(Graph, _events);
        BlockBackends backends = new(Graph);
        _chains = new ChainCommands(_jobs);
        _commands = new JobCommands(_jobs);
        _model = new byte[Length];
        string? below = null;
        for (int i = 0; i < 4; i++)
        {
            string path = PathOf(i);
            List<string> arguments = ["create", "-q", "-f", "qcow2"];
            if (below is not null)
            {
                arguments.AddRange(["-b", below, "-F", "qcow2"]);
            }

            Img([.. arguments, path, Length.ToString(System.Globalization.CultureInfo.InvariantCulture)]);
            string backing = below is null ? "" : $", 'backing': 'n{i - 1}'";
            BlockNode node = Open($$"""{'driver': 'qcow2', 'node-name': 'n{{i}}', 'file': {'driver': 'file', 'filename': '{{path}}'}{{backing}} }""");
            Graph.AddMonitorOwned(node);
            for (int k = 0; k < 6; k++)
            {
                int offset = (i * 7 + k * 11) % (Length / Cluster) * Cluster;
                byte[] data = Pattern(Cluster, (i * 100) + k);
                Write(node, offset, data);
                data.CopyTo(_model, offset);
            }

            Loop.RunUntil(node.FlushAsync());
            below = path;
        }

        _disk = backends.Add("disk");
        _disk.SetPermissions(BlockPermissions.ConsistentRead | BlockPermissions.Write, BlockPermissions.ConsistentRead | BlockPermissions.WriteUnchanged);
        _disk.Insert(Graph.Find("n3")!);
    }

    [Test]
    public void AnActiveCommitMovesTheDiskToTheBase()
    {
        Run(_chains.BlockCommit("n3", null, null, null, null, "j", "n0", null, null, null, null, null));
        WriteWhile(() => _jobs.Find("j")!.Status != JobStatus.Ready);
        WriteSome(20);
        _commands.BlockComplete("j");
        WriteWhile(() => _jobs.Find("j") is not null);
        Assert.That(_disk.Root!.Name, Is.EqualTo("n0"));
        WriteSome(5);
        CloseAll();
        Assert.That(Convert(PathOf(0)), Is.EqualTo(_model));
        Assert.That(_events.Lines, Is.EqualTo(new[] { "created", "running", "ready", "READY", "waiting", "pending", "COMPLETED", "concluded", "null" }));
    }

    [Test]
    public void ACancelledActiveCommitLeavesTheChain()
    {
        Run(_chains.BlockCommit("n3", null, null, null, null, "j", "n0", null, null, null, null, null));
        WriteWhile(() => _jobs.Find("j")!.Status != JobStatus.Ready);
        Run(_commands.BlockCancel("j", force: true));
        WriteWhile(() => _jobs.Find("j") is not null);
        Assert.That(_disk.Root!.Name, Is.EqualTo("n3"));
        WriteSome(5);
        CloseAll();
        Assert.That(Convert(PathOf(3)), Is.EqualTo(_model));
    }

    [TestCase("n2", "n1", ExpectedResult = "1")]
    [TestCase("n2", "n0", ExpectedResult = "0")]
    [TestCase("n1", "n0", ExpectedResult = "2")]
    public string AMiddleCommitTakesImagesOutOfTheChain(string top, string lower)
    {
        Run(_chains.BlockCommit("n3", null, null, null, null, "j", lower, top, null, null, null, null));
        WriteWhile(() => _jobs.Find("j") is not null);
        Assert.That(_events.Lines[^3..], Is.EqualTo(new[] { "COMPLETED", "concluded", "null" }));
        CloseAll();
        Assert.That(Convert(PathOf(3)), Is.EqualTo(_model));
        return Path.GetFileNameWithoutExtension(BackingOf(PathOf(3)))![1..];
    }

    [TestCase(null, ExpectedResult = null)]
    [TestCase("n0", ExpectedResult = "i0")]
    [TestCase("n1", ExpectedResult = "i1")]
    public string? AStreamFillsTheImage(string? lower)
    {
        Run(_chains.BlockStream("n3", null, null, null, null, "j", lower, null, null, null, null));
        WriteWhile(() => _jobs.Find("j") is not null);
        Assert.That(_events.Lines[^3..], Is.EqualTo(new[] { "COMPLETED", "concluded", "null" }));
        Assert.That(Graph.Nodes.Select(static n => n.Driver.FormatName), Has.None.EqualTo("copy-on-read"));
        CloseAll();
        Assert.That(Convert(PathOf(3)), Is.EqualTo(_model));
        return Path.GetFileNameWithoutExtension(BackingOf(PathOf(3)));
    }

    [Test]
    public void AStreamInTheMiddleKeepsWhatTheTopShows()
    {
        Run(_chains.BlockStream("n2", null, null, null, null, "j", null, "n1", null, null, null));
        WriteWhile(() => _jobs.Find("j") is not null);
        CloseAll();
        Assert.That(Convert(PathOf(3)), Is.EqualTo(_model));
        Assert.That(BackingOf(PathOf(2)), Is.EqualTo(PathOf(0)));
    }

    [Test]
    public void AChainOnWhichAJobReliesIsNotChanged()
    {
        Run(_chains.BlockStream("n3", null, 65536, null, null, "j", null, null, null, null, null));
        Assert.That(
            () => Loop.RunUntil(Graph.SetBackingAsync(Graph.Find("n2")!, null)),
            Throws.TypeOf<QapiException>().With.Message.EqualTo("Cannot change frozen 'backing' link from 'n2' to 'n1'"));
        Assert.That(
            () => Run(_chains.BlockCommit("disk", null, null, null, null, "k", null, "n2", null, null, null, null)),
            Throws.TypeOf<QapiException>());
        Run(_commands.Cancel("j"));
        WriteWhile(() => _jobs.Find("j") is not null);
        Assert.That(Graph.Find("n2")!.Backing!.IsFrozen, Is.False);
    }

    private string PathOf(int i) => PathOf($"i{i}.qcow2");

    private void Run(Task task) => Loop.RunUntil(task);

    private void WriteSome(int count)
    {
        for (int i = 0; i < count; i++)
        {
            int offset = Random.Shared.Next(Length - 100_000);
            byte[] data = Pattern(Random.Shared.Next(1, 100_000), i);
            using NativeBuffer buffer = new(data.Length);
            data.CopyTo(buffer.Span);
            IoVectors vectors = IoVectors.Rent(buffer.Vector(0, data.Length));
            Assert.That(Loop.RunUntil(_disk.WriteAsync(offset, vectors)), Is.Zero);
            vectors.Return();
            data.CopyTo(_model, offset);
        }
    }

    private void WriteWhile(Func<bool> condition)
    {
        for (int i = 0; condition(); i++)
        {
            if (i < 40)
            {
                WriteSome(1);
            }

            Loop.RunOnce(block: i >= 40);
        }
    }

    private void CloseAll()
    {
        BlockNode root = _disk.Remove()!;
        for (int i = 3; i >= 0; i--)
        {
            if (Graph.Find($"n{i}") is { } node)
            {
                Loop.RunUntil(Graph.DeleteAsync(node));
            }
        }

        Assert.That(Graph.Nodes, Is.Empty, root.Name);
        Img("check", "-q", PathOf(0));
        Img("check", "-q", PathOf(3));
    }

    private string? BackingOf(string image)
    {
        string info = Img("info", image);
        int at = info.IndexOf("backing file: ", StringComparison.Ordinal);
        return at < 0 ? null : info[(at + 14)..].Split('\n')[0].Split(" (")[0];
    }
}
