using System.Text;
using System.Text.RegularExpressions;
using Vmm.TestKit.Processes;

namespace Vmm.Qmp.Tests;

/// <summary>
/// A recorded conversation. <c># args: </c> gives more command line arguments, <c>&gt; </c> is a line of the client,
/// <c>&gt;% </c> are bytes of the client with %XX escapes and no end of line, <c>&lt; </c> is a line of the server.
/// </summary>
internal sealed partial class Transcript
{
    private readonly List<(bool FromClient, byte[] Bytes)> _steps = [];

    private Transcript()
    {
    }

    /// <summary>Names of the recorded conversations.</summary>
    public static IEnumerable<string> Names =>
        Directory.GetFiles(Folder, "*.txt").Select(Path.GetFileNameWithoutExtension).Order(StringComparer.Ordinal)!;

    /// <summary>Arguments of the process.</summary>
    public string[] Arguments { get; private set; } = [];

    /// <summary>All that the client sends.</summary>
    public byte[] Input => [.. _steps.Where(s => s.FromClient).SelectMany(s => s.Bytes)];

    /// <summary>All lines that the server sends.</summary>
    public string[] Output => [.. _steps.Where(s => !s.FromClient).Select(s => Encoding.UTF8.GetString(s.Bytes))];

    private static string Folder => Path.Combine(AppContext.BaseDirectory, "transcripts");

    /// <summary>Reads a conversation.</summary>
    public static Transcript Load(string name)
    {
        Transcript t = new();
        foreach (string line in File.ReadLines(Path.Combine(Folder, name + ".txt")))
        {
            if (line.StartsWith("# args: ", StringComparison.Ordinal))
            {
                t.Arguments = line[8..].Split(' ');
            }
            else if (line.StartsWith("> ", StringComparison.Ordinal))
            {
                t._steps.Add((true, Encoding.UTF8.GetBytes(line[2..] + "\n")));
            }
            else if (line.StartsWith(">% ", StringComparison.Ordinal))
            {
                t._steps.Add((true, Unescape(line[3..])));
            }
            else if (line.StartsWith("< ", StringComparison.Ordinal))
            {
                t._steps.Add((false, Encoding.UTF8.GetBytes(line[2..])));
            }
            else if (line.Length != 0 && line[0] != '#')
            {
                throw new FormatException($"{name}: what is '{line}'?");
            }
        }

        return t;
    }

    /// <summary>True for a conversation with a machine that KVM runs.</summary>
    public bool NeedsKvm => Array.Exists(Arguments, static a => a.Contains("accel=kvm", StringComparison.Ordinal));

    /// <summary>Replaces what differs from run to run and from product to product.</summary>
    public static string Normalize(string line)
    {
        line = Time().Replace(Version().Replace(line, "VERSION"), "\"timestamp\": TIME");
        return HostAddress().Replace(HumanThread().Replace(Thread().Replace(line, "\"thread-id\": TID"), "thread_id=TID"), " is ADDRESS");
    }

    /// <summary>Plays the client's part step by step; every line of the server must be the recorded one.</summary>
    public void Play(Emulator emulator)
    {
        using QmpClient client = emulator.QmpRaw();
        foreach ((bool fromClient, byte[] bytes) in _steps)
        {
            if (fromClient)
            {
                client.SendRaw(bytes);
            }
            else
            {
                string? got = client.ReadLine();
                Assert.That(got is null ? null : Normalize(got), Is.EqualTo(Encoding.UTF8.GetString(bytes)));
            }
        }

        // Whatever the server said beyond the record would come before the answer to this.
        client.SendRaw("{\"execute\":\"qmp_capabilities\",\"id\":\"end of transcript\"}");
        Assert.That(client.ReadLine(), Does.Contain("\"id\": \"end of transcript\""));
    }

    private static byte[] Unescape(string text)
    {
        List<byte> bytes = [];
        byte[] raw = Encoding.UTF8.GetBytes(text);
        for (int i = 0; i < raw.Length; i++)
        {
            if (raw[i] == '%')
            {
                bytes.Add(Convert.FromHexString(Encoding.ASCII.GetString(raw, i + 1, 2))[0]);
                i += 2;
            }
            else
            {
                bytes.Add(raw[i]);
            }
        }

        return [.. bytes];
    }

    [GeneratedRegex("""\{"qemu": \{"micro": \d+, "minor": \d+, "major": \d+\}, "package": "[^"]*"\}""")]
    private static partial Regex Version();

    [GeneratedRegex("""
        "thread-id": \d{3,}
        """)]
    private static partial Regex Thread();

    [GeneratedRegex("thread_id=\\d+")]
    private static partial Regex HumanThread();

    [GeneratedRegex(" is 0x[0-9a-f]{7,}")]
    private static partial Regex HostAddress();

    [GeneratedRegex("""
        "timestamp": \{"seconds": \d+, "microseconds": \d+\}
        """)]
    private static partial Regex Time();
}
