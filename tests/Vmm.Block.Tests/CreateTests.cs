using System.Text.RegularExpressions;
using Vmm.Block.Jobs;
using Vmm.Block.Options;
using Vmm.Block.Qmp;
using Vmm.Block.Tests.Qcow2;
using Vmm.Qapi;

namespace Vmm.Block.Tests;

/// <summary>Images that blockdev-create makes, compared with those of qemu-img.</summary>
public sealed partial class CreateTests : Qcow2Fixture
{
    private readonly StatusLog _events = new();
    private JobManager _jobs = null!;
    private ImageCommands _commands = null!;

    [SetUp]
    public void MakeJobs()
    {
        _events.Lines.Clear();
        _jobs = new JobManager(Graph, _events);
        _commands = new ImageCommands(_jobs);
    }

    [TestCase("", "")]
    [TestCase("'version': 'v2'", "compat=0.10")]
    [TestCase("'cluster-size': 4096, 'refcount-bits': 1", "cluster_size=4k,refcount_bits=1")]
    [TestCase("'extended-l2': true, 'lazy-refcounts': true", "extended_l2=on,lazy_refcounts=on")]
    [TestCase("'compression-type': 'zstd', 'preallocation': 'metadata'", "compression_type=zstd,preallocation=metadata")]
    [TestCase("'preallocation': 'falloc'", "preallocation=falloc")]
    [TestCase("'preallocation': 'full'", "preallocation=full")]
    [TestCase("'backing-file': 'base.raw', 'backing-fmt': 'raw'", "backing_file=base.raw,backing_fmt=raw")]
    [TestCase("'data-file': {'driver': 'file', 'filename': 'DATA'}, 'data-file-raw': true", "data_file=DATA,data_file_raw=on")]
    public void AnImageIsWhatQemuImgMakes(string ours, string theirs)
    {
        NewFile("base.raw", 3 << 20);
        string path = PathOf("a.qcow2");
        Create("{'driver': 'file', 'size': 0, 'filename': '" + path + "'}");
        Create("{'driver': 'file', 'size': 0, 'filename': '" + PathOf("DATA") + "'}");
        string more = ours.Length == 0 ? "" : ", " + ours.Replace("'DATA'", "'" + PathOf("DATA") + "'", StringComparison.Ordinal);
        Create("{'driver': 'qcow2', 'size': 3145728, 'file': {'driver': 'file', 'filename': '" + path + "'}" + more + "}");
        Assert.That(Graph.Nodes, Is.Empty);
        AssertClean(path);
        string info = Describe(path);
        string check = Check(path);
        File.Delete(path);
        Create("a.qcow2", "3M", theirs.Replace("=DATA", "=" + PathOf("DATA"), StringComparison.Ordinal));
        Assert.That(info, Is.EqualTo(Describe(path)));
        Assert.That(check, Is.EqualTo(Check(path)));
    }

    [Test]
    public void AJobTellsItsStatesAndStaysUntilItIsDismissed()
    {
        Create("{'driver': 'file', 'size': 4096, 'preallocation': 'full', 'filename': '" + PathOf("f") + "'}", dismiss: false);
        Assert.That(_events.Lines, Is.EqualTo(new[] { "created", "running", "waiting", "pending", "concluded" }));
        Assert.That(new FileInfo(PathOf("f")).Length, Is.EqualTo(4096));
        JobInfo info = new JobCommands(_jobs).QueryJobs()[0];
        Assert.That((info.Type, info.CurrentProgress, info.TotalProgress, info.Error), Is.EqualTo((JobType.Create, 1, 1, (string?)null)));
        Assert.That(new JobCommands(_jobs).QueryBlockJobs(), Is.Empty);
        _jobs.Jobs[0].Dismiss();
        Assert.That(_jobs.Jobs, Is.Empty);
    }

    [Test]
    public void AFailureIsAJobThatFailed()
    {
        Create("{'driver': 'file', 'size': 4096, 'preallocation': 'metadata', 'filename': '" + PathOf("f") + "'}", dismiss: false);
        Assert.That(_events.Lines, Is.EqualTo(new[] { "created", "running", "aborting", "concluded" }));
        Assert.That(_jobs.Jobs[0].Error, Is.EqualTo("Unsupported preallocation mode: metadata"));
        Assert.That(
            () => Create("{'driver': 'null-co'}"), Throws.TypeOf<QapiException>().With.Message.EqualTo("Driver does not support blockdev-create"));
    }

    [Test]
    public void AnAmendWithoutChangesSucceeds()
    {
        string path = Create("a.qcow2", "1M");
        OpenImage(path, "'node-name': 'n', ");
        _commands.BlockdevAmend("a", "n", BlockdevAmendOptions.QapiRead(QValue.Parse("{'driver': 'qcow2'}"), new QapiReader(), null), null);
        RunToEnd();
        Assert.That(_events.Lines[^1], Is.EqualTo("concluded"));
        Assert.That(
            () => _commands.BlockdevAmend("b", "n", BlockdevAmendOptions.QapiRead(QValue.Parse("{'driver': 'raw'}"), new QapiReader(), null), null),
            Throws.TypeOf<QapiException>().With.Message.EqualTo("x-blockdev-amend doesn't support changing the block driver"));
    }

    [GeneratedRegex("""("actual-size": \d+|"date-.*?")""")]
    private static partial Regex Varying();

    private void Create(string json, bool dismiss = true)
    {
        _commands.BlockdevCreate("j", BlockdevCreateOptions.QapiRead(QValue.Parse(json), new QapiReader(), null));
        RunToEnd();
        if (dismiss)
        {
            Assert.That(_jobs.Jobs[0].Error, Is.Null);
            _jobs.Jobs[0].Dismiss();
        }
    }

    private void RunToEnd()
    {
        while (_jobs.Jobs[0].Status != JobStatus.Concluded)
        {
            Loop.RunOnce(block: true);
        }
    }

    private string Describe(string path) => Varying().Replace(Img("info", "--output=json", path), "");

    private string Check(string path) => Img("check", "--output=json", path);

    private sealed class StatusLog : IEventEmitter
    {
        internal List<string> Lines { get; } = [];

        public void Emit(IQmpEvent qmpEvent) =>
            Lines.Add(qmpEvent is JobStatusChangeEvent change ? change.Status.ToWire() : qmpEvent.Info.Name);
    }
}
