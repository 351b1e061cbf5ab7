using System.Diagnostics;
using System.Text;

namespace Vmm.Benchmarks;

/// <summary>Measurements of the block layer: exports and jobs of an emulator without a machine.</summary>
internal static class BlockProbes
{
    private static readonly string[] s_idle = ["-machine", "none", "-nodefaults", "-display", "none", "-no-user-config"];

    private static Launched Start(Subject subject, IEnumerable<string> commands)
    {
        Launched l = Launched.Start(subject, s_idle);
        l.Negotiate();
        foreach (string command in commands)
        {
            Execute(l, command);
        }

        return l;
    }

    private static void Execute(Launched l, string command)
    {
        l.Send(Encoding.UTF8.GetBytes(command));
        string line;
        do
        {
            line = Encoding.UTF8.GetString(l.ReadLine());
        }
        while (line.StartsWith("{\"timestamp\"", StringComparison.Ordinal));

        if (line.StartsWith("{\"error\"", StringComparison.Ordinal))
        {
            throw new InvalidOperationException($"{command}: {line}");
        }
    }

    /// <summary>
    /// Requests of a client to an NBD export of node "n": "rate" in thousands per second, "mb" in 10^6 bytes per second, "cpu" of the
    /// server in microseconds per request, "Rss" in KiB at the end. With a folder of credentials, over TLS.
    /// </summary>
    public sealed class Export : IProbe
    {
        private readonly NbdWorkload _workload;
        private readonly string _socket = Path.Combine(Path.GetTempPath(), $"vmm-bench-{Guid.NewGuid():N}");
        private readonly Launched _launched;
        private readonly NbdLoad _client;

        public Export(Subject subject, NbdWorkload workload, string? credentials, params string[] nodes)
        {
            _workload = workload;
            _launched = Start(
                subject,
                [.. nodes, .. credentials is null ? [] : new[] { Secure(credentials) }, Serve(_socket, credentials is not null), Show("n")]);
            _client = new NbdLoad(_socket, "n", credentials is not null);
            Sample(new Series());
        }

        public void Sample(Series series)
        {
            long cpu = _launched.CpuNs;
            long t = Stopwatch.GetTimestamp();
            _client.Run(_workload);
            double seconds = Stopwatch.GetElapsedTime(t).TotalSeconds;
            series.Add("rate", _workload.Count / seconds / 1e3);
            series.Add("mb", (double)_workload.Count * _workload.Bytes / seconds / 1e6);
            series.Add("cpu", (_launched.CpuNs - cpu) / 1e3 / _workload.Count);
            series.Add("Rss", _launched.MemoryKiB("Rss"));
        }

        public void Dispose()
        {
            _client.Dispose();
            _launched.Dispose();
            File.Delete(_socket);
        }
    }

    /// <summary>
    /// qemu-img convert between a file and an NBD export: "mb" in 10^6 bytes per second, "cpu" of the server in ms, "Rss" in KiB at the end.
    /// </summary>
    /// <param name="subject">The server.</param>
    /// <param name="prepare">Makes the images of a sample anew.</param>
    /// <param name="node">Command that opens the exported node.</param>
    /// <param name="name">Its name.</param>
    /// <param name="arguments">Arguments of qemu-img, given the name of the export.</param>
    public static IProbe Convert(Subject subject, Action prepare, string node, string name, Func<string, string[]> arguments) => new FreshProbe(series =>
    {
        prepare();
        string socket = Path.Combine(Path.GetTempPath(), $"vmm-bench-{Guid.NewGuid():N}");
        using Launched l = Start(subject, [node, Serve(socket, false), Show(name)]);
        long cpu = l.CpuNs;
        long t = Stopwatch.GetTimestamp();
        DiskImages.Run(arguments($"nbd+unix:///{name}?socket={socket}"));
        series.Add("mb", DiskImages.Bytes / Stopwatch.GetElapsedTime(t).TotalSeconds / 1e6);
        series.Add("cpu", (l.CpuNs - cpu) / 1e6);
        series.Add("Rss", l.MemoryKiB("Rss"));
        File.Delete(socket);
    });

    private static string Secure(string folder) =>
        $$$"""{"execute":"object-add","arguments":{"qom-type":"tls-creds-x509","id":"tls","endpoint":"server","verify-peer":false,"dir":"{{{folder}}}"}}""";

    private static string Serve(string socket, bool isSecure) =>
        $$$"""{"execute":"nbd-server-start","arguments":{{{{(isSecure ? "\"tls-creds\":\"tls\"," : "")}}}"addr":{"type":"unix","data":{"path":"{{{socket}}}"} } }}""";

    private static string Show(string node) =>
        $$$"""{"execute":"block-export-add","arguments":{"type":"nbd","id":"e","node-name":"{{{node}}}","writable":true}}""";

    /// <summary>
    /// A job from its command to an event that ends what is measured: "mb" in 10^6 bytes per second, "cpu" in ms, "Rss" in KiB at the end.
    /// </summary>
    /// <param name="subject">The emulator.</param>
    /// <param name="bytes">What the job has to copy.</param>
    /// <param name="prepare">Makes the images of a sample anew.</param>
    /// <param name="nodes">Commands that open them.</param>
    /// <param name="start">The command.</param>
    /// <param name="end">The event.</param>
    public static IProbe Job(Subject subject, long bytes, Action prepare, string[] nodes, string start, string end) => new FreshProbe(series =>
    {
        prepare();
        using Launched l = Start(subject, nodes);
        long cpu = l.CpuNs;
        long t = Stopwatch.GetTimestamp();
        l.Send(Encoding.UTF8.GetBytes(start));
        string line;
        do
        {
            line = Encoding.UTF8.GetString(l.ReadLine());
            if (line.StartsWith("{\"error\"", StringComparison.Ordinal))
            {
                throw new InvalidOperationException($"{start}: {line}");
            }
        }
        while (!line.Contains($"\"event\": \"{end}\"", StringComparison.Ordinal));

        series.Add("mb", bytes / Stopwatch.GetElapsedTime(t).TotalSeconds / 1e6);
        series.Add("cpu", (l.CpuNs - cpu) / 1e6);
        series.Add("Rss", l.MemoryKiB("Rss"));
    });
}
