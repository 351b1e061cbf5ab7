using System.Runtime.InteropServices;
using Vmm.Qapi;

namespace Vmm.Generators.Tests;

public sealed class CommandTests
{
    private CommandTable _table = null!;
    private SampleCommands _commands = null!;

    [SetUp]
    public void SetUp()
    {
        _table = new CommandTable();
        _commands = new SampleCommands();
        TestsCatalog.Register(_table, _commands);
    }

    [Test]
    public async Task ResultIsWrittenInWireOrder()
    {
        Assert.That(
            await Run("query-sample", "{}"),
            Is.EqualTo("""[{"host": "\u00E9", "to": 5, "type": "ringbuf"}]"""));
        Assert.That(
            await Run("sample-add", """{"id":"a","backend":{"kind":"null"}}"""),
            Is.EqualTo(QValue.Parse("""{"id": "a", "addr": {"host": "h", "type": "null"}, "matrix": [[1, 2], []]}""").ToJson()));
    }

    [TestCase("sample-add", """{"backend":{}}""", "Parameter 'id' is missing")]
    [TestCase("sample-add", """{"id":"a","backend":{}}""", "Parameter 'backend.kind' is missing")]
    [TestCase("sample-add", """{"id":"a","backend":{"kind":"x"}}""", "Parameter 'kind' does not accept value 'x'")]
    [TestCase("sample-add", """{"id":"a","backend":{"kind":5}}""", "Invalid parameter type for 'backend.kind', expected: string")]
    [TestCase("sample-add", """{"id":"a","backend":1}""", "Invalid parameter type for 'backend', expected: object")]
    [TestCase("sample-add", """{"id":"a","backend":{"kind":"socket"}}""", "Parameter 'backend.data' is missing")]
    [TestCase("sample-add", """{"id":"a","backend":{"kind":"socket","data":{"id":"b","addr":{"host":1}}}}""",
        "Invalid parameter type for 'backend.data.addr.host', expected: string")]
    [TestCase("sample-add", """{"id":"a","backend":{"kind":"socket","data":{"id":"b","addr":{"host":"h","type":"null","to":65536}}}}""",
        "Parameter 'to' expects uint16_t")]
    [TestCase("sample-add", """{"id":"a","backend":{"kind":"socket","data":{"id":"b","addr":{"host":"h","type":"null"},"more":[{"host":1}]}}}""",
        "Invalid parameter type for 'backend.data.more[0].host', expected: string")]
    [TestCase("sample-add",
        """{"id":"a","backend":{"kind":"socket","data":{"id":"b","addr":{"host":"h","type":"null"},"matrix":[[1],[2,"x"]]}}}""",
        "Invalid parameter type for 'backend.data.matrix[1][1]', expected: integer")]
    [TestCase("sample-add", """{"id":"a","backend":{"kind":"null","extra":1}}""", "Parameter 'backend.extra' is unexpected")]
    [TestCase("sample-add", """{"id":"a","backend":{"kind":"null"},"extra":1}""", "Parameter 'extra' is unexpected")]
    [TestCase("sample-add", """{"id":"a","backend":{"kind":"ringbuf","ratio":1,"small":128}}""", "Parameter 'small' expects int8_t")]
    [TestCase("sample-add", """{"id":"a","backend":{"kind":"ringbuf","ratio":"1"}}""",
        "Invalid parameter type for 'backend.ratio', expected: number")]
    [TestCase("sample-add", """{"id":"a","backend":{"kind":"null"},"count":1.5}""",
        "Invalid parameter type for 'count', expected: integer")]
    [TestCase("sample-wait", """{"ref":5}""", "Invalid parameter type for 'ref', expected: SampleRefWire")]
    [TestCase("query-sample", """{"x":1}""", "Parameter 'x' is unexpected")]
    public void ArgumentsAreCheckedWithFullPaths(string command, string arguments, string desc)
    {
        var error = Assert.ThrowsAsync<QapiException>(() => Run(command, arguments))!;
        Assert.That(error.Desc, Is.EqualTo(desc));
        Assert.That(error.ErrorClass, Is.EqualTo(QapiErrorClass.GenericError));
    }

    [Test]
    public async Task ParametersArrive()
    {
        await Run("sample-add", """{"id":"a","backend":{"kind":"ringbuf","ratio":1,"small":-5},"count":7}""");
        await Run("sample-open", """{"driver":"d","x":{"y":[1]}}""");
        await Run("sample-wait", """{"ref":{"host":"h","type":"socket"},"flag":true}""");
        await Run("sample-wait", """{"ref":"r","cpu":2}""");
        Assert.That(_commands.Calls, Is.EqualTo(new[]
        {
            "a RingBuffer 7", """{"x": {"y": [1]}, "driver": "d"}""", " h True  mon0", "r  False 2 mon0",
        }));
        Assert.That(await Run("sample-boxed", """{"host":"h","type":"null","to":9}"""), Is.EqualTo("9"));
    }

