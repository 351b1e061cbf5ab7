using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Vmm.TestKit.Processes;
using Vmm.TestKit.Qmp;

namespace Vmm.Qmp.Tests;

/// <summary>Images and jobs with the same requests made of QEMU and of the product: what they say must be the same.</summary>
public sealed partial class BlockGraphPeerTests
{
    private string _directory = "";

    [SetUp]
    public void NeedPeers()
    {
        if (Emulator.RealQemu is null || !QemuImg.IsInstalled)
        {
            Assert.Ignore("needs qemu-system-x86 and qemu-utils to compare with");
        }

        _directory = Emulator.NewDirectory();
    }

    [TearDown]
    public void Delete()
    {
        if (_directory.Length > 0)
        {
            Directory.Delete(_directory, true);
        }
    }

    /// <summary>Jobs at rest after their first step: vertices with their numbers, edges with names and permissions, in QEMU's order.</summary>
    [TestCase("{'execute': 'blockdev-backup', 'arguments': {'job-id': 'j', 'device': 'src', 'target': 'tgt', 'sync': 'full', 'speed': 1} }")]
    [TestCase("{'execute': 'blockdev-backup', 'arguments': {'job-id': 'j', 'device': 'src', 'target': 'tgt', 'sync': 'full', 'speed': 1, "
        + "'filter-node-name': 'f'} }")]
    [TestCase("{'execute': 'blockdev-mirror', 'arguments': {'job-id': 'j', 'device': 'src', 'target': 'tgt', 'sync': 'full', 'speed': 1} }")]
    [TestCase("{'execute': 'blockdev-mirror', 'arguments': {'job-id': 'j', 'device': 'src', 'target': 'tgt', 'sync': 'full', 'speed': 1, "
        + "'filter-node-name': 'f', 'copy-mode': 'write-blocking'} }")]
    public void AJobAtRestIsInTheGraph(string start)
    {
        string source = Filled("src");
        string target = Filled("tgt");
        Compare(
            true,
            Node("src", source),
            Node("tgt", target),
            start,
            "{'execute': 'blockdev-del', 'arguments': {'node-name': 'tgt'} }",
            "{'execute': 'x-debug-query-block-graph'}");
    }

    /// <summary>Chains with jobs over all or a part of them, and nodes in the order in which they were opened.</summary>
    [TestCase("block-stream", "'device': 'c'")]
    [TestCase("block-stream", "'device': 'c', 'base-node': 'a', 'filter-node-name': 'f'")]
    [TestCase("block-stream", "'device': 'b', 'bottom': 'a'")]
    [TestCase("block-commit", "'device': 'c'")]
    [TestCase("block-commit", "'device': 'c', 'base-node': 'a'")]
    [TestCase("block-commit", "'device': 'c', 'top-node': 'b'")]
    [TestCase("block-commit", "'device': 'c', 'top-node': 'b', 'base-node': 'a', 'filter-node-name': 'f'")]
    [TestCase("block-commit", "'device': 'c', 'top-node': 'a', 'base-node': 'base'")]
    public void AJobOverAChainIsInTheGraph(string command, string arguments)
    {
        MakeChain();
        Compare(
            true,
            $"{{'execute': 'blockdev-add', 'arguments': {ChainOptions()} }}",
            $"{{'execute': '{command}', 'arguments': {{'job-id': 'j', 'speed': 1, {arguments}}} }}",
            "{'execute': 'query-named-block-nodes', 'arguments': {'flat': true} }",
            "{'execute': 'x-debug-query-block-graph'}");
    }

    /// <summary>A node's file is opened before its name is taken, everything else afterwards; what fails first is what is told.</summary>
    [TestCase("'driver': 'copy-on-read', 'node-name': 't', 'file': {FILE}")]
    [TestCase("'driver': 'copy-before-write', 'node-name': 't', 'file': {FILE}, 'target': {'driver': 'null-co', 'size': 1048576}")]
    [TestCase("'driver': 'blkverify', 'node-name': 't', 'raw': {FILE}, 'test': {'driver': 'null-co', 'size': 1048576}")]
    [TestCase("'driver': 'qcow2', 'node-name': 't', 'file': {FILE}, 'backing': {'driver': 'null-co', 'node-name': 'dup'}")]
    [TestCase("'driver': 'qcow2', 'node-name': 'dup', 'file': {'driver': 'file', 'filename': '/nonexistent'}")]
    [TestCase("'driver': 'raw', 'node-name': 'dup', 'file': {FILE}, 'offset': 1")]
    [TestCase("'driver': 'raw', 'node-name': 't', 'file': 't'")]
    [TestCase("'driver': 'raw', 'node-name': 'dup', 'file': {FILE}, 'detect-zeroes': 'unmap'")]
    [TestCase("'driver': 'raw', 'node-name': 't', 'file': {'driver': 'file', 'filename': '/nonexistent'}, 'detect-zeroes': 'unmap'")]
    public void NodesAreOpenedInOrder(string options)
    {
        string file = $"{{'driver': 'file', 'node-name': 'file', 'filename': '{Filled("src")}'}}";
        Compare(
            false,
            "{'execute': 'blockdev-add', 'arguments': {'driver': 'null-co', 'node-name': 'dup'} }",
            $"{{'execute': 'blockdev-add', 'arguments': {{{options.Replace("{FILE}", file, StringComparison.Ordinal)}}} }}",
            "{'execute': 'x-debug-query-block-graph'}");
    }

