using System.Text.Json.Nodes;
using Vmm.TestKit.Processes;
using Vmm.TestKit.Qmp;

namespace Vmm.Qmp.Tests;

/// <summary>
/// blockdev-add as clients of version 2.6 of the interface send it: the options nested in "options", for a node, for a user with a node, or
/// for both. What may be in there is what today's command takes.
/// </summary>
public sealed class OldBlockdevAddTests
{
    private Emulator _emulator = null!;
    private QmpClient _client = null!;
    private string _directory = "";
    private string _file = "";

    [SetUp]
    public void Start()
    {
        _directory = Emulator.NewDirectory();
        _file = Path.Combine(_directory, "disk");
        using (FileStream file = File.Create(_file))
        {
            file.SetLength(1 << 20);
        }

        _emulator = Monitored.Start();
        _client = _emulator.Qmp();
    }

    [TearDown]
    public void Stop()
    {
        _client.Dispose();
        _emulator.Dispose();
        Directory.Delete(_directory, true);
    }

    [Test]
    public void ANodeAlone()
    {
        Add("{'driver': 'raw', 'node-name': 'n', 'cache': {'writeback': true, 'direct': false, 'no-flush': true}, "
            + "'file': {'driver': 'file', 'filename': '" + _file + "', 'cache': {'writeback': true} } }");
        JsonNode node = Node("n");
        Assert.That((string?)node["file"], Is.EqualTo(_file));
        Assert.That((bool)node["cache"]!["no-flush"]!);
        Assert.That(_client.Execute("query-block")!.AsArray(), Is.Empty);
        _client.Execute("x-blockdev-del", new JsonObject { ["node-name"] = "n" });
        Assert.That(_client.Execute("query-named-block-nodes")!.AsArray(), Is.Empty);
    }

    [Test]
    public void AUserWithANodeThatHasNoName()
    {
        Add("{'driver': 'raw', 'id': 'd', 'rerror': 'ignore', 'werror': 'stop', 'stats-account-invalid': false, 'stats-account-failed': false, "
            + "'stats-intervals': [5, 60], 'cache': {'writeback': false}, 'file': {'driver': 'file', 'filename': '" + _file + "'} }");
        JsonNode drive = Drive("d");
        Assert.That((string?)drive["inserted"]!["file"], Is.EqualTo(_file));
        Assert.That((bool)drive["inserted"]!["cache"]!["writeback"]!, Is.False);
        JsonNode stats = _client.Execute("query-blockstats")!.AsArray().Single(d => (string?)d!["device"] == "d")!["stats"]!;
        Assert.That((bool)stats["account_invalid"]!, Is.False);
        Assert.That((bool)stats["account_failed"]!, Is.False);
        Assert.That(stats["timed_stats"]!.AsArray().Select(s => (int)s!["interval_length"]!), Is.EquivalentTo((int[])[5, 60]));
        _client.Execute("x-blockdev-del", new JsonObject { ["id"] = "d" });
        Assert.That(_client.Execute("query-block")!.AsArray(), Is.Empty);
        Assert.That(_client.Execute("query-named-block-nodes")!.AsArray(), Is.Empty);
    }

    [Test]
    public void AUserAndItsNode()
    {
        Add("{'driver': 'raw', 'id': 'd', 'node-name': 'n', 'aio': 'threads', 'read-only': true, 'discard': 'unmap', 'detect-zeroes': 'off', "
            + "'file': {'driver': 'file', 'filename': '" + _file + "', 'node-name': 'f'} }");
        Assert.That((string?)Drive("d")["inserted"]!["node-name"], Is.EqualTo("n"));
        Assert.That((bool)Node("n")["ro"]!);
        Assert.That((string?)Node("f")["drv"], Is.EqualTo("file"));
    }

    [Test]
    public void AFileThatExists()
    {
        Add("{'driver': 'file', 'node-name': 'f', 'filename': '" + _file + "'}");
        Add("{'driver': 'raw', 'id': 'd', 'aio': 'native', 'cache': {'direct': true}, 'file': 'f'}");
        Assert.That((string?)Drive("d")["inserted"]!["file"], Is.EqualTo(_file));
        Refused("{'driver': 'raw', 'id': 'd', 'file': 'f'}", "Duplicate ID 'd' for drive");
        Refused("{'driver': 'null-co', 'id': 'f'}", "Device name 'f' conflicts with an existing node name");
        Refused("{'driver': 'null-co', 'id': 'e', 'node-name': 'f'}", "Duplicate nodes with node-name='f'");
    }