    [Test]
    public void EventsCarryTheirDeclaration()
    {
        IQmpEvent change = new SampleChange("a", true, 1, 2);
        var writer = new JsonWriter();
        change.QapiWrite(writer);
        QDict reference = new() { ["id"] = "a", ["open"] = true, ["len"] = 1, ["offset"] = 2 };
        Assert.That(writer.ToString(), Is.EqualTo(reference.ToJson()));
        Assert.That(change.RateKey, Is.EqualTo("a"));
        Assert.That(change.Info.RateLimitMs, Is.EqualTo(1000));
        Assert.That(SampleStop.QmpEventInfo.HasData, Is.False);
        Assert.That(_table.Events.Select(e => e.Name), Is.EqualTo(new[] { "SAMPLE_CHANGE", "SAMPLE_STOP" }));
    }

    [Test]
    public void GeneratedAndDynamicOrderAgree()
    {
        var value = new SampleBackend
        {
            Label = "l",
            Kind = SampleKind.Socket,
            Socket = new SampleSocket
            {
                Id = "i",
                Wait = false,
                Addr = new SampleAddress { Host = "h", To = 1, Type = SampleKind.Socket },
                More = [],
                Matrix = [[3]],
            },
        };
        var writer = new JsonWriter();
        value.QapiWrite(writer);
        Assert.That(writer.ToString(), Is.EqualTo(value.QapiToValue().ToJson()));
        var reader = new QapiReader();
        SampleBackend back = SampleBackend.QapiRead(QValue.Parse(writer.WrittenSpan), reader, null);
        Assert.That(back.QapiToValue().ValueEquals(value.QapiToValue()));
    }

    [Test]
    public void SchemaDescribesTheTable()
    {
        var schema = (QList)QValue.Parse(_table.SchemaJson.Span);
        Dictionary<string, QDict> byName = schema.Cast<QDict>().ToDictionary(e => e.GetString("name")!);
        QDict add = byName["sample-add"];
        Assert.That(add.GetBool("allow-oob"), Is.True);
        QDict arguments = byName[add.GetString("arg-type")!];
        var members = arguments.GetList("members")!.Cast<QDict>().ToList();
        Assert.That(members.Select(m => m.GetString("name")), Is.EqualTo(new[] { "id", "backend", "count" }));
        Assert.That(members[2].ContainsKey("default"));
        QDict backend = byName[members[1].GetString("type")!];
        Assert.That(backend.GetString("tag"), Is.EqualTo("kind"));
        Assert.That(backend.GetList("variants")!.Cast<QDict>().Select(v => v.GetString("case")), Is.EqualTo(new[] { "socket", "ringbuf", "null" }));
        QDict query = byName["query-sample"];
        Assert.That(query.GetList("features")!.ToJson(), Is.EqualTo("""["unstable"]"""));
        QDict array = byName[query.GetString("ret-type")!];
        Assert.That(array.GetString("name"), Is.EqualTo("[" + array.GetString("element-type") + "]"));
    }

    [Test]
    public async Task HmpArgumentsArrive()
    {
        var table = new HmpTable();
        TestsCatalog.RegisterHmp(table, _commands);
        var context = new TestContext();
        Assert.That(table.TryGet("info", "sampling", out HmpEntry? info));
        await info!.Invoke(context, new QDict { ["name"] = "n" });
        Assert.That(table.TryGet("", "x", out HmpEntry? x));
        await x!.Invoke(context, new QDict { ["fmt"] = new HmpFormat(4, 'x', 8).ToValue(), ["addr"] = 4096 });
        Assert.That(context.Text, Is.EqualTo("sample n\n4x8 4096\n"));
        Assert.That(table.TryGet("", "sample", out _), Is.False);
    }

    private async Task<string> Run(string command, string arguments)
    {
        Assert.That(_table.TryGet(command, out CommandEntry? entry));
        var writer = new JsonWriter();
        await entry!.Invoke((QDict)QValue.Parse(arguments), new TestSession(), writer);
        return writer.ToString();
    }

    private sealed class TestSession : IMonitorSession
    {
        public string? Name => "mon0";

        public bool IsHmp => false;

        public int CpuIndex { get; set; } = -1;

        public SafeHandle? TakeReceivedFd() => null;

        public void AddNamedFd(string name, SafeHandle fd) => fd.Dispose();

        public bool CloseNamedFd(string name) => false;

        public SafeHandle? TakeNamedFd(string name) => null;
    }

    private sealed class TestContext : HmpContext
    {
        public string Text { get; private set; } = "";

        public override IMonitorSession Session { get; } = new TestSession();

        public override void Print(ReadOnlySpan<char> text) => Text += text.ToString();
    }
}
