using System.Security.Cryptography;
using System.Text;
using Vmm.ObjectModel.Objects;
using Vmm.ObjectModel.Qmp;
using Vmm.Qapi;

namespace Vmm.ObjectModel.Tests.Qom;

/// <summary>User objects answer as QEMU 7.2 was recorded to answer.</summary>
public sealed class ObjectTests
{
    private Bench _bench = null!;

    [SetUp]
    public void SetUp() => _bench = new Bench();

    [TearDown]
    public void TearDown() => _bench.Dispose();

    [TestCase("""{"qom-type":"memory-backend-ram","id":"m1"}""", "Parameter 'size' is missing")]
    [TestCase("""{"qom-type":"memory-backend-ram","id":"m1","size":0}""", "property 'size' of memory-backend-ram doesn't take value '0'")]
    [TestCase("""{"qom-type":"memory-backend-ram","id":"m1","size":"4G"}""", "Parameter 'size' expects uint64")]
    [TestCase("""{"qom-type":"memory-backend-ram","id":"1m","size":4096}""", "Parameter 'id' expects an identifier")]
    [TestCase("""{"qom-type":"memory-backend-ram","id":"","size":4096}""", "Parameter 'id' expects an identifier")]
    [TestCase("""{"qom-type":"memory-backend-ram","id":"m1","size":4096,"bogus":1}""", "Parameter 'bogus' is unexpected")]
    [TestCase("""{"qom-type":"memory-backend-nope","id":"m1"}""", "Parameter 'qom-type' does not accept value 'memory-backend-nope'")]
    [TestCase("""{"qom-type":"sample-card","id":"m1"}""", "Parameter 'qom-type' does not accept value 'sample-card'")]
    [TestCase("""{"qom-type":"memory-backend-ram"}""", "Parameter 'id' is missing")]
    [TestCase("""{"id":"x"}""", "Parameter 'qom-type' is missing")]
    [TestCase("""{"qom-type":"memory-backend-ram","id":"m4","size":8192,"host-nodes":[0]}""",
        "host-nodes must be empty for policy default, or you should explicitly specify a policy other than default")]
    [TestCase("""{"qom-type":"memory-backend-ram","id":"m4","size":8192,"policy":"bind"}""", "host-nodes must be set for policy bind")]
    [TestCase("""{"qom-type":"memory-backend-ram","id":"m4","size":8192,"policy":"bindx"}""", "Parameter 'policy' does not accept value 'bindx'")]
    [TestCase("""{"qom-type":"memory-backend-ram","id":"m4","size":8192,"host-nodes":[128],"policy":"bind"}""", "Invalid host-nodes value: 128")]
    [TestCase("""{"qom-type":"memory-backend-ram","id":"m4","size":8192,"host-nodes":5,"policy":"bind"}""",
        "Invalid parameter type for 'host-nodes', expected: array")]
    [TestCase("""{"qom-type":"memory-backend-ram","id":"m4","size":8192,"prealloc-threads":0}""",
        "property 'prealloc-threads' of memory-backend-ram doesn't take value '0'")]
    [TestCase("""{"qom-type":"memory-backend-ram","id":"m4","size":8192,"reserve":false,"prealloc":true}""",
        "'prealloc=on' and 'reserve=off' are incompatible")]
    [TestCase("""{"qom-type":"memory-backend-ram","id":"m7","size":1152921504606846976}""",
        "cannot set up guest memory 'm7': Cannot allocate memory")]
    [TestCase("""{"qom-type":"memory-backend-file","id":"f1","size":4096}""", "Parameter 'mem-path' is missing")]
    [TestCase("""{"qom-type":"memory-backend-file","id":"f1","size":4096,"mem-path":"/nope/x"}""",
        "can't open backing store /nope/x for guest RAM: No such file or directory")]
    [TestCase("""{"qom-type":"memory-backend-memfd","id":"g1","size":4096,"hugetlb":true,"hugetlbsize":3000000}""",
        "Hugepage size must be a power of 2")]
    [TestCase("""{"qom-type":"memory-backend-memfd","id":"g1","size":4096,"hugetlb":true,"hugetlbsize":0}""",
        "Property 'memory-backend-memfd.hugetlbsize' doesn't take value '0'")]
    [TestCase("""{"qom-type":"iothread","id":"t","poll-max-ns":-1}""", "poll-max-ns value must be in range [0, 9223372036854775807]")]
    [TestCase("""{"qom-type":"iothread","id":"t","thread-pool-max":0}""", "bad thread-pool-min/thread-pool-max values")]
    [TestCase("""{"qom-type":"iothread","id":"t","thread-pool-min":5,"thread-pool-max":2}""", "bad thread-pool-min/thread-pool-max values")]
    [TestCase("""{"qom-type":"secret","id":"s","data":"zz!","format":"base64"}""", "Base64 data contains invalid characters")]
    [TestCase("""{"qom-type":"secret","id":"s","data":"x","format":"hex"}""", "Parameter 'format' does not accept value 'hex'")]
    [TestCase("""{"qom-type":"secret","id":"s","iv":"x"}""", "Either 'file' or 'data' must be provided")]
    [TestCase("""{"qom-type":"secret","id":"s","data":"x","file":"y"}""", "'file' and 'data' are mutually exclusive")]
    [TestCase("""{"qom-type":"secret","id":"s","file":"/nope"}""",
        "Unable to read /nope: Failed to open file \u201c/nope\u201d: No such file or directory")]
    [TestCase("""{"qom-type":"secret","id":"s","data":"x","keyid":"nope"}""", "No secret with id 'nope'")]
    public void RefusedInKnownWords(string arguments, string desc)
    {
        Assert.That(_bench.Execute("object-add", arguments), Is.EqualTo(Error("GenericError", desc)));
        Assert.That(_bench.Objects.Objects.Children, Is.Empty);
        Assert.That(_bench.Context.Ram.Blocks, Is.Empty);
    }

