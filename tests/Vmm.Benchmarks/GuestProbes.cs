using System.Diagnostics;
using System.Runtime.InteropServices;
using Vmm.Interop;
using Vmm.TestKit.Guests;

namespace Vmm.Benchmarks;

/// <summary>Measurements of a running guest.</summary>
internal static class GuestProbes
{
    /// <summary>
    /// "wall" and "cpu" microseconds per exit of a guest that makes <paramref name="count"/> of them between two marks on its debug
    /// console.
    /// </summary>
    public static IProbe Exits(Subject subject, string machine, string kernel, int count, string[] devices) => new FreshProbe(series =>
    {
        using Launched l = Launched.Start(subject, [.. MonitorProbes.Guest(machine, kernel), "-debugcon", "stdio", .. devices]);
        l.ReadOutputUntil((byte)'B');
        long cpu = l.CpuNs;
        long t = Stopwatch.GetTimestamp();
        l.ReadOutputUntil((byte)'E');
        series.Add("wall", Stopwatch.GetElapsedTime(t).TotalMicroseconds / count);
        series.Add("cpu", (l.CpuNs - cpu) / 1e3 / count);
    });

    /// <summary>
    /// "stop": microseconds from sending stop to its reply while a vCPU computes; "last": to the last instruction of the guest, which
    /// stores its time stamp counter in shared memory all the time; "cycle": of stop and cont together; "cpu" of a cycle.
    /// </summary>
    public sealed class Pause : IProbe
    {
        private const int Cycles = 20;
        private const ulong RamBytes = 64 << 20;
        private readonly string _file;
        private readonly Launched _launched;
        private readonly MappedMemory _ram;
        private readonly double _ticksPerUs;

        public Pause(Subject subject, string kernel)
        {
            _file = $"/dev/shm/vmm-bench-{Environment.ProcessId}-{subject.Name}";
            _launched = Launched.Start(
                subject,
                [
                    .. MonitorProbes.Guest("microvm,memory-backend=ram", kernel), "-debugcon", "stdio",
                    "-object", $"memory-backend-file,id=ram,mem-path={_file},size=64M,share=on",
                ]);
            _launched.Negotiate();
            _launched.ReadOutputByte();
            using FileStream file = new(_file, FileMode.Open, FileAccess.ReadWrite);
            int fd = (int)file.SafeFileHandle.DangerousGetHandle();
            const int Protection = Libc.PROT_READ | Libc.PROT_WRITE;
            Errno errno = MappedMemory.Map(RamBytes, Protection, Libc.MAP_SHARED, fd, 0, out MappedMemory? ram);
            _ram = ram ?? throw new IOException(errno.ToString());
            _ticksPerUs = MeasureRate(Now());
            _ticksPerUs = MeasureRate(Calibrate(_ticksPerUs));
            Sample(new Series());
        }

        private ulong Counter => Volatile.Read(ref MemoryMarshal.AsRef<ulong>(_ram.AsSpan(GuestImage.Data, 8)));

        public void Sample(Series series)
        {
            for (int i = 0; i < Cycles; i++)
            {
                (double us, double tsc) = Calibrate(_ticksPerUs);
                long cpu = _launched.CpuNs;
                double start = NowUs();
                _launched.RoundTrip("{\"execute\":\"stop\"}"u8);
                double stopped = NowUs();
                ulong last = Counter;
                double resume = NowUs();
                _launched.RoundTrip("{\"execute\":\"cont\"}"u8);
                double end = NowUs();
                long used = _launched.CpuNs - cpu;
                series.Add("stop", stopped - start);
                // Before the request is none of its time: then the vCPU's thread had no processor when the request came.
                series.Add("last", Math.Max(0, us + ((last - tsc) / _ticksPerUs) - start));
                series.Add("cycle", stopped - start + end - resume);
                series.Add("cpu", used / 1e3);
                // The next pause has to interrupt a guest that runs; giving the processor away lets its thread start.
                while (Counter == last)
                {
                    Thread.Sleep(0);
                }
            }
        }

        public void Dispose()
        {
            _launched.Dispose();
            _ram.Dispose();
            File.Delete(_file);
        }

        private static double NowUs() => Stopwatch.GetTimestamp() * (1e6 / Stopwatch.Frequency);

        // The guest's clock first: a pause between the two readings then makes it look older, never ahead of us.
        private (double Us, double Tsc) Now()
        {
            double tsc = Counter;
            return (NowUs(), tsc);
        }

        private double MeasureRate((double Us, double Tsc) since)
        {
            // The rate is a quotient over a distance in time: a tenth of a second makes a reading's error of 10 us one in 10,000.
            Thread.Sleep(100);
            (double us, double tsc) = _ticksPerUs > 0 ? Calibrate(_ticksPerUs) : Now();
            return (tsc - since.Tsc) / (us - since.Us);
        }

        /// <summary>A moment in both clocks: of many readings the one in which the guest's is least behind.</summary>
        private (double Us, double Tsc) Calibrate(double ticksPerUs)
        {
            (double Us, double Tsc) best = default;
            double least = double.MaxValue;
            for (int i = 0; i < 200; i++)
            {
                (double us, double tsc) = Now();
                double behind = (us * ticksPerUs) - tsc;
                if (behind < least)
                {
                    least = behind;
                    best = (us, tsc);
                }
            }

            return best;
        }
    }
}
