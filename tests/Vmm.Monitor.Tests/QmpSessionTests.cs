using System.Text;
using Vmm.Qapi;

namespace Vmm.Monitor.Tests;

public sealed class QmpSessionTests
{
    private const string Greeting =
        """{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Vmm"}, "capabilities": ["oob"]}}""" + "\r\n";

    private const string Status = """{"status": "prelaunch", "singlestep": false, "running": false}""";

    // Recorded from QEMU 7.2 with the same input, but for the test's own commands.
    private static readonly (string Input, string[] Output)[] s_conversation =
    [
        ("""{"execute":"query-status"}""",
            ["""{"error": {"class": "CommandNotFound", "desc": "Expecting capabilities negotiation with 'qmp_capabilities'"}}"""]),
        ("""{"execute":"foo","zz":1}""", ["""{"error": {"class": "GenericError", "desc": "QMP input member 'zz' is unexpected"}}"""]),
        ("""{"exec-oob":"migrate-pause"}""",
            ["""{"error": {"class": "GenericError", "desc": "QMP input member 'exec-oob' is unexpected"}}"""]),
        ("""{"execute":"qmp_capabilities","arguments":{"enable":["foo"]}}""",
            ["""{"error": {"class": "GenericError", "desc": "Parameter 'null' does not accept value 'foo'"}}"""]),
        ("""{"execute":"qmp_capabilities","arguments":{"enable":"oob"}}""",
            ["""{"error": {"class": "GenericError", "desc": "Invalid parameter type for 'enable', expected: array"}}"""]),
        ("""{"execute":"qmp_capabilities","arguments":{"enable":["oob"]},"id":{"b":[1,2.5,null,true,"x"]}}""",
            ["""{"return": {}, "id": {"b": [1, 2.5, null, true, "x"]}}"""]),
        ("""{"execute":"qmp_capabilities"}""",
            ["""{"error": {"class": "CommandNotFound", "desc": "Capabilities negotiation is already complete, command ignored"}}"""]),
        ("""{"execute":"foo"}""", ["""{"error": {"class": "CommandNotFound", "desc": "The command foo has not been found"}}"""]),
        ("""{"exec-oob":"query-status"}""",
            ["""{"error": {"class": "GenericError", "desc": "The command query-status does not support OOB"}}"""]),
        ("""{"exec-oob":"migrate-pause","id":3}""",
            ["""{"id": 3, "error": {"class": "GenericError", "desc": "migrate-pause is currently only supported during postcopy-active state"}}"""]),
        ("""{"execute":"query-status","exec-oob":"query-status"}""",
            ["""{"error": {"class": "GenericError", "desc": "QMP input member 'execute' clashes with 'exec-oob'"}}"""]),
        ("""{"execute":1}""", ["""{"error": {"class": "GenericError", "desc": "QMP input member 'execute' must be a string"}}"""]),
        ("""{"id":1}""", ["""{"id": 1, "error": {"class": "GenericError", "desc": "QMP input lacks member 'execute'"}}"""]),
        ("""[]"abc" 1 """,
            [
                """{"error": {"class": "GenericError", "desc": "QMP input must be a JSON object"}}""",
                """{"error": {"class": "GenericError", "desc": "QMP input must be a JSON object"}}""",
                """{"error": {"class": "GenericError", "desc": "QMP input must be a JSON object"}}""",
            ]),
        ("""{"execute":"query-status","arguments":[]}""",
            ["""{"error": {"class": "GenericError", "desc": "QMP input member 'arguments' must be an object"}}"""]),
        ("""{"execute":"query-status","arguments":{"x":1}}""",
            ["""{"error": {"class": "GenericError", "desc": "Parameter 'x' is unexpected"}}"""]),
        ("""{'execute':'query-status','id':'\'"\u00e9'}""", [$$"""{"return": {{Status}}, "id": "'\"\u00E9"}"""]),
        ("""{"execute":"query-status"#}""",
            [
                """{"error": {"class": "GenericError", "desc": "JSON parse error, stray '#'"}}""",
                """{"error": {"class": "GenericError", "desc": "JSON parse error, expecting value"}}""",
            ]),
        ("""{"execute":"echo","arguments":{"value":[{"a":{},"b":[]}]}}""", ["""{"return": [{"a": {}, "b": []}]}"""]),
    ];

    [Test]
    public void ConversationIsQemus()
    {
        using var fixture = new MonitorFixture();
        (MemoryChannel channel, _) = fixture.Open();
        Assert.That(channel.TakeOutput(), Is.EqualTo(Greeting));
        foreach ((string input, string[] output) in s_conversation)
        {
            channel.Send(input);
            Assert.That(channel.TakeOutput(), Is.EqualTo(string.Concat(output.Select(o => o + "\r\n"))), input);
        }
    }