    [Test]
    public void OldAndNewFormMakeTheSameObject()
    {
        Assert.That(Add("""{"qom-type":"memory-backend-ram","id":"a","size":8192,"merge":false}"""), Is.EqualTo("{}"));
        Assert.That(Add("""{"qom-type":"memory-backend-ram","id":"b","props":{"size":8192,"merge":false}}"""), Is.EqualTo("{}"));
        Assert.That(
            _bench.Execute("query-memdev").Replace("\"a\"", "\"b\"", StringComparison.Ordinal).Split("}, {").Select(s => s.Trim('[', ']', '{', '}')).Distinct().Count(),
            Is.EqualTo(1));
    }

    [Test]
    public void ListingsAreInRecordedOrder()
    {
        Add("""{"qom-type":"memory-backend-ram","id":"m0","size":1048576}""");
        Add("""{"qom-type":"memory-backend-ram","id":"m1","size":4095}""");
        Add("""{"qom-type":"memory-backend-ram","id":"mm","size":8192,"share":true,"prealloc":true,"prealloc-threads":2,"merge":false,"dump":false}""");
        Add("""{"qom-type":"memory-backend-ram","id":"m5","size":8192,"reserve":false,"share":true}""");
        Assert.That(_bench.Execute("query-memdev"), Is.EqualTo(
            """[{"share": false, "reserve": true, "prealloc": false, "host-nodes": [], "size": 4095, "merge": true, "dump": true, "policy": "default", "id": "m1"}, """
            + """{"share": true, "reserve": false, "prealloc": false, "host-nodes": [], "size": 8192, "merge": true, "dump": true, "policy": "default", "id": "m5"}, """
            + """{"share": false, "reserve": true, "prealloc": false, "host-nodes": [], "size": 1048576, "merge": true, "dump": true, "policy": "default", "id": "m0"}, """
            + """{"share": true, "reserve": true, "prealloc": true, "host-nodes": [], "size": 8192, "merge": false, "dump": false, "policy": "default", "id": "mm"}]"""));
        Assert.That(_bench.Execute("qom-list", """{"path":"/objects"}"""), Is.EqualTo(
            """[{"name": "type", "type": "string"}, {"name": "m1", "type": "child<memory-backend-ram>"}, {"name": "m5", "type": "child<memory-backend-ram>"}, """
            + """{"name": "m0", "type": "child<memory-backend-ram>"}, {"name": "mm", "type": "child<memory-backend-ram>"}]"""));
        string[] listed = ["type", "share", "size", "dump", "prealloc-threads", "x-use-canonical-path-for-ramblock-id", "policy", "prealloc-context", "prealloc", "reserve", "host-nodes", "merge", "m0[0]"];
        var properties = (QList)QValue.Parse(_bench.Execute("qom-list", """{"path":"m0"}"""));
        Assert.That(properties.Select(p => ((QDict)p).GetString("name")), Is.EqualTo(listed));
    }