    /// <summary>Names that are made of options show numbers as they were written, in QEMU's order of members.</summary>
    [TestCase("driver=raw,file.driver=file,file.filename={FILE},offset=0x200,size=64k")]
    [TestCase("file={FILE},format=raw,offset=512,size=65536")]
    [TestCase("driver=null-co,size=65536,latency-ns=7")]
    [TestCase("driver=null-co,latency-ns=7")]
    [TestCase("driver=throttle,throttle-group=g,file.driver=null-co,file.size=64k,file.read-zeroes=off")]
    [TestCase("file=json:{\"driver\":\"raw\",,\"size\":65536,,\"file\":{\"driver\":\"null-co\",,\"size\":\"131072\"}}")]
    public void GeneratedNamesAreQemus(string drive)
    {
        string[] arguments = ["-object", "throttle-group,id=g", "-drive", "if=none,id=d," + drive.Replace("{FILE}", Filled("src"), StringComparison.Ordinal)];
        string[] lines =
        [
            "{'execute': 'query-block'}",
            "{'execute': 'blockdev-add', 'arguments': {'driver': 'null-co', 'node-name': 'n', 'size': 512, 'read-zeroes': false, 'latency-ns': 5} }",
            "{'execute': 'blockdev-add', 'arguments': {'driver': 'blkdebug', 'node-name': 't', 'align': 512, 'image': 'n', "
                + "'inject-error': [{'event': 'read_aio', 'once': true}]} }",
            "{'execute': 'query-named-block-nodes'}",
        ];
        Assert.That(Ask(Monitored.Start(arguments), lines), Is.EqualTo(Ask(Monitored.StartQemu(arguments), lines)));
    }

    /// <summary>The legacy encryption of qcow2 is for tools alone; its option is compared with the header before.</summary>
    [TestCase("encrypt.format=aes,encrypt.key-secret=s", "")]
    [TestCase("encrypt.format=aes,encrypt.key-secret=s", "'read-only': true, ")]
    [TestCase("encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", "")]
    [TestCase("compat=1.1", "")]
    public void LegacyEncryptionIsRefusedWhenQemuDoes(string format, string more)
    {
        string path = Path.Combine(_directory, "e.qcow2");
        QemuImg.Run("create", "-q", "-f", "qcow2", "--object", "secret,id=s,data=open", "-o", format, path, "1M");
        List<string> lines = ["{'execute': 'object-add', 'arguments': {'qom-type': 'secret', 'id': 's', 'data': 'open'} }"];
        foreach (string encrypt in (string[])["", "'format': 'aes'", "'format': 'aes', 'key-secret': 's'", "'format': 'aes', 'key-secret': 'none'"])
        {
            string options = encrypt.Length > 0 ? $"'encrypt': {{{encrypt}}}, " : "";
            lines.Add($"{{'execute': 'blockdev-add', 'arguments': {{'driver': 'qcow2', {more}{options}'node-name': 'n', "
                + $"'file': {{'driver': 'file', 'filename': '{path}'}} }} }}");
            lines.Add("{'execute': 'blockdev-del', 'arguments': {'node-name': 'n'} }");
        }

        string[] answers = Compare(false, [.. lines]);
        const string Refusal = "Use of AES-CBC encrypted qcow2 images is no longer supported in system emulators";
        Assert.That(answers.Any(a => a.Contains(Refusal, StringComparison.Ordinal)), Is.EqualTo(format.Contains("=aes", StringComparison.Ordinal)));
    }

