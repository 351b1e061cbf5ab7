using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.ObjectModel.Tests.Qom;

public sealed class TreeTests
{
    private Bench _bench = null!;

    [SetUp]
    public void SetUp() => _bench = new Bench();

    [TearDown]
    public void TearDown() => _bench.Dispose();

    [TestCase("/", "/")]
    [TestCase("//machine//peripheral/", "/machine/peripheral")]
    [TestCase("peripheral", "/machine/peripheral")]
    [TestCase("machine/unattached", "/machine/unattached")]
    [TestCase("/machine/nope", null)]
    [TestCase("nope", null)]
    public void PathsLeadToObjects(string path, string? canonical) =>
        Assert.That(_bench.Objects.Resolve(path)?.CanonicalPath, Is.EqualTo(canonical));

    [Test]
    public void PartialPathsMustBeUnique()
    {
        _bench.Objects.GetContainer("/machine/a/twin");
        _bench.Objects.GetContainer("/machine/b/twin");
        Assert.That(_bench.Execute("qom-list", """{"path":"twin"}"""), Does.Contain("Path 'twin' is ambiguous"));
        Assert.That(_bench.Execute("qom-list", """{"path":""}"""), Does.Contain("Path '' is ambiguous"));
        Assert.That(_bench.Execute("qom-get", """{"path":"b/twin","property":"type"}"""), Is.EqualTo("\"container\""));
        Assert.That(
            _bench.Execute("qom-get", """{"path":"twin","property":"type"}"""),
            Is.EqualTo("""{"class": "DeviceNotFound", "desc": "Device 'twin' not found"}"""));
    }

    [Test]
    public void ChildrenArePropertiesWithPaths()
    {
        Assert.That(_bench.Execute("qom-get", """{"path":"/","property":"machine"}"""), Is.EqualTo("\"/machine\""));
        Assert.That(
            _bench.Execute("qom-set", """{"path":"/","property":"machine","value":"x"}"""),
            Is.EqualTo("""{"class": "GenericError", "desc": "Property 'container.machine' is not writable"}"""));
    }

    [Test]
    public void LinksResolveWithTypeCheck()
    {
        _bench.Execute("object-add", """{"qom-type":"iothread","id":"io"}""");
        QomTree tree = _bench.Objects;
        Assert.That(tree.ResolveLink("p", "io", "iothread").CanonicalPath, Is.EqualTo("/objects/io"));
        Assert.That(Assert.Throws<QapiException>(() => tree.ResolveLink("p", "nope", "iothread"))!.Desc, Is.EqualTo("Device 'nope' not found"));
        Assert.That(
            Assert.Throws<QapiException>(() => tree.ResolveLink("p", "io", "memory-backend"))!.Desc,
            Is.EqualTo("Invalid parameter type for 'p', expected: memory-backend"));
    }

    [Test]
    public void StarredNamesCountUp()
    {
        QomObject unattached = _bench.Objects.Unattached;
        for (int i = 0; i < 3; i++)
        {
            unattached.AddChild("irq[*]", new Container());
        }

        unattached.FindChild("irq[1]")!.Unparent();
        unattached.AddChild("irq[*]", new Container());
        unattached.AddChild("device[1]", new Container());
        unattached.AddChild("device[*]", new Container());
        unattached.AddChild("irq[*]", new Container());
        unattached.AddChild("device[*]", new Container());
        Assert.That(
            unattached.Children.Select(c => c.Name),
            Is.EqualTo(new[] { "sysbus", "irq[0]", "irq[2]", "irq[1]", "device[1]", "device[0]", "irq[3]", "device[2]" }));
    }

    [Test]
    public void TypeListsAreFiltered()
    {
        Assert.That(_bench.Execute("qom-list-types", """{"implements":"nope"}"""), Is.EqualTo("[]"));
        string all = _bench.Execute("qom-list-types", """{"implements":"memory-backend","abstract":true}""");
        Assert.That(all, Does.Contain("""{"abstract": true, "name": "memory-backend", "parent": "object"}"""));
        string concrete = _bench.Execute("qom-list-types", """{"implements":"user-creatable"}""");
        Assert.That(concrete, Does.Contain("""{"name": "iothread", "parent": "event-loop-base"}""").And.Not.Contains("abstract"));
    }

    [TestCase("nope", """{"class": "DeviceNotFound", "desc": "Class 'nope' not found"}""")]
    [TestCase("user-creatable", """{"class": "GenericError", "desc": "Parameter 'typename' expects a QOM type"}""")]
    public void UnknownTypesAreRefused(string type, string answer) =>
        Assert.That(_bench.Execute("qom-list-properties", $$"""{"typename":"{{type}}"}"""), Is.EqualTo(answer));

    [Test]
    public void EveryTypeHasAKnownParent()
    {
        foreach (QomTypeInfo type in _bench.Types.All())
        {
            Assert.That(string.IsNullOrEmpty(type.Parent) || _bench.Types.TryGet(type.Parent, out _), type.Name);
            foreach (string implemented in type.Interfaces)
            {
                Assert.That(_bench.Types.TryGet(implemented, out _), $"{type.Name}: {implemented}");
            }

            var seen = new HashSet<string>();
            Assert.That(_bench.Types.OwnProperties(type).All(p => seen.Add(p.Name)), type.Name);
        }
    }

    [Test]
    public void TreeIsPrinted() => Assert.That(_bench.Human("info", "qom-tree"), Is.EqualTo(
        "/machine (container)\n  /peripheral (container)\n  /peripheral-anon (container)\n  /unattached (container)\n    /sysbus (System)\n"));
}
