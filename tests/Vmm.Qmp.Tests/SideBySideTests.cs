using System.Diagnostics;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Vmm.TestKit.Processes;

namespace Vmm.Qmp.Tests;

/// <summary>
/// Conversations about disks that are held with QEMU and with the product at once, each with its own copies of the images: all that they say must be
/// the same. In a file, <c>$ </c> is a command of the shell in the directory of the images, whose output counts once the process runs, and whose images are copied before;
/// <c>args </c> starts the process; <c>&gt; </c> is a QMP command and its arguments; <c>hmp </c> is a line of the human monitor;
/// <c>wait </c> is an event to wait for, and text that it contains.
/// </summary>
public sealed partial class SideBySideTests
{
    // What the host's file systems and clocks say is nobody's behaviour.
    private static readonly string[] s_notCompared =
        ["actual-size", "date-sec", "date-nsec", "idle_time_ns", "rd_total_time_ns", "wr_total_time_ns", "flush_total_time_ns", "unmap_total_time_ns"];

    private static string Folder => Path.Combine(AppContext.BaseDirectory, "side-by-side");

    private static IEnumerable<string> Names => Directory.GetFiles(Folder, "*.txt").Select(Path.GetFileNameWithoutExtension).Order(StringComparer.Ordinal)!;

    [TestCaseSource(nameof(Names))]
    public void BothSayTheSame(string name)
    {
        if (Emulator.RealQemu is null || !QemuImg.IsInstalled)
        {
            Assert.Ignore("needs qemu-system-x86 and qemu-utils to compare with");
        }

        List<List<string>> parts = [];
        foreach (string line in File.ReadLines(Path.Combine(Folder, name + ".txt")))
        {
            if (line.StartsWith("# part", StringComparison.Ordinal) || parts.Count == 0)
            {
                parts.Add([]);
            }

            if (line.Length > 0 && line[0] != '#')
            {
                parts[^1].Add(line);
            }
        }

        Assert.Multiple(() =>
        {
            foreach (List<string> part in parts.Where(static p => p.Count > 0))
            {
                string images = Emulator.NewDirectory();
                List<string> theirs;
                List<string> ours;
                try
                {
                    foreach (string line in part.TakeWhile(static l => l[0] == '$'))
                    {
                        Shell(images, line[2..]);
                    }

                    List<string> talk = [.. part.SkipWhile(static l => l[0] == '$')];
                    theirs = Play(Emulator.RealQemu!, images, talk);
                    ours = Play(Emulator.OurBinary, images, talk);
                }
                finally
                {
                    Directory.Delete(images, true);
                }

                for (int i = 0; i < theirs.Count; i++)
                {
                    Assert.That(ours[i], Is.EqualTo(theirs[i]));
                }
            }
        });
    }

    private static List<string> Play(string binary, string images, List<string> lines)
    {
        string directory = Emulator.NewDirectory();
        Shell(directory, $"cp -a --sparse=always {images}/. .");
        List<string> said = [];
        Emulator? emulator = null;
        QmpClient? client = null;
        try
        {
            foreach (string line in lines)
            {
                int space = line.IndexOf(' ');
                string rest = line[(space + 1)..];
                switch (line[..space])
                {
                    case "$":
                        said.Add($"{line}\n{Normal(Shell(directory, rest), directory)}");
                        break;
                    case "args":
                        emulator = Emulator.StartBinary(binary, true, directory, ["-display", "none", "-nodefaults", "-S", .. rest.Split(' ')]);
                        client = emulator.Qmp();
                        break;
                    case ">":
                        int end = rest.IndexOf(' ');
                        string command = end < 0 ? rest : rest[..end];
                        JsonObject? arguments = end < 0 ? null : (JsonObject)JsonNode.Parse(rest[(end + 1)..].Replace('\'', '"'))!;
                        said.Add($"{line}\n{Normal(Cut(client!.ExecuteRaw(command, arguments))!.ToJsonString(), directory)}");
                        break;
                    case "hmp":
                        said.Add($"{line}\n{Normal(client!.Human(rest), directory)}");
                        break;
                    case "wait":
                        string[] words = rest.Split(' ', 2);
                        while (client!.WaitEvent(words[0]) is var found && words.Length > 1 && !found["data"]!.ToJsonString().Contains(words[1], StringComparison.Ordinal))
                        {
                        }

                        break;
                    default:
                        throw new FormatException($"what is '{line}'?");
                }
            }

            return said;
        }
        finally
        {
            emulator?.Dispose();
            if (Directory.Exists(directory))
            {
                Directory.Delete(directory, true);
            }
        }
    }

    private static string Shell(string directory, string line)
    {
        ProcessStartInfo info = new("/bin/sh", ["-ec", line]) { RedirectStandardOutput = true, WorkingDirectory = directory };
        using Process process = Process.Start(info)!;
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        Assert.That(process.ExitCode, Is.Zero, line);
        return output;
    }

    private static JsonNode? Cut(JsonNode? node)
    {
        switch (node)
        {
            case JsonObject members:
                foreach (string name in s_notCompared)
                {
                    members.Remove(name);
                }

                JsonObject sorted = [];
                foreach ((string name, JsonNode? value) in members.OrderBy(static m => m.Key, StringComparer.Ordinal))
                {
                    sorted[name] = Cut(value?.DeepClone());
                }

                return sorted;
            case JsonArray items:
                JsonArray all = [];
                foreach (JsonNode? item in items)
                {
                    all.Add(Cut(item?.DeepClone()));
                }

                return all;
            default:
                return node;
        }
    }

    private static string Normal(string text, string directory)
    {
        text = Generated().Replace(text.Replace(directory, "DIR", StringComparison.Ordinal), "#block");
        return Size().Replace(Date().Replace(Temporary().Replace(text, "vl.X"), "DATE"), "disk size");
    }

    [GeneratedRegex("#block[0-9]+")]
    private static partial Regex Generated();

    [GeneratedRegex("vl\\.[A-Za-z0-9]{6}")]
    private static partial Regex Temporary();

    [GeneratedRegex("20[0-9]{2}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}")]
    private static partial Regex Date();

    [GeneratedRegex("disk size: [0-9.]+ [KMGT]?i?B")]
    private static partial Regex Size();
}