    [Test]
    public void FileBackedListingsHaveTheirOwnPropertiesLast()
    {
        var file = (QList)QValue.Parse(_bench.Execute("qom-list-properties", """{"typename":"memory-backend-file"}"""));
        Assert.That(file.Skip(12).Select(p => ((QDict)p).GetString("name")), Is.EqualTo(new[] { "readonly", "align", "pmem", "mem-path", "discard-data" }));
        var thread = (QList)QValue.Parse(_bench.Execute("qom-list-properties", """{"typename":"iothread"}"""));
        Assert.That(
            thread.Select(p => ((QDict)p).GetString("name")),
            Is.EqualTo(new[] { "type", "thread-pool-min", "aio-max-batch", "thread-pool-max", "poll-max-ns", "poll-grow", "poll-shrink" }));
        var secret = (QList)QValue.Parse(_bench.Execute("qom-list-properties", """{"typename":"secret"}"""));
        Assert.That(
            secret.Select(p => ((QDict)p).GetString("name")),
            Is.EqualTo(new[] { "type", "iv", "keyid", "loaded", "format", "file", "data" }));
    }

    [TestCase("size", "4096", "cannot change property size of memory-backend-ram ")]
    [TestCase("type", "\"x\"", "Property 'memory-backend-ram.type' is not writable")]
    [TestCase("share", "true", "cannot change property value")]
    [TestCase("share", "\"on\"", "Invalid parameter type for 'share', expected: boolean")]
    [TestCase("nope", "true", "Property 'memory-backend-ram.nope' not found")]
    [TestCase("prealloc-threads", "3.5", "Parameter 'prealloc-threads' expects uint64")]
    [TestCase("prealloc-threads", "1099511627776", "Parameter 'prealloc-threads' expects uint32_t")]
    [TestCase("policy", "\"zz\"", "Parameter 'policy' does not accept value 'zz'")]
    [TestCase("reserve", "false", "cannot change property value")]
    public void ChangesAfterwardsAreRefused(string property, string value, string desc)
    {
        Add("""{"qom-type":"memory-backend-ram","id":"m0","size":1048576}""");
        string arguments = $$"""{"path":"/objects/m0","property":"{{property}}","value":{{value}}}""";
        Assert.That(_bench.Execute("qom-set", arguments), Is.EqualTo(Error("GenericError", desc)));
    }

    [Test]
    public void SomeCanBeChangedAfterwards()
    {
        Add("""{"qom-type":"memory-backend-ram","id":"m0","size":1048576}""");
        foreach ((string property, string value) in new[] { ("merge", "false"), ("dump", "false"), ("prealloc", "true"), ("policy", "\"preferred\"") })
        {
            Assert.That(_bench.Execute("qom-set", $$"""{"path":"m0","property":"{{property}}","value":{{value}}}"""), Is.EqualTo("{}"));
            Assert.That(_bench.Execute("qom-get", $$"""{"path":"m0","property":"{{property}}"}"""), Is.EqualTo(value));
        }
    }

