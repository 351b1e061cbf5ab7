using System.Diagnostics;
using System.Globalization;
using System.Text;

namespace Vmm.Benchmarks;

/// <summary>Dumps of a stopped guest whose memory is the same file in every emulator, half noise and half zeroes by the MiB.</summary>
internal sealed class DumpProbes : IDisposable
{
    private const string MemoryFolder = "/dev/shm";
    private readonly string _folder = Directory.CreateDirectory(
        Path.Combine(Directory.Exists(MemoryFolder) ? MemoryFolder : Path.GetTempPath(), $"vmm-bench-{Guid.NewGuid():N}")).FullName;

    private int _imageMib;

    /// <inheritdoc/>
    public void Dispose() => Directory.Delete(_folder, true);

    /// <summary>
    /// "mb" in 10^6 bytes of guest memory per second, "cpu" in ms, "anon" in KiB: what the process has of its own when the dump is complete.
    /// </summary>
    /// <param name="subject">Emulator.</param>
    /// <param name="format">Format of the dump.</param>
    /// <param name="mib">Guest memory.</param>
    /// <param name="cores">Cores that the emulator may use; 0 for all.</param>
    public IProbe Dump(Subject subject, string format, int mib, int cores = 0) => new FreshProbe(series =>
    {
        string image = Image(mib);
        string target = Path.Combine(_folder, "dump");
        File.Delete(target);
        string size = mib.ToString(CultureInfo.InvariantCulture);
        string[] arguments =
        [
            "-machine", "pc,memory-backend=m", "-m", size, "-object", $"memory-backend-file,id=m,size={size}M,mem-path={image},share=off",
            "-accel", "kvm", "-cpu", "qemu64", "-nodefaults", "-display", "none", "-no-user-config", "-S",
        ];
        Subject bound = cores == 0 ? subject : subject with { Binary = "/usr/bin/taskset" };
        using Launched l = Launched.Start(bound, cores == 0 ? arguments : ["-c", $"0-{cores - 1}", subject.Binary, .. arguments]);
        l.Negotiate();
        byte[] command = Encoding.UTF8.GetBytes(
            $$$"""{"execute":"dump-guest-memory","arguments":{"paging":false,"protocol":"file:{{{target}}}","format":"{{{format}}}"}}""");
        long cpu = l.CpuNs;
        long t = Stopwatch.GetTimestamp();
        l.Send(command);
        string line;
        do
        {
            line = Encoding.UTF8.GetString(l.ReadLine());
        }
        while (line.StartsWith("{\"timestamp\"", StringComparison.Ordinal));
        if (line.StartsWith("{\"error\"", StringComparison.Ordinal))
        {
            throw new InvalidOperationException($"{format}: {line}");
        }

        series.Add("mb", ((long)mib << 20) / 1e6 / Stopwatch.GetElapsedTime(t).TotalSeconds);
        series.Add("cpu", (l.CpuNs - cpu) / 1e6);
        series.Add("anon", Anonymous(l.Pid));
        File.Delete(target);
    });

    private static double Anonymous(int pid)
    {
        string line = File.ReadLines($"/proc/{pid}/status").First(static l => l.StartsWith("RssAnon:", StringComparison.Ordinal));
        return double.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture);
    }

    private string Image(int mib)
    {
        string path = Path.Combine(_folder, "image");
        if (_imageMib != mib)
        {
            Random random = new(11);
            byte[] noise = new byte[1 << 20];
            byte[] zeroes = new byte[1 << 20];
            using FileStream file = File.Create(path);
            for (int i = 0; i < mib; i++)
            {
                random.NextBytes(noise);
                file.Write((i & 1) == 0 ? noise : zeroes);
            }

            _imageMib = mib;
        }

        return path;
    }
}