    [Test]
    public void AnySplitGivesTheSame()
    {
        byte[] input = Encoding.UTF8.GetBytes(string.Concat(s_conversation.Select(c => c.Input)));
        string output = Greeting + string.Concat(s_conversation.SelectMany(c => c.Output).Select(o => o + "\r\n"));
        for (int split = 0; split <= input.Length; split++)
        {
            using var fixture = new MonitorFixture();
            (MemoryChannel channel, _) = fixture.Open();
            channel.Send(input[..split]);
            channel.Send(input[split..]);
            Assert.That(channel.TakeOutput(), Is.EqualTo(output), $"split at {split}");
        }

        using var bytewise = new MonitorFixture();
        (MemoryChannel single, _) = bytewise.Open();
        foreach (byte b in input)
        {
            single.Send([b]);
        }

        Assert.That(single.TakeOutput(), Is.EqualTo(output));
    }

    [Test]
    public void ManyCommandsOfOneReadAreAnsweredInOneWrite()
    {
        using var fixture = new MonitorFixture();
        (MemoryChannel channel, _) = fixture.Open(negotiate: true);
        int before = channel.WriteCalls;
        channel.Send(string.Concat(Enumerable.Repeat("""{"execute":"query-status"}""", 1000)));
        Assert.That(channel.WriteCalls - before, Is.EqualTo(1));
        Assert.That(channel.TakeOutput(), Is.EqualTo(string.Concat(Enumerable.Repeat($$"""{"return": {{Status}}}""" + "\r\n", 1000))));
    }

    [Test]
    public void PrettyFormIsQemus()
    {
        using var fixture = new MonitorFixture();
        (MemoryChannel channel, _) = fixture.Open(pretty: true);
        channel.TakeOutput();
        channel.Send("""{"execute":"qmp_capabilities"}{"execute":"echo","id":[[]],"arguments":{"value":{"a":[1]}}}""");
        Assert.That(
            channel.TakeOutput().ReplaceLineEndings("\n"),
            Is.EqualTo("{\n    \"return\": {\n    }\n}\n{\n    \"return\": {\n        \"a\": [\n            1\n        ]\n    },\n"
                + "    \"id\": [\n        [\n        ]\n    ]\n}\n"));
    }

    [Test]
    public void OutOfBandOvertakesABlockedCommand()
    {
        using var fixture = new MonitorFixture();
        (MemoryChannel channel, _) = fixture.Open(negotiate: true, oob: true);
        channel.Send("""{"execute":"block","id":1}{"execute":"query-status","id":2}{"exec-oob":"echo","id":3,"arguments":{"value":7}}""");
        Assert.That(channel.TakeOutput(), Is.EqualTo("""{"return": 7, "id": 3}""" + "\r\n"));
        fixture.Commands.Blocked!.SetResult();
        fixture.Turn();
        Assert.That(
            channel.TakeOutput(),
            Is.EqualTo("""{"return": {}, "id": 1}""" + "\r\n" + $$"""{"return": {{Status}}, "id": 2}""" + "\r\n"));
    }

    [Test]
    public void AtMostEightRequestsAreQueued()
    {
        using var fixture = new MonitorFixture();
        (MemoryChannel channel, QmpSession session) = fixture.Open(negotiate: true, oob: true);
        channel.Send("""{"execute":"block","id":0}""");
        for (int i = 1; i <= 8; i++)
        {
            Assert.That(session.CanReceive, Is.GreaterThan(0));
            channel.Send("{\"execute\":\"echo\",\"arguments\":{\"value\":" + i + "}}");
        }

        Assert.That(session.CanReceive, Is.Zero);
        channel.Send("""{"exec-oob":"echo","arguments":{"value":"late"}}""");
        Assert.That(channel.IsInputBlocked);
        Assert.That(channel.TakeOutput(), Is.Empty);
        fixture.Commands.Blocked!.SetResult();
        fixture.Turn();
        string output = channel.TakeOutput();
        Assert.That(output, Does.StartWith("""{"return": {}, "id": 0}""" + "\r\n"));
        Assert.That(output.Split("\r\n"), Has.Length.EqualTo(11));
        Assert.That(output, Does.Contain("\"late\""));
    }

    [Test]
    public void WithoutOobOneRequestIsReadAtATime()
    {
        using var fixture = new MonitorFixture();
        (MemoryChannel channel, QmpSession session) = fixture.Open(negotiate: true);
        channel.Send("""{"execute":"block-fail","id":0}{"execute":"echo","arguments":{"value":1}}{"execute":"echo","arguments":{"value":2}}""");
        Assert.That(session.CanReceive, Is.Zero);
        Assert.That(channel.TakeOutput(), Is.Empty);
        fixture.Commands.Blocked!.SetResult();
        fixture.Turn();
        Assert.That(
            channel.TakeOutput(),
            Is.EqualTo("""{"id": 0, "error": {"class": "DeviceNotFound", "desc": "Device 'x' not found"}}""" + "\r\n"
                + "{\"return\": 1}\r\n{\"return\": 2}\r\n"));
        Assert.That(session.CanReceive, Is.GreaterThan(0));
    }