    [TestCase("{'driver': 'null-co'}", "'id' and/or 'node-name' need to be specified for the root node")]
    [TestCase("{'driver': 'null-co', 'id': '1'}", "Parameter 'id' expects an identifier")]
    [TestCase("{'driver': 'null-co', 'id': 'd', 'throttling.iops-total': 7}", "Parameter 'throttling.iops-total' is unexpected")]
    [TestCase("{'driver': 'null-co', 'node-name': 'n', 'throttling': {'iops-total': 7} }", "Parameter 'throttling' is unexpected")]
    [TestCase("{'driver': 'null-co', 'node-name': 'n', 'rerror': 'stop'}", "Parameter 'rerror' is unexpected")]
    [TestCase("{'driver': 'null-co', 'node-name': 'n', 'cache': {'writeback': false} }", "Parameter 'cache.writeback' is unexpected")]
    [TestCase("{'driver': 'null-co', 'id': 'd', 'aio': 'slow'}", "invalid aio option")]
    [TestCase("{'driver': 'null-co', 'id': 'd', 'rerror': 'enospc'}", "'enospc' invalid read error action")]
    [TestCase("{'driver': 'null-co', 'id': 'd', 'werror': 'never'}", "'never' invalid write error action")]
    [TestCase("{'driver': 'null-co', 'id': 'd', 'stats-intervals': [0]}", "Invalid interval length: 0")]
    [TestCase("{'driver': 'null-co', 'id': 'd', 'stats-intervals': [1, -1]}", "Invalid interval length: -1")]
    [TestCase("{'driver': 'null-co', 'id': 'd', 'stats-intervals': [4294967296]}", "Invalid interval length: 4294967296")]
    [TestCase("{'driver': 'null-co', 'id': 'd', 'stats-intervals': [-18446744073709551615]}", "Invalid parameter type for 'options.stats-intervals', expected: integer")]
    [TestCase("{'driver': 'null-co', 'id': 'd', 'stats-intervals': 1}", "Invalid parameter type for 'options.stats-intervals', expected: array")]
    [TestCase("{'driver': 'null-co', 'id': 7}", "Invalid parameter type for 'options.id', expected: string")]
    [TestCase("{'id': 'd'}", "Parameter 'driver' is missing")]
    [TestCase("'null-co'", "Invalid parameter type for 'options', expected: object")]
    public void WhatIsRefusedLeavesNothing(string options, string message)
    {
        Refused(options, message);
        Assert.That(_client.Execute("query-block")!.AsArray(), Is.Empty);
        Assert.That(_client.Execute("query-named-block-nodes")!.AsArray(), Is.Empty);
    }

    [Test]
    public void BothFormsAtOnceAreRefused()
    {
        JsonObject both = new() { ["options"] = Parse("{'driver': 'null-co', 'node-name': 'a'}"), ["driver"] = "null-co", ["node-name"] = "b" };
        QmpErrorException e = Assert.Throws<QmpErrorException>(() => _client.Execute("blockdev-add", both))!;
        Assert.That(e.Desc, Does.EndWith("' is unexpected"));
    }

    private static JsonNode Parse(string json) => JsonNode.Parse(json.Replace('\'', '"'))!;

    private void Add(string options) => _client.Execute("blockdev-add", new JsonObject { ["options"] = Parse(options) });

    private void Refused(string options, string message)
    {
        QmpErrorException e = Assert.Throws<QmpErrorException>(() => Add(options))!;
        Assert.That(e.Desc, Is.EqualTo(message));
    }

    private JsonNode Node(string name) =>
        _client.Execute("query-named-block-nodes")!.AsArray().Single(n => (string?)n!["node-name"] == name)!;

    private JsonNode Drive(string id) => _client.Execute("query-block")!.AsArray().Single(d => (string?)d!["device"] == id)!;
}