    [TestCase("'format': 'qcow'")]
    [TestCase("'format': 'qcow', 'key-secret': 's'")]
    [TestCase("'format': 'luks', 'key-secret': 's', 'cipher-alg': 'cast5-128', 'iter-time': 1")]
    [TestCase("'format': 'luks', 'key-secret': 's', 'cipher-alg': 'serpent-256', 'ivgen-alg': 'essiv', 'ivgen-hash-alg': 'sha1', 'iter-time': 1")]
    public void EncryptionThatCannotBeHadFailsItsJobAsQemus(string encrypt)
    {
        string path = Path.Combine(_directory, "e.qcow2");
        File.WriteAllBytes(path, []);
        string create = "{'driver': 'qcow2', 'size': 1048576, 'file': 'f', 'encrypt': {" + encrypt + "} }";
        string theirs = JobError(Monitored.StartQemu(), path, create);
        File.WriteAllBytes(path, []);
        Assert.That(JobError(Monitored.Start(), path, create), Is.EqualTo(theirs));
    }

    private static string JobError(Emulator emulator, string path, string create)
    {
        using (emulator)
        {
            using QmpClient client = emulator.Qmp();
            client.Execute("object-add", new JsonObject { ["qom-type"] = "secret", ["id"] = "s", ["data"] = "open" });
            client.Execute("blockdev-add", new JsonObject { ["driver"] = "file", ["node-name"] = "f", ["filename"] = path });
            client.Execute("blockdev-create", new JsonObject { ["job-id"] = "j", ["options"] = JsonNode.Parse(create.Replace('\'', '"')) });
            while ((string?)client.WaitEvent("JOB_STATUS_CHANGE")["data"]!["status"] != "concluded")
            {
            }

            return (string)client.Execute("query-jobs")!.AsArray().Single()!["error"]!;
        }
    }

    private static string Node(string name, string path) =>
        $"{{'execute': 'blockdev-add', 'arguments': {{'driver': 'file', 'node-name': '{name}', 'filename': '{path}'}} }}";

    // Each image has data of its own, and more of it than the speed of a job allows.
    private void MakeChain()
    {
        string below = Filled("base");
        foreach ((string name, string range, string format) in new[] { ("a", "0 3M", "raw"), ("b", "512k 2M", "qcow2"), ("c", "1M 1M", "qcow2") })
        {
            string path = Path.Combine(_directory, name);
            QemuImg.Run("create", "-q", "-f", "qcow2", "-b", below, "-F", format, path);
            (int status, string output, string errors) = Emulator.Run("/usr/bin/qemu-io", "-c", $"write -P 1 {range}", path);
            Assert.That(status, Is.Zero, output + errors);
            below = path;
        }
    }

    private string ChainOptions()
    {
        string options = "";
        foreach (string name in (string[])["base", "a", "b", "c"])
        {
            string file = $"'file': {{'driver': 'file', 'filename': '{Path.Combine(_directory, name)}'}}";
            options = name == "base"
                ? $"{{'driver': 'raw', 'node-name': 'base', {file}}}"
                : $"{{'driver': 'qcow2', 'node-name': '{name}', {file}, 'backing': {options}}}";
        }

        return options;
    }

    // Data in all of it, so that a job has more to do than its speed allows.
    private string Filled(string name)
    {
        string path = Path.Combine(_directory, name);
        byte[] data = new byte[4 << 20];
        new Random(name.Length).NextBytes(data);
        File.WriteAllBytes(path, data);
        return path;
    }

    private static string[] Compare(bool needsSuccess, params string[] lines)
    {
        string[] expected = Ask(Monitored.StartQemu(), lines);
        if (needsSuccess)
        {
            Assert.That(expected[^1], Does.Contain("\"block-job\""), "the job was at work");
        }

        Assert.That(Ask(Monitored.Start(), lines), Is.EqualTo(expected));
        return expected;
    }

    private static string[] Ask(Emulator emulator, string[] lines)
    {
        using (emulator)
        {
            using QmpClient client = emulator.Qmp();
            List<string> answers = [];
            foreach (string line in lines)
            {
                JsonObject request = (JsonObject)JsonNode.Parse(line.Replace('\'', '"'))!;
                JsonObject answer = client.ExecuteRaw((string)request["execute"]!, (JsonObject?)request["arguments"]?.DeepClone());
                answers.Add(Changing().Replace(Generated().Replace(answer.ToJsonString(), "#block"), ""));
            }

            return [.. answers];
        }
    }

    [GeneratedRegex("#block[0-9]+")]
    private static partial Regex Generated();

    // What a job that is at work makes of files.
    [GeneratedRegex("\"(actual|virtual)-size\":[0-9]+,?|\"count\":[0-9]+,?")]
    private static partial Regex Changing();
}