    [Test]
    public void ClientThatDoesNotReadCostsBoundedMemoryAndHurtsNobody()
    {
        using var fixture = new MonitorFixture();
        (MemoryChannel stuck, QmpSession session) = fixture.Open(negotiate: true);
        (MemoryChannel other, _) = fixture.Open(negotiate: true);
        stuck.Room = 0;
        string large = new('x', 1000);
        int accepted = 0;
        while (session.CanReceive > 0 && accepted < 10_000)
        {
            stuck.Send("{\"execute\":\"echo\",\"arguments\":{\"value\":\"" + large + "\"}}");
            accepted++;
        }

        Assert.That(accepted, Is.LessThan((QmpSession.OutputLimit / 1000) + 2));
        other.Send("""{"execute":"query-status"}""");
        Assert.That(other.TakeOutput(), Does.Contain("prelaunch"));
        for (int i = 0; i < 100_000; i++)
        {
            fixture.Core.Emit(new StopEvent());
        }

        stuck.Send("""{"execute":"query-status"}""");
        stuck.MakeRoom(int.MaxValue);
        string output = stuck.TakeOutput();
        Assert.That(output.Length, Is.LessThan(QmpSession.EventLimit + QmpSession.OutputLimit));
        Assert.That(output.Split("\r\n").Count(l => l.Contains(large, StringComparison.Ordinal)), Is.EqualTo(accepted));
        Assert.That(output, Does.EndWith($$"""{"return": {{Status}}}""" + "\r\n"));
    }

    [Test]
    public void OutputThatIsTakenInPiecesIsComplete()
    {
        using var fixture = new MonitorFixture();
        (MemoryChannel channel, _) = fixture.Open(negotiate: true);
        channel.Room = 3;
        channel.Send("""{"execute":"query-status","id":1}{"execute":"query-status","id":2}""");
        string expected = $$"""{"return": {{Status}}, "id": 1}""" + "\r\n" + $$"""{"return": {{Status}}, "id": 2}""" + "\r\n";
        for (int i = 0; i < 200 && channel.Output.Length < expected.Length; i++)
        {
            channel.MakeRoom(1);
        }

        Assert.That(channel.Output, Is.EqualTo(expected));
    }

    [Test]
    public void ReconnectionStartsOver()
    {
        using var fixture = new MonitorFixture();
        (MemoryChannel channel, QmpSession session) = fixture.Open(negotiate: true);
        bool lastGone = false;
        fixture.Core.LastClientGone = () => lastGone = true;
        channel.Send("""{"execute":"block"}{"execute":"echo","arguments":{"value":"never"}}{"execute":"query-""");
        channel.Disconnect();
        Assert.That(lastGone);
        channel.Connect();
        Assert.That(channel.TakeOutput(), Is.EqualTo(Greeting));
        Assert.That(session.IsNegotiated, Is.False);
        channel.Send("""{"execute":"qmp_capabilities"}""");
        fixture.Commands.Blocked!.SetResult();
        fixture.Turn();
        Assert.That(channel.TakeOutput(), Is.EqualTo("{\"return\": {}}\r\n"));
        channel.Send("""{"execute":"query-status"}""");
        Assert.That(channel.TakeOutput(), Is.EqualTo($$"""{"return": {{Status}}}""" + "\r\n"));
    }

    [Test]
    public void CommandsOfTwoMonitorsRunOneAtATime()
    {
        using var fixture = new MonitorFixture();
        (MemoryChannel one, _) = fixture.Open(negotiate: true);
        (MemoryChannel two, _) = fixture.Open(negotiate: true);
        one.Send("""{"execute":"block","arguments":{"name":"a"}}""");
        two.Send("""{"execute":"block","arguments":{"name":"b"}}""");
        Assert.That(fixture.Commands.Log, Is.EqualTo(new[] { "block a" }));
        TaskCompletionSource first = fixture.Commands.Blocked!;
        fixture.Commands.Blocked = null;
        first.SetResult();
        fixture.Turn();
        Assert.That(fixture.Commands.Log, Is.EqualTo(new[] { "block a", "unblock a", "block b" }));
        fixture.Commands.Blocked!.SetResult();
        fixture.Turn();
        Assert.That(two.TakeOutput(), Is.EqualTo("{\"return\": {}}\r\n"));
    }

