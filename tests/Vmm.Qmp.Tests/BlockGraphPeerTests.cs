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
                answers.Add(Generated().Replace(answer.ToJsonString(), "#block"));
            }

            return [.. answers];
        }
    }

    [GeneratedRegex("#block[0-9]+")]
    private static partial Regex Generated();
}
