using System.Text;
using Vmm.TestKit.Processes;

namespace Vmm.Qmp.Tests;

/// <summary>Recorded conversations, held with our product and, to prove that they are QEMU's behaviour, with QEMU.</summary>
public sealed class TranscriptTests
{
    private static IEnumerable<string> Names => Transcript.Names;

    [TestCaseSource(nameof(Names))]
    public void OurProductAnswersAsRecorded(string name)
    {
        Transcript transcript = Load(name);
        using Emulator emulator = Monitored.Start(transcript.Arguments);
        transcript.Play(emulator);
    }

    [TestCaseSource(nameof(Names))]
    public void QemuAnswersAsRecorded(string name)
    {
        if (Emulator.RealQemu is null)
        {
            Assert.Ignore("needs an installed qemu-system-x86_64 to prove the record");
        }

        Transcript transcript = Load(name);
        using Emulator emulator = Monitored.StartQemu(transcript.Arguments);
        transcript.Play(emulator);
    }

    /// <summary>How the stream is cut into packets must not matter.</summary>
    [TestCase("quotes-and-separators")]
    [TestCase("no-oob")]
    public void InputSplitAnywhereGivesTheSameAnswers(string name)
    {
        Transcript transcript = Transcript.Load(name);
        byte[] input = transcript.Input;
        string[] expected = transcript.Output;
        using Emulator emulator = Monitored.Start(transcript.Arguments);
        for (int split = 1; split < input.Length; split++)
        {
            using QmpClient client = emulator.QmpRaw();

            // Once the greeting is there the session reads, so that the two parts arrive as two.
            List<string> got = [Transcript.Normalize(client.ReadLine()!)];
            client.SendRaw(input.AsSpan(0, split));
            int answered = Complete(input.AsSpan(0, split), expected.Length);
            while (got.Count < answered)
            {
                got.Add(Transcript.Normalize(client.ReadLine()!));
            }

            client.SendRaw(input.AsSpan(split));
            while (got.Count < expected.Length)
            {
                got.Add(Transcript.Normalize(client.ReadLine()!));
            }

            Assert.That(got, Is.EqualTo(expected), $"split at {split}");
        }
    }

    [TestCase("quotes-and-separators")]
    [TestCase("id")]
    public void InputByteByByteGivesTheSameAnswers(string name)
    {
        Transcript transcript = Transcript.Load(name);
        using Emulator emulator = Monitored.Start(transcript.Arguments);
        using QmpClient client = emulator.QmpRaw();
        List<string> got = [Transcript.Normalize(client.ReadLine()!)];
        foreach (byte b in transcript.Input)
        {
            client.SendRaw([b]);
        }

        string[] expected = transcript.Output;
        while (got.Count < expected.Length)
        {
            got.Add(Transcript.Normalize(client.ReadLine()!));
        }

        Assert.That(got, Is.EqualTo(expected));
    }

    private static Transcript Load(string name)
    {
        Transcript transcript = Transcript.Load(name);
        if (transcript.NeedsKvm && !Emulator.HasKvm)
        {
            Assert.Ignore("needs /dev/kvm");
        }

        return transcript;
    }

    /// <summary>Answers owed once these bytes were read: the greeting and one for each complete object outside strings.</summary>
    private static int Complete(ReadOnlySpan<byte> input, int most)
    {
        int answers = 1;
        int depth = 0;
        char quote = '\0';
        string text = Encoding.UTF8.GetString(input);
        for (int i = 0; i < text.Length; i++)
        {
            char c = text[i];
            if (quote != '\0')
            {
                i += c == '\\' ? 1 : 0;
                quote = c == quote ? '\0' : quote;
            }
            else if (c is '"' or '\'')
            {
                quote = c;
            }
            else if (c == '{')
            {
                depth++;
            }
            else if (c == '}' && --depth == 0)
            {
                answers++;
            }
        }

        return Math.Min(answers, most);
    }
}
