using System.Diagnostics;
using Vmm.TestKit.Processes;

namespace Vmm.Machines.Tests.Qtest;

/// <summary>Our devices answer a qtest client as QEMU's do.</summary>
public sealed class GoldenTests
{
    [TestCaseSource(typeof(Corpus), nameof(Corpus.Names))]
    public void OurDevicesAnswerAsRecorded(string name)
    {
        using var harness = new QtestHarness();
        var history = new Queue<string>();
        foreach ((string request, List<string> answers) in Corpus.Load(name))
        {
            string[] actual = harness.Ask(request);
            history.Enqueue($"{request} -> {string.Join(" | ", actual)}");
            if (history.Count > 12)
            {
                history.Dequeue();
            }

            Assert.That(actual, Is.EqualTo(answers), $"{request}\nafter:\n{string.Join('\n', history)}");
        }
    }

    [TestCaseSource(typeof(Corpus), nameof(Corpus.Names))]
    [Category("Peer")]
    public void TheInstalledQemuStillAnswersAsRecorded(string name)
    {
        if (Emulator.RealQemu is not { } qemu)
        {
            Assert.Ignore("needs QEMU 7.2 installed as the peer to compare with");
            return;
        }

        var start = new ProcessStartInfo(qemu) { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true };
        foreach (string argument in (string[])[.. Corpus.MachineArguments, "-display", "none", "-qtest", "stdio", "-qtest-log", "none"])
        {
            start.ArgumentList.Add(argument);
        }

        using Process process = Process.Start(start)!;
        try
        {
            foreach ((string request, List<string> answers) in Corpus.Load(name))
            {
                process.StandardInput.Write(request + "\n");
                process.StandardInput.Flush();
                foreach (string answer in answers)
                {
                    Assert.That(process.StandardOutput.ReadLine(), Is.EqualTo(answer), request);
                }
            }
        }
        finally
        {
            process.Kill();
        }
    }
}
