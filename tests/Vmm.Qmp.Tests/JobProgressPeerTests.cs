using System.Globalization;
using System.Text.Json.Nodes;
using Vmm.TestKit.Processes;
using Vmm.TestKit.Qmp;

namespace Vmm.Qmp.Tests;

/// <summary>What jobs say of their progress, and of the bitmaps that they have, beside what QEMU says of the same jobs.</summary>
public sealed class JobProgressPeerTests
{
    private string _directory = "";

    [SetUp]
    public void NeedPeers()
    {
        if (Emulator.RealQemu is null || !File.Exists("/usr/bin/qemu-img") || !File.Exists("/usr/bin/qemu-io"))
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

    /// <summary>Lengths and offsets where a job is ready and where it has ended.</summary>
    [Test]
    public void LengthsAndOffsetsAreQemus()
    {
        List<(string Command, string Source, string Target, string More)> jobs = [];
        foreach (string source in (string[])["dense.raw", "mixed.raw", "sparse.qcow2", "mixed.qcow2", "over.qcow2"])
        {
            foreach (string target in (string[])["t.raw", "t.qcow2"])
            {
                jobs.Add(("blockdev-mirror", source, target, "'sync': 'full'"));
                jobs.Add(("drive-mirror", source, target, "'sync': 'full', 'mode': 'existing'"));
                jobs.Add(("blockdev-backup", source, target, "'sync': 'top'"));
            }

            jobs.Add(("blockdev-mirror", source, "unmap.qcow2", "'sync': 'full'"));
            jobs.Add(("blockdev-mirror", source, "t.qcow2", "'sync': 'top'"));
            jobs.Add(("drive-mirror", source, "t.qcow2", "'sync': 'full'"));
            jobs.Add(("drive-backup", source, "t.qcow2", "'sync': 'top'"));
        }

        jobs.Add(("blockdev-backup", "odd.raw", "odd2.qcow2", "'sync': 'full'"));
        jobs.Add(("blockdev-mirror", "odd.raw", "odd2.qcow2", "'sync': 'full', 'granularity': 4096"));
        jobs.Add(("block-stream", "mixed.qcow2", "", "'speed': 0"));
        jobs.Add(("block-stream", "over2.qcow2", "", "'speed': 0"));
        jobs.Add(("block-commit", "over2.qcow2", "", "'speed': 0"));
        string[] theirs = Run(Monitored.StartQemu(), jobs);
        Assert.That(theirs.Any(static line => line.Contains("READY", StringComparison.Ordinal)));
        string[] ours = Run(Monitored.Start(), jobs);
        Assert.That(string.Join("\n", ours), Is.EqualTo(string.Join("\n", theirs)));
    }

    /// <summary>A backup has bitmaps for what it must copy and what it has saved, a mirror for what is dirty, and a bitmap in use has a successor.</summary>
    [TestCase("blockdev-mirror", "'sync': 'full'", "true")]
    [TestCase("blockdev-mirror", "'sync': 'full'", "false")]
    [TestCase("blockdev-backup", "'sync': 'bitmap', 'bitmap': 'a', 'bitmap-mode': 'on-success'", "true")]
    [TestCase("blockdev-backup", "'sync': 'bitmap', 'bitmap': 'a', 'bitmap-mode': 'never'", "false")]
    public void BitmapsOfJobsAreListed(string command, string arguments, string force)
    {
        string[] theirs = Bitmaps(Monitored.StartQemu(), command, arguments, force);
        Assert.That(theirs[0], Does.Contain("\"granularity\""));
        Assert.That(Bitmaps(Monitored.Start(), command, arguments, force), Is.EqualTo(theirs));
    }

    private string[] Bitmaps(Emulator emulator, string command, string arguments, string force)
    {
        using (emulator)
        {
            MakeImages();
            Image("t.raw", "6M");
            using QmpClient client = emulator.Qmp();
            Execute(client, "blockdev-add", Node("mixed.raw", "src"));
            Execute(client, "blockdev-add", Node("t.raw", "tgt"));
            Execute(client, "block-dirty-bitmap-add", "'node': 'src', 'name': 'a'");
            Execute(client, "block-dirty-bitmap-add", "'node': 'src', 'name': 'b'");
            client.Human("qemu-io src \"write 0 256k\"");
            client.Human("qemu-io src \"write 2M 64k\"");
            Execute(client, command, $"'job-id': 'j', 'device': 'src', 'target': 'tgt', 'speed': 1, {arguments}");
            while ((long)client.Execute("query-block-jobs")!.AsArray()[0]!["offset"]! == 0)
            {
            }

            string atWork = Listed(client);
            Execute(client, "block-job-cancel", $"'device': 'j', 'force': {force}");
            WaitGone(client);
            return [atWork, Listed(client)];
        }
    }

    // A commit changes what is at the bottom: whoever is asked begins with the same.
    private void MakeImages()
    {
        Image("dense.raw", "6M", "write -P 1 0 6M");
        Image("mixed.raw", "6M", "write -P 1 1M 512k", "write -P 2 3M 1M");
        Image("odd.raw", "3000832", "write -P 1 2M 512k");
        Image("sparse.qcow2", "6M");
        Image("mixed.qcow2", "6M", "write -P 3 1M 512k", "write -P 4 3M 1M", "write -z 5M 512k");
        Image("over.qcow2", "mixed.qcow2", "write -P 5 1280k 1M", "write -z 4M 128k", "write -P 6 5000k 4k");
        Image("over2.qcow2", "over.qcow2", "write -P 7 0 64k");
    }

    private static string Listed(QmpClient client) => string.Join(
        '\n', client.Execute("query-named-block-nodes", new JsonObject { ["flat"] = true })!.AsArray().Select(static n => n!["dirty-bitmaps"]?.ToJsonString()));

    private string[] Run(Emulator emulator, List<(string Command, string Source, string Target, string More)> jobs)
    {
        using (emulator)
        {
            MakeImages();
            using QmpClient client = emulator.Qmp();
            List<string> lines = [];
            foreach ((string command, string source, string target, string more) in jobs)
            {
                lines.Add($"{command} {source} {target} {more}");
                lines.AddRange(RunOne(client, command, source, target, more));
            }

            return [.. lines];
        }
    }

    private List<string> RunOne(QmpClient client, string command, string source, string target, string more)
    {
        // Jobs over chains change them, and each begins with the same.
        string own = source.EndsWith("2.qcow2", StringComparison.Ordinal) || target.Length == 0 ? "own.qcow2" : source;
        if (own != source)
        {
            File.Copy(Path.Combine(_directory, source), Path.Combine(_directory, own), true);
        }

        Execute(client, "blockdev-add", Node(own, "src"));
        string arguments = $"'job-id': 'j', 'device': 'src', {more}";
        if (target.Length > 0)
        {
            Image(target, source.StartsWith("odd", StringComparison.Ordinal) ? "3000832" : "6M");
            bool isDrive = command.StartsWith("drive", StringComparison.Ordinal);
            arguments += isDrive ? $", 'target': '{Path.Combine(_directory, target)}', 'format': '{FormatOf(target)}'" : ", 'target': 'tgt'";
            if (!isDrive)
            {
                Execute(client, "blockdev-add", Node(target, "tgt"));
            }
        }

        Execute(client, command, arguments);
        List<string> lines = [];
        if (command.EndsWith("mirror", StringComparison.Ordinal) || command == "block-commit")
        {
            lines.Add(Numbers(client.WaitEvent("BLOCK_JOB_READY")));
            JsonNode job = client.Execute("query-block-jobs")!.AsArray().Single()!;
            lines.Add($"{job["len"]} {job["offset"]}");
            Execute(client, "block-job-cancel", "'device': 'j'");
        }

        lines.Add(Numbers(client.WaitEvent("BLOCK_JOB_COMPLETED")));
        WaitGone(client);
        foreach (string name in (string[])["src", "tgt"])
        {
            client.ExecuteRaw("blockdev-del", new JsonObject { ["node-name"] = name });
        }

        return lines;
    }

    private static void WaitGone(QmpClient client)
    {
        while ((string?)client.WaitEvent("JOB_STATUS_CHANGE")["data"]!["status"] != "null")
        {
        }
    }

    private static string Numbers(JsonObject line) => $"{line["event"]} {line["data"]!["len"]} {line["data"]!["offset"]}";

    private static void Execute(QmpClient client, string command, string arguments) =>
        client.Execute(command, (JsonObject)JsonNode.Parse($"{{{arguments}}}".Replace('\'', '"'))!);

    private string Node(string file, string name)
    {
        string discard = file.StartsWith("unmap", StringComparison.Ordinal) ? "'discard': 'unmap', " : "";
        return $"'driver': '{FormatOf(file)}', 'node-name': '{name}', {discard}'file': {{'driver': 'file', 'filename': '{Path.Combine(_directory, file)}'}}";
    }

    private static string FormatOf(string file) => file.EndsWith(".raw", StringComparison.Ordinal) ? "raw" : "qcow2";

    private void Image(string name, string sizeOrBacking, params string[] commands)
    {
        string path = Path.Combine(_directory, name);
        bool isSize = char.IsAsciiDigit(sizeOrBacking[0]);
        string[] create = isSize
            ? ["create", "-q", "-f", FormatOf(name), path, sizeOrBacking]
            : ["create", "-q", "-f", FormatOf(name), "-b", Path.Combine(_directory, sizeOrBacking), "-F", FormatOf(sizeOrBacking), path];
        Tool("qemu-img", create);
        foreach (string command in commands)
        {
            Tool("qemu-io", "-f", FormatOf(name), "-c", command, path);
        }
    }

    private static void Tool(string program, params string[] arguments)
    {
        (int status, string output, string errors) = Emulator.Run("/usr/bin/" + program, arguments);
        Assert.That(status, Is.Zero, string.Create(CultureInfo.InvariantCulture, $"{program} {string.Join(' ', arguments)}: {output}{errors}"));
    }
}
