using System.Diagnostics;

namespace Vmm.System.Tests.CommandLine;

/// <summary>Command lines that are refused, with the exact text they are refused with.</summary>
public sealed class RejectedTests
{
    private static readonly string s_directory = Path.Combine(TestContext.CurrentContext.TestDirectory, "CommandLine", "Cases");

    /// <summary>One case for each block of the file: a line that starts with $, then the text on standard error.</summary>
    public static IEnumerable<TestCaseData> Cases()
    {
        string text = File.ReadAllText(Path.Combine(s_directory, "rejected.txt"));
        foreach (string block in text.Split("\n\n", StringSplitOptions.RemoveEmptyEntries))
        {
            string[] parts = block.TrimStart('\n').Split('\n', 2);
            string line = parts[0][2..];
            yield return new TestCaseData(line, parts[1].TrimEnd('\n') + "\n").SetArgDisplayNames(line);
        }
    }

    [TestCaseSource(nameof(Cases))]
    public void SaysWhatIsWrong(string line, string expected)
    {
        (string errors, int? status) = Pipeline.Run(Pipeline.Split(line), s_directory);
        Assert.Multiple(() =>
        {
            Assert.That(errors, Is.EqualTo(expected));
            Assert.That(status, Is.EqualTo(1));
        });
    }

    [Test]
    public void PeerSaysTheSame()
    {
        const string Peer = "/usr/bin/qemu-system-x86_64";
        if (!File.Exists(Peer))
        {
            Assert.Ignore($"{Peer} is not installed");
        }

        var differences = new List<string>();
        foreach (TestCaseData test in Cases())
        {
            string line = (string)test.Arguments[0]!;
            string expected = ((string)test.Arguments[1]!).Replace("PROGRAM:", "qemu-system-x86_64:");
            var start = new ProcessStartInfo(Peer, Pipeline.Split(line))
            {
                RedirectStandardError = true,
                RedirectStandardOutput = true,
                RedirectStandardInput = true,
                WorkingDirectory = s_directory,
            };
            using Process process = Process.Start(start)!;
            process.StandardInput.Close();
            string errors = process.StandardError.ReadToEnd();
            process.WaitForExit();
            if (errors != expected || process.ExitCode != 1)
            {
                differences.Add($"{line}: {process.ExitCode} {errors}");
            }
        }

        Assert.That(differences, Is.Empty);
    }
}
