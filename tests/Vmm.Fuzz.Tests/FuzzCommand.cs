using System.Diagnostics;
using System.Security.Cryptography;

namespace Vmm.Fuzz.Tests;

/// <summary>The command line: <c>--fuzz [target|all [seconds [seed]]]</c>. Findings are written to out/fuzz.</summary>
internal static class FuzzCommand
{
    // An execution takes microseconds; one that takes this long does not end.
    private static readonly TimeSpan s_hang = TimeSpan.FromSeconds(20);

    /// <summary>Runs; the result is the exit status: 0, 1 after a finding, 2 for a wrong command line.</summary>
    public static int Run(ReadOnlySpan<string> args)
    {
        double seconds = 10;
        int seed = Environment.TickCount;
        if (args.Length > 3
            || (args.Length > 1 && !double.TryParse(args[1], out seconds))
            || (args.Length > 2 && !int.TryParse(args[2], out seed)))
        {
            Console.Error.WriteLine("usage: --fuzz [target|all [seconds [seed]]]");
            return 2;
        }

        string name = args.Length > 0 ? args[0] : "all";
        FuzzTarget[] targets = [.. Vmm.Fuzz.Tests.Targets.All.Where(t => name == "all" || t.Name == name)];
        if (targets.Length == 0)
        {
            Console.Error.WriteLine($"no target '{name}'; there are: {string.Join(' ', Vmm.Fuzz.Tests.Targets.All.Select(t => t.Name))}");
            return 2;
        }

        int status = 0;
        foreach (FuzzTarget target in targets)
        {
            var fuzzer = new Fuzzer(target, Corpus.Load(target), seed);
            var clock = Stopwatch.StartNew();
            using var watchdog = new Watchdog(target, fuzzer);
            Finding? finding = fuzzer.Run(_ => clock.Elapsed.TotalSeconds < seconds);
            Console.WriteLine($"{target.Name}: {fuzzer.Executions} executions, {fuzzer.Outcomes} outcomes, seed {seed}");
            if (finding != null)
            {
                Report(target, finding);
                status = 1;
            }
        }

        return status;
    }

    private static void Report(FuzzTarget target, Finding finding)
    {
        string folder = Path.Combine(Corpus.Root, "out", "fuzz");
        Directory.CreateDirectory(folder);
        string file = Path.Combine(folder, $"{target.Name}-{Convert.ToHexString(SHA256.HashData(finding.Input))[..12]}");
        File.WriteAllBytes(file, finding.Input);
        Console.WriteLine($"{finding.What}{Environment.NewLine}input: {file}; a fix comes with this file in {Corpus.Folder(target)}");
    }

    /// <summary>Ends the process when an execution does not.</summary>
    private sealed class Watchdog : IDisposable
    {
        private readonly Timer _timer;
        private long _last = -1;

        public Watchdog(FuzzTarget target, Fuzzer fuzzer) => _timer = new Timer(
            _ =>
            {
                long now = fuzzer.Executions;
                if (now == _last)
                {
                    Report(target, new Finding(fuzzer.Current, $"{target.Name}: an execution does not end"));
                    Environment.Exit(1);
                }

                _last = now;
            },
            null,
            s_hang,
            s_hang);

        public void Dispose() => _timer.Dispose();
    }
}
