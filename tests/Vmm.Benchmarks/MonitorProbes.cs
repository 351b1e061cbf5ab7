using System.Diagnostics;
using System.Text;

namespace Vmm.Benchmarks;

/// <summary>Measurements of starting and of the monitor.</summary>
internal static class MonitorProbes
{
    private static readonly string[] s_idle = ["-machine", "none", "-nodefaults", "-display", "none", "-no-user-config"];
    private static readonly byte[] s_status = "{\"execute\":\"query-status\"}"u8.ToArray();

    /// <summary>"wall" and "cpu": milliseconds from exec to the complete greeting.</summary>
    public static IProbe Greeting(Subject subject) => new FreshProbe(series =>
    {
        using Launched l = Launched.Start(subject, s_idle);
        l.ReadGreeting();
        series.Add("wall", l.Elapsed.TotalMilliseconds);
        series.Add("cpu", l.CpuNs / 1e6);
    });

    /// <summary>"wall" and "cpu": milliseconds from exec to the first byte that the guest writes to the debug console.</summary>
    public static IProbe FirstPortWrite(Subject subject, string machine, string kernel) => new FreshProbe(series =>
    {
        using Launched l = Launched.Start(subject, [.. Guest(machine, kernel), "-debugcon", "stdio"]);
        l.ReadOutputByte();
        series.Add("wall", l.Elapsed.TotalMilliseconds);
        series.Add("cpu", l.CpuNs / 1e6);
    });

    /// <summary>"Rss" and "Pss": KiB of memory once a client has negotiated and asked for the status.</summary>
    public static IProbe IdleMemory(Subject subject, params string[] arguments) => new FreshProbe(series =>
    {
        using Launched l = Launched.Start(subject, arguments.Length == 0 ? s_idle : arguments);
        l.Negotiate();
        l.RoundTrip(s_status);
        series.Add("Rss", l.MemoryKiB("Rss"));
        series.Add("Pss", l.MemoryKiB("Pss"));
    });

    /// <summary>Milliseconds of the first query-qmp-schema of a process: nobody asks twice.</summary>
    public static IProbe Schema(Subject subject) => new FreshProbe(series =>
    {
        using Launched l = Launched.Start(subject, s_idle);
        l.Negotiate();
        long cpu = l.CpuNs;
        long t = Stopwatch.GetTimestamp();
        l.RoundTrip("{\"execute\":\"query-qmp-schema\"}"u8);
        series.Add("wall", Stopwatch.GetElapsedTime(t).TotalMilliseconds);
        series.Add("cpu", (l.CpuNs - cpu) / 1e6);
    });

    /// <summary>
    /// Milliseconds to answer a command with a string of <paramref name="kib"/> KiB, which the error in the answer repeats.
    /// </summary>
    public static IProbe LongString(Subject subject, int kib)
    {
        string path = new('x', kib << 10);
        byte[] command = Encoding.UTF8.GetBytes($"{{\"execute\":\"qom-list\",\"arguments\":{{\"path\":\"{path}\"}}}}");
        return new FreshProbe(series =>
        {
            using Launched l = Launched.Start(subject, s_idle);
            l.Negotiate();
            long cpu = l.CpuNs;
            long t = Stopwatch.GetTimestamp();
            Thread sender = new(() => l.Send(command));
            sender.Start();
            l.ReadLine();
            series.Add("wall", Stopwatch.GetElapsedTime(t).TotalMilliseconds);
            sender.Join();
            series.Add("cpu", (l.CpuNs - cpu) / 1e6);
        });
    }

    /// <summary>Arguments of a small guest without default devices.</summary>
    public static string[] Guest(string machine, string kernel) =>
    [
        "-machine", machine, "-accel", "kvm", "-cpu", "qemu64", "-m", "64", "-nodefaults", "-display", "none", "-no-user-config",
        "-kernel", kernel,
    ];

    /// <summary>query-status round trips on one connection: "wall" in microseconds each, "cpu" per command.</summary>
    public sealed class RoundTrip : IProbe
    {
        private const int Batch = 250;
        private readonly Launched _launched;

        public RoundTrip(Subject subject)
        {
            _launched = Launched.Start(subject, s_idle);
            _launched.Negotiate();
            Sample(new Series());
        }

        public void Sample(Series series)
        {
            long cpu = _launched.CpuNs;
            for (int i = 0; i < Batch; i++)
            {
                long t = Stopwatch.GetTimestamp();
                _launched.RoundTrip(s_status);
                series.Add("wall", Stopwatch.GetElapsedTime(t).TotalMicroseconds);
            }

            series.Add("cpu", (_launched.CpuNs - cpu) / 1e3 / Batch);
        }

        public void Dispose() => _launched.Dispose();
    }

    /// <summary>
    /// A thousand query-status commands sent at once: "rate" in commands per second, "cpu" in microseconds per command, "Rss" in KiB
    /// afterwards.
    /// </summary>
    public sealed class Pipelined : IProbe
    {
        private const int Count = 1000;
        private readonly Launched _launched;
        private readonly byte[] _burst;

        public Pipelined(Subject subject)
        {
            StringBuilder text = new();
            for (int i = 0; i < Count; i++)
            {
                text.Append("{\"execute\":\"query-status\"}\r\n");
            }

            _burst = Encoding.UTF8.GetBytes(text.ToString());
            _launched = Launched.Start(subject, s_idle);
            _launched.Negotiate();
            Sample(new Series());
        }

        public void Sample(Series series)
        {
            long cpu = _launched.CpuNs;
            long t = Stopwatch.GetTimestamp();

            // The sender must not block while the answers fill the socket buffers, so it is a thread of its own.
            Thread sender = new(() => _launched.Send(_burst));
            sender.Start();
            for (int i = 0; i < Count; i++)
            {
                _launched.ReadLine();
            }

            series.Add("rate", Count / Stopwatch.GetElapsedTime(t).TotalSeconds);
            sender.Join();
            series.Add("cpu", (_launched.CpuNs - cpu) / 1e3 / Count);
            series.Add("Rss", _launched.MemoryKiB("Rss"));
        }

        public void Dispose() => _launched.Dispose();
    }
}
