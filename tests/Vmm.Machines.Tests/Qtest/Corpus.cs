using System.Runtime.CompilerServices;

namespace Vmm.Machines.Tests.Qtest;

/// <summary>Conversations recorded from QEMU 7.2: lines "&gt; request" and "&lt; answer" in tests/corpora/qtest.</summary>
internal static class Corpus
{
    /// <summary>QEMU's command line for the machine on which they were recorded; its clock stands still.</summary>
    public static readonly string[] MachineArguments =
    [
        "-accel", "tcg", "-S", "-m", "64", "-machine", "pc,vmport=off", "-nodefaults", "-serial", "null", "-device", "pvpanic",
        "-chardev", "null,id=c1", "-device", "isa-debugcon,chardev=c1", "-rtc", "base=2024-02-29T23:59:58,clock=vm",
    ];

    public static IEnumerable<string> Names() => Directory.GetFiles(Folder()).Select(f => Path.GetFileNameWithoutExtension(f)!).Order(StringComparer.Ordinal);

    public static List<(string Request, List<string> Answers)> Load(string name)
    {
        var exchanges = new List<(string Request, List<string> Answers)>();
        foreach (string line in File.ReadLines(Path.Combine(Folder(), name + ".txt")))
        {
            if (line.StartsWith("> ", StringComparison.Ordinal))
            {
                exchanges.Add((line[2..], []));
            }
            else if (line.StartsWith("< ", StringComparison.Ordinal))
            {
                exchanges[^1].Answers.Add(line[2..]);
            }
        }

        return exchanges;
    }

    private static string Folder([CallerFilePath] string file = "") =>
        Path.GetFullPath(Path.Combine(Path.GetDirectoryName(file)!, "../../corpora/qtest"));
}
