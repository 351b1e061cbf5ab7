using System.Diagnostics;
using System.Text;

namespace Vmm.Benchmarks;

/// <summary>What is measured, each as a function of one emulator; numbers are in the unit that the row names.</summary>
internal static class Measurements
{
    private static readonly string[] s_idle = ["-machine", "none", "-nodefaults", "-display", "none", "-no-user-config"];
    private static readonly byte[] s_status = "{\"execute\":\"query-status\"}"u8.ToArray();

    /// <summary>Milliseconds from exec to the complete greeting, median.</summary>
    public static double Greeting(Subject subject, int runs)
    {
        double[] samples = new double[runs];
        for (int i = 0; i < runs; i++)
        {
            using Launched l = Launched.Start(subject, s_idle);
            l.ReadGreeting();
            samples[i] = l.Elapsed.TotalMilliseconds;
        }

        return Median(samples);
    }

    /// <summary>Milliseconds from exec to the first byte that the guest writes to the debug console, median.</summary>
    public static double FirstPortWrite(Subject subject, int runs, string machine, string kernel)
    {
        double[] samples = new double[runs];
        for (int i = 0; i < runs; i++)
        {
            using Launched l = Launched.Start(subject, [.. Guest(machine, kernel), "-debugcon", "stdio"]);
            l.ReadOutputByte();
            samples[i] = l.Elapsed.TotalMilliseconds;
        }

        return Median(samples);
    }

    /// <summary>KiB of resident memory (Rss or Pss) once the greeting is out and the process is idle, median.</summary>
    public static double IdleMemory(Subject subject, int runs, string field, params string[] arguments)
    {
        double[] samples = new double[runs];
        for (int i = 0; i < runs; i++)
        {
            using Launched l = Launched.Start(subject, arguments.Length == 0 ? s_idle : arguments);
            l.Negotiate();
            l.RoundTrip(s_status);
            samples[i] = l.MemoryKiB(field);
        }

        return Median(samples);
    }

    /// <summary>Microseconds of a query-status round trip: median and 99th percentile.</summary>
    public static (double Median, double P99) RoundTrip(Subject subject, int count)
    {
        using Launched l = Launched.Start(subject, s_idle);
        l.Negotiate();
        for (int i = 0; i < 200; i++)
        {
            l.RoundTrip(s_status);
        }

        double[] samples = new double[count];
        for (int i = 0; i < count; i++)
        {
            long t = Stopwatch.GetTimestamp();
            l.RoundTrip(s_status);
            samples[i] = Stopwatch.GetElapsedTime(t).TotalMicroseconds;
        }

        Array.Sort(samples);
        return (samples[count / 2], samples[count * 99 / 100]);
    }

    /// <summary>Commands per second when <paramref name="count"/> query-status commands are sent at once, best of <paramref name="runs"/>.</summary>
    public static double Pipelined(Subject subject, int count, int runs)
    {
        StringBuilder text = new();
        for (int i = 0; i < count; i++)
        {
            text.Append("{\"execute\":\"query-status\"}\r\n");
        }

        byte[] burst = Encoding.UTF8.GetBytes(text.ToString());
        using Launched l = Launched.Start(subject, s_idle);
        l.Negotiate();
        l.RoundTrip(s_status);
        double best = 0;
        for (int run = 0; run < runs; run++)
        {
            long t = Stopwatch.GetTimestamp();

            // The sender must not block while the answers fill the socket buffers, so it is a thread of its own.
            Thread sender = new(() => l.Send(burst));
            sender.Start();
            for (int i = 0; i < count; i++)
            {
                l.ReadLine();
            }

            double seconds = Stopwatch.GetElapsedTime(t).TotalSeconds;
            sender.Join();
            best = Math.Max(best, count / seconds);
        }

        return best;
    }

    /// <summary>Milliseconds of one query-qmp-schema round trip, median.</summary>
    public static double Schema(Subject subject, int runs)
    {
        double[] samples = new double[runs];
        for (int i = 0; i < runs; i++)
        {
            // A fresh process each time: nobody asks twice.
            using Launched l = Launched.Start(subject, s_idle);
            l.Negotiate();
            long t = Stopwatch.GetTimestamp();
            l.RoundTrip("{\"execute\":\"query-qmp-schema\"}"u8);
            samples[i] = Stopwatch.GetElapsedTime(t).TotalMilliseconds;
        }

        return Median(samples);
    }

    /// <summary>Milliseconds to answer a command whose id is a string of <paramref name="kib"/> KiB.</summary>
    public static double LongString(Subject subject, int kib, int runs)
    {
        byte[] command = Encoding.UTF8.GetBytes("{\"execute\":\"qom-list\",\"arguments\":{\"path\":\"" + new string('x', kib << 10) + "\"}}");
        double[] samples = new double[runs];
        for (int i = 0; i < runs; i++)
        {
            using Launched l = Launched.Start(subject, s_idle);
            l.Negotiate();
            long t = Stopwatch.GetTimestamp();
            Thread sender = new(() => l.Send(command));
            sender.Start();
            l.ReadLine();
            samples[i] = Stopwatch.GetElapsedTime(t).TotalMilliseconds;
            sender.Join();
        }

        return Median(samples);
    }

    /// <summary>
    /// Microseconds per port write of a guest that writes <paramref name="count"/> times to a port between two marks on its
    /// debug console.
    /// </summary>
    public static double PortWrite(Subject subject, string machine, string kernel, int count, int runs)
    {
        double[] samples = new double[runs];
        for (int i = 0; i < runs; i++)
        {
            using Launched l = Launched.Start(subject, [.. Guest(machine, kernel), "-debugcon", "stdio"]);
            l.ReadOutputUntil((byte)'B');
            long t = Stopwatch.GetTimestamp();
            l.ReadOutputUntil((byte)'E');
            samples[i] = Stopwatch.GetElapsedTime(t).TotalMicroseconds / count;
        }

        return samples.Min();
    }

    /// <summary>Microseconds from sending <c>stop</c> to its reply while a vCPU computes, median.</summary>
    public static double Pause(Subject subject, string machine, string kernel, int count)
    {
        using Launched l = Launched.Start(subject, [.. Guest(machine, kernel), "-debugcon", "stdio"]);
        l.Negotiate();
        l.ReadOutputByte();
        double[] samples = new double[count];
        for (int i = 0; i < count; i++)
        {
            long t = Stopwatch.GetTimestamp();
            l.RoundTrip("{\"execute\":\"stop\"}"u8);
            samples[i] = Stopwatch.GetElapsedTime(t).TotalMicroseconds;
            l.RoundTrip("{\"execute\":\"cont\"}"u8);
        }

        return Median(samples);
    }

    /// <summary>Arguments of a small guest without default devices.</summary>
    public static string[] Guest(string machine, string kernel) =>
        ["-machine", machine, "-accel", "kvm", "-cpu", "qemu64", "-m", "64", "-nodefaults", "-display", "none", "-no-user-config", "-kernel", kernel];

    private static double Median(double[] samples)
    {
        Array.Sort(samples);
        return samples[samples.Length / 2];
    }
}