    [Test]
    public void DeletingChecksUse()
    {
        Add("""{"qom-type":"memory-backend-ram","id":"m0","size":4096}""");
        var backend = (MemoryBackend)_bench.Objects.Objects.FindChild("m0")!;
        backend.IsMapped = true;
        Assert.That(Delete("m0"), Is.EqualTo(Error("GenericError", "object 'm0' is in use, can not be deleted")));
        backend.IsMapped = false;
        Assert.That(Delete("m0"), Is.EqualTo("{}"));
        Assert.That(Delete("m0"), Is.EqualTo(Error("GenericError", "object 'm0' not found")));
        Assert.That(_bench.Context.Ram.Blocks, Is.Empty);
    }

    [Test]
    public void DuplicateIsRefusedAndTheFirstStays()
    {
        Add("""{"qom-type":"memory-backend-ram","id":"m0","size":4096}""");
        Assert.That(
            Add("""{"qom-type":"iothread","id":"m0"}"""),
            Is.EqualTo(Error("GenericError", "attempt to add duplicate property 'm0' to object (type 'container')")));
        Assert.That(_bench.Objects.Objects.FindChild("m0"), Is.InstanceOf<MemoryBackendRam>());
    }

    [Test]
    public void IOThreadsRunAndAreListed()
    {
        Add("""{"qom-type":"iothread","id":"io0"}""");
        Add("""{"qom-type":"iothread","id":"io1","poll-max-ns":5,"poll-grow":2,"poll-shrink":3,"aio-max-batch":4}""");
        var list = (QList)QValue.Parse(_bench.Execute("query-iothreads"));
        Assert.That(((QDict)list[0]).GetString("id"), Is.EqualTo("io1"));
        Assert.That(((QDict)list[0]).GetInt64("poll-max-ns"), Is.EqualTo(5));
        Assert.That(((QDict)list[1]).GetInt64("poll-max-ns"), Is.EqualTo(32768));
        Assert.That(((QDict)list[1]).GetInt64("thread-id"), Is.GreaterThan(0));
        var thread = (IOThreadObject)_bench.Objects.Objects.FindChild("io0")!;
        using var done = new ManualResetEventSlim();
        thread.Thread.Loop.Post(done.Set);
        done.Wait();
        Assert.That(_bench.Execute("qom-set", """{"path":"io0","property":"poll-max-ns","value":99}"""), Is.EqualTo("{}"));
        Assert.That(thread.Thread.Loop.PollMaxNs, Is.EqualTo(99));
        Assert.That(
            _bench.Execute("qom-set", """{"path":"io0","property":"thread-pool-min","value":100}"""),
            Is.EqualTo(Error("GenericError", "bad thread-pool-min/thread-pool-max values")));
        Assert.That(Delete("io0"), Is.EqualTo("{}"));
    }

    [Test]
    public void SecretsAreDecrypted([Values(0, 1, 15, 16, 17, 100)] int length)
    {
        byte[] key = Enumerable.Range(7, 32).Select(i => (byte)(i * 37)).ToArray();
        byte[] iv = Enumerable.Range(1, 16).Select(i => (byte)(i * 11)).ToArray();
        byte[] plain = Enumerable.Range(0, length).Select(i => (byte)('a' + (i % 26))).ToArray();
        using var aes = Aes.Create();
        aes.Key = key;
        string cipher = Convert.ToBase64String(aes.EncryptCbc(plain, iv));
        Add($$"""{"qom-type":"secret","id":"k","data":"{{Convert.ToBase64String(key)}}","format":"base64"}""");
        string answer = Add($$"""{"qom-type":"secret","id":"s","data":"{{cipher}}","format":"base64","keyid":"k","iv":"{{Convert.ToBase64String(iv)}}"}""");
        Assert.That(answer, Is.EqualTo("{}"));
        Assert.That(SecretCommon.FindText(_bench.Objects, "s"), Is.EqualTo(Encoding.ASCII.GetString(plain)));
    }