    [Test]
    public void DescriptorsBelongToTheCommandTheyCameWith()
    {
        using var fixture = new MonitorFixture();
        (MemoryChannel channel, _) = fixture.Open(negotiate: true, oob: true);
        var stray = new FakeFd(1);
        channel.Send("""{"execute":"query-status"}""", stray);
        channel.Send("""{"execute":"block"}""");
        channel.Send("""{"execute":"getfd","arguments":{"fdname":"a"}}""", new FakeFd(2));
        channel.Send("""{"execute":"query-status"}{"execute":"getfd","arguments":{"fdname":"b"}}""", new FakeFd(3));
        channel.Send("""{"execute":"getfd","arguments":{"fdname":"c"}}""");
        channel.Send("""{"execute":"getfd","argu""", new FakeFd(4));
        channel.Send("""ments":{"fdname":"d"}}""");
        fixture.Commands.Blocked!.SetResult();
        fixture.Turn();
        Assert.That(fixture.Commands.Log.Where(l => l.Contains('=')), Is.EqualTo(new[] { "a=2", "b=3", "d=4" }));
        Assert.That(channel.TakeOutput(), Does.Contain("No file descriptor supplied via SCM_RIGHTS"));
        Assert.That(stray.IsClosed);
    }

    [Test]
    public void NamedDescriptorsAreTakenReplacedAndClosed()
    {
        using var fixture = new MonitorFixture();
        (MemoryChannel channel, QmpSession session) = fixture.Open(negotiate: true);
        var first = new FakeFd(1);
        var second = new FakeFd(2);
        session.AddNamedFd("a", first);
        session.AddNamedFd("a", second);
        Assert.That(first.IsClosed);
        Assert.That(session.TakeNamedFd("a"), Is.SameAs(second));
        Assert.That(session.CloseNamedFd("a"), Is.False);
        var third = new FakeFd(3);
        session.AddNamedFd("b", third);
        fixture.Core.Remove(session);
        Assert.That(third.IsClosed);
    }

    [Test]
    public void BeforeTheMachineExistsOnlySomeCommandsArePermitted()
    {
        using var fixture = new MonitorFixture();
        fixture.Core.IsPreconfig = true;
        (MemoryChannel channel, _) = fixture.Open(negotiate: true);
        channel.Send("""{"execute":"query-status"}{"execute":"stop","id":2}""");
        Assert.That(
            channel.TakeOutput(),
            Is.EqualTo($$"""{"return": {{Status}}}""" + "\r\n" + """{"id": 2, "error": {"class": "GenericError", "desc": """
                + "\"The command 'stop' is permitted only after machine initialization has completed\"}}\r\n"));
    }

    [Test]
    public void MetaCommandsDescribeTheTable()
    {
        using var fixture = new MonitorFixture();
        (MemoryChannel channel, _) = fixture.Open(negotiate: true);
        channel.Send("""{"execute":"query-version"}""");
        Assert.That(
            channel.TakeOutput(),
            Is.EqualTo("""{"return": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Vmm"}}""" + "\r\n"));
        channel.Send("""{"execute":"query-commands"}""");
        Assert.That(channel.TakeOutput(), Does.Contain("""{"name": "query-qmp-schema"}"""));
        channel.Send("""{"execute":"query-events"}""");
        Assert.That(channel.TakeOutput(), Is.EqualTo("""{"return": [{"name": "PORT_CHANGE"}, {"name": "STOP"}]}""" + "\r\n"));
        channel.Send("""{"execute":"query-qmp-schema"}""");
        var schema = ((QDict)QValue.Parse(channel.TakeOutput())).GetList("return")!;
        var names = schema.Cast<QDict>().Select(e => e.GetString("name")!).ToList();
        Assert.That(names, Is.Unique);
        foreach (QDict entry in schema.Cast<QDict>())
        {
            foreach (string reference in References(entry))
            {
                Assert.That(names, Does.Contain(reference));
            }
        }
    }

    [Test]
    public void SteadyStateAllocatesLittle()
    {
        using var fixture = new MonitorFixture();
        (MemoryChannel channel, _) = fixture.Open(negotiate: true);
        byte[] command = """{"execute": "query-status"}"""u8.ToArray();
        for (int i = 0; i < 100; i++)
        {
            channel.Send(command);
        }

        channel.TakeOutput();
        long before = GC.GetAllocatedBytesForCurrentThread();
        channel.Send(command);
        Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.LessThan(800));
    }

    private static IEnumerable<string> References(QDict entry)
    {
        foreach (string key in new[] { "arg-type", "ret-type", "element-type" })
        {
            if (entry.GetString(key) is { } type)
            {
                yield return type;
            }
        }

        foreach (string key in new[] { "members", "variants" })
        {
            foreach (QValue member in entry.GetList(key) ?? [])
            {
                if (((QDict)member).GetString("type") is { } type)
                {
                    yield return type;
                }
            }
        }
    }
}