    [TestCase("\"data\":\"x\"", "IV is required to decrypt secret")]
    [TestCase("\"data\":\"x\",\"iv\":\"AAAAAAAAAAAAAAAAAAAAAA==\"", "Length 1 must be a multiple of block size 16")]
    [TestCase("\"data\":\"AAAA\",\"iv\":\"AAAA\"", "IV should be 16 bytes in length not 3")]
    [TestCase("\"data\":\"AAAAAAAAAAAAAAAAAAAAAA==\",\"format\":\"base64\",\"iv\":\"AAAAAAAAAAAAAAAAAAAAAA==\"",
        "Incorrect number of padding bytes (36) found on decrypted data")]
    public void BadCiphertextIsRefused(string members, string desc)
    {
        Add("""{"qom-type":"secret","id":"k0","data":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=","format":"base64"}""");
        Assert.That(Add($$"""{"qom-type":"secret","id":"s4","keyid":"k0",{{members}}}"""), Is.EqualTo(Error("GenericError", desc)));
    }

    [Test]
    public void CommandLineFormHasItsOwnTexts()
    {
        static QDict Checked(QDict options) => ObjectOptions.QapiRead(options, new QapiReader(QapiInputMode.Options), null).QapiToValue();

        static string Refusal(QDict options)
        {
            options["qom-type"] = "memory-backend-ram";
            options["id"] = "a";
            return Assert.Throws<QapiException>(() => Checked(options))!.Desc;
        }

        Assert.That(Refusal(new() { ["size"] = "zz" }), Is.EqualTo("Parameter 'size' expects a size value"));
        Assert.That(Refusal(new() { ["size"] = "1.5" }), Is.EqualTo("Parameter 'size' expects a size value"));
        Assert.That(Refusal(new() { ["size"] = "4096", ["prealloc-threads"] = "-1" }), Is.EqualTo("Parameter 'prealloc-threads' expects a uint64 value"));
        Assert.That(Refusal(new() { ["size"] = "4096", ["host-nodes"] = "1-0" }), Is.EqualTo("Parameter 'host-nodes' expects a uint64 value or range"));
        Assert.That(Refusal(new() { ["size"] = "4096", ["bogus"] = "1" }), Is.EqualTo("Invalid parameter 'bogus'"));
        Assert.That(Refusal(new() { ["size"] = "4096", ["host-nodes"] = "0-65536" }), Is.EqualTo("Parameter 'host-nodes' expects a uint64 value or range"));
        QDict options = Checked(new()
        {
            ["qom-type"] = "memory-backend-ram", ["id"] = "a", ["size"] = new QList { "1.5k", "2.5k" }, ["share"] = "yes",
            ["host-nodes"] = new QList { "1-3", "7" },
        });
        Assert.That(options.ToJson(), Is.EqualTo(new QDict
        {
            ["qom-type"] = "memory-backend-ram", ["id"] = "a", ["host-nodes"] = new QList { 1, 2, 3, 7 }, ["share"] = true, ["size"] = 2560,
        }.ToJson()));
    }

    [Test]
    public void HelpIsPrintedAsKnown()
    {
        Assert.That(_bench.UserObjects.HelpProperties("iothread"), Is.EqualTo(
            "iothread options:\n  aio-max-batch=<int>\n  poll-grow=<int>\n  poll-max-ns=<int>\n  poll-shrink=<int>\n  thread-pool-max=<int>\n  thread-pool-min=<int>\n"));
        Assert.That(_bench.UserObjects.HelpProperties("memory-backend-ram"), Does.Contain(
            "\n  merge=<bool>           - Mark memory as mergeable\n  policy=<HostMemPolicy> - Set the NUMA policy\n"));
        Assert.That(_bench.UserObjects.HelpTypes(), Is.EqualTo(
            "List of user creatable objects:\n  authz-list\n  authz-list-file\n  authz-simple\n  iothread\n  memory-backend-file\n  memory-backend-memfd\n  memory-backend-ram\n  secret\n"
            + "  secret_keyring\n  thread-context\n  tls-creds-anon\n  tls-creds-psk\n  tls-creds-x509\n"));
    }

    private static string Error(string errorClass, string desc) => new QDict { ["class"] = errorClass, ["desc"] = desc }.ToJson();

    private string Add(string arguments) => _bench.Execute("object-add", arguments);

    private string Delete(string id) => _bench.Execute("object-del", $$"""{"id":"{{id}}"}""");
}
