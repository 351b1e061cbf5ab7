using System.Globalization;
using Vmm.Benchmarks;
using Vmm.TestKit.Guests;
using Vmm.TestKit.Processes;
using Vmm.TestKit.Tls;

// Side-by-side measurements against Debian's qemu-system-x86_64 in one run. Prints the table that the README carries.
// Arguments: names of rows (substrings) to run; none runs all. Exit status 3 when a bar is missed.
string ours = Environment.GetEnvironmentVariable("VMM_BENCH_BINARY") ?? Emulator.OurBinary;
string? theirs = Emulator.RealQemu;
if (theirs is null)
{
    Console.Error.WriteLine("qemu-system-x86_64 is not installed: nothing to compare with");
    return 1;
}

if (!Emulator.HasKvm)
{
    Console.Error.WriteLine("/dev/kvm cannot be opened: guests cannot be measured");
    return 1;
}

Subject vmm = new("Vmm", ours);
Subject qemu = new("QEMU", theirs);
string directory = Directory.CreateTempSubdirectory("vmm-bench-").FullName;
string Save(string name, byte[] content)
{
    string path = Path.Combine(directory, name);
    File.WriteAllBytes(path, content);
    return path;
}

string hello = Save("hello.elf", TestGuests.PvhHello());
string multiboot = Save("multiboot.elf", TestGuests.MultibootElfHello());
string stamp = Save("stamp.elf", TestGuests.StampTime());

string[] stopped = ["-accel", "kvm", "-cpu", "qemu64", "-nodefaults", "-display", "none", "-no-user-config", "-S"];

Measurement Memory(string name, params string[] arguments) => new(
    5,
    s => MonitorProbes.IdleMemory(s, arguments),
    new Row($"idle RSS, {name}", "KiB", 0.5, "Rss"),
    new Row($"idle PSS, {name}", "KiB", 0.5, "Pss"));

Measurement FirstWrite(string name, string machine, string kernel, double? bar, int samples, int others) => new(
    samples,
    s => MonitorProbes.FirstPortWrite(s, machine, kernel),
    new Row($"exec to first port write, {name}", "ms", bar),
    new Row($"  the same, CPU time", "ms", bar, "cpu"))
{
    SamplesOfOther = others,
};

// What else runs on the machine only ever adds to the time of an exit: the lower quartile is nearer to the truth than the median.
const double LeastDisturbed = 0.25;
Measurement Exits(string name, byte[] guest, params string[] devices)
{
    const int Count = ExitGuest.Count;
    string file = Save($"exits-{name.Replace(' ', '-')}.elf", guest);
    return new(
        25,
        s => GuestProbes.Exits(s, "microvm", file, Count, devices),
        new Row($"exit: {name}", "us", 1.1, Fraction: LeastDisturbed),
        new Row("  the same, CPU time", "us", 1.1, "cpu", LeastDisturbed),
        new Row("  the same, without the kernel's part (a bare loop over KVM_RUN)", "us", 1.1, "cpu", LeastDisturbed, WithoutKernel: true))
    {
        Bare = () => BareLoop.Exits(guest, Count),
    };
}

Measurement Text(int kib, double? bar, int samples, int others) => new(
    samples,
    s => MonitorProbes.LongString(s, kib),
    new Row($"command with a {(kib >= 1024 ? kib >> 10 : kib)} {(kib >= 1024 ? "MiB" : "KiB")} string", "ms", bar))
{
    SamplesOfOther = others,
};

NbdWorkload one = new("4k random reads, depth 1", false, 4096, 1, 4_000, true);
NbdWorkload many = new("4k random reads, depth 32", false, 4096, 32, 40_000, true);
NbdWorkload writes = new("4k random writes, depth 32", true, 4096, 32, 40_000, true);
NbdWorkload stream = new("1 MiB reads in order, depth 4", false, 1 << 20, 4, 400, false);
NbdWorkload streamOut = new("1 MiB writes in order, depth 4", true, 1 << 20, 4, 400, false);
DiskImages images = new(directory);

TlsFiles? credentials = null;
Measurement Export(string name, NbdWorkload w, double bar, string node, bool isSecure = false) => new(
    9,
    s => new BlockProbes.Export(s, w, isSecure ? (credentials ??= TlsFiles.Full(Path.Combine(directory, "tls"))).Folder : null, node),
    new Row($"NBD export of {name}{(isSecure ? " over TLS" : "")}: {w.Name}", w.Bytes > 4096 ? "MB/s" : "1000/s", bar, w.Bytes > 4096 ? "mb" : "rate", HigherIsBetter: true),
    new Row("  CPU time per request", "us", 1, "cpu"),
    new Row("  RSS", "KiB", 1, "Rss"));

Measurement Job(string name, double bar, Action prepare, string[] nodes, string start, string end) => new(
    7,
    s => BlockProbes.Job(s, DiskImages.Bytes, prepare, nodes, start, end),
    new Row(name, "MB/s", bar, "mb", HigherIsBetter: true),
    new Row("  CPU time", "ms", 1, "cpu"),
    new Row("  RSS", "KiB", 1, "Rss"));

Measurement Convert(string name, Action prepare, string node, string exported, Func<string, string[]> arguments) => new(
    7,
    s => BlockProbes.Convert(s, prepare, node, exported, arguments),
    new Row(name, "MB/s", 1, "mb", HigherIsBetter: true),
    new Row("  CPU time of the server", "ms", 1, "cpu"),
    new Row("  RSS", "KiB", 1, "Rss"));

using DumpProbes dumps = new();

Measurement Dump(string format, double? bar, int mib = 1024, int cores = 0, bool isAlone = false) => new(
    5,
    s => dumps.Dump(s, format, mib, cores),
    new Row(
        $"dump, {format}, {mib} MiB half noise half zeroes, to tmpfs" + (cores == 0 ? "" : $", on {cores} of the cores"), "MB/s", bar, "mb", HigherIsBetter: true),
    new Row("  CPU time", "ms", null, "cpu"),
    new Row("  memory of its own at the end", "KiB", null, "anon"))
{
    SamplesOfOther = isAlone ? 0 : 5,
};

List<Measurement> measurements =
[
    new(
        31,
        MonitorProbes.Greeting,
        new Row("exec to greeting", "ms", 0.5),
        new Row("  the same, CPU time", "ms", 0.5, "cpu")),
    FirstWrite("PVH on microvm", "microvm", hello, null, 15, 9),
    FirstWrite("PVH on pc", "pc", hello, 0.1, 15, 3),
    FirstWrite("multiboot on pc", "pc", multiboot, 0.1, 15, 3),
    Memory("-machine none"),
    Memory("pc, 128 MiB, -S", ["-machine", "pc", "-m", "128", .. stopped]),
    Memory("microvm, 128 MiB, -S", ["-machine", "microvm", "-m", "128", .. stopped, "-kernel", hello]),
    new(
        20,
        static s => new MonitorProbes.RoundTrip(s),
        new Row("query-status round trip, median", "us", 0.3),
        new Row("query-status round trip, 99th percentile", "us", Fraction: 0.99),
        new Row("query-status, CPU time per command", "us", 0.3, "cpu")),
    new(
        11,
        static s => new MonitorProbes.Pipelined(s),
        new Row("1000 pipelined commands", "per s", 20, "rate", HigherIsBetter: true),
        new Row("  CPU time per command", "us", 0.05, "cpu"),
        new Row("  RSS after 12,000 commands", "KiB", 0.5, "Rss", 1)),
    new(
        9,
        MonitorProbes.Schema,
        new Row("query-qmp-schema, first of a process", "ms", 0.3),
        new Row("  the same, CPU time", "ms", 0.3, "cpu")),
    Text(64, null, 7, 3),
    Text(512, 0.05, 7, 3),
    Text(1024, null, 5, 0),
    Text(4096, null, 5, 0),
    Exits("OUT to a port without device", ExitGuest.Out(0x80)),
    Exits("OUT to a debug console", ExitGuest.Out(0x402), "-chardev", "null,id=sink", "-device", "isa-debugcon,iobase=0x402,chardev=sink"),
    Exits("IN from a serial port", ExitGuest.In(0x3fd), "-chardev", "null,id=sink", "-serial", "chardev:sink"),
    Exits("memory-mapped read without device", ExitGuest.Read(0x60000000)),
    new(
        10,
        s => new GuestProbes.Pause(s, stamp),
        new Row("stop while a vCPU computes: to the reply", "us", null, "stop"),
        new Row("stop while a vCPU computes: to the reply, tenth percentile", "us", null, "stop", 0.1),
        new Row("stop while a vCPU computes: to the guest's last instruction", "us", null, "last"),
        new Row("stop and cont", "us", null, "cycle"),
        new Row("stop and cont, tenth percentile", "us", null, "cycle", 0.1),
        new Row("  the same, CPU time", "us", null, "cpu")),
    Export("null", one, 1, DiskImages.Null),
    Export("null", many, 1.3, DiskImages.Null),
    Export("null", stream, 1, DiskImages.Null),
    Export("raw", one, 1, images.Raw),
    Export("raw", many, 1.3, images.Raw),
    Export("raw", writes, 1.3, images.Raw),
    Export("raw", stream, 1, images.Raw),
    Export("raw", streamOut, 1, images.Raw),
    Export("qcow2", one, 1, images.Qcow2),
    Export("qcow2", many, 1.3, images.Qcow2),
    Export("qcow2", writes, 1.3, images.Qcow2),
    Export("qcow2", stream, 1, images.Qcow2),
    Export("qcow2", streamOut, 1, images.Qcow2),
    Export("raw", one, 1, images.Raw, isSecure: true),
    Export("raw", many, 1.3, images.Raw, isSecure: true),
    Export("raw", stream, 1, images.Raw, isSecure: true),
    Export("raw", streamOut, 1, images.Raw, isSecure: true),
    Job("mirror, raw to raw", 1.3, images.EmptyRaw, [images.Raw, images.RawTarget], DiskImages.Mirror, "BLOCK_JOB_READY"),
    Job("mirror, qcow2 to qcow2", 1.3, images.EmptyQcow2, [images.Qcow2, images.Qcow2Target], DiskImages.Mirror, "BLOCK_JOB_READY"),
    Job("mirror, qcow2 to raw", 1.3, images.EmptyRaw, [images.Qcow2, images.RawTarget], DiskImages.Mirror, "BLOCK_JOB_READY"),
    Job("mirror, raw to qcow2", 1.3, images.EmptyQcow2, [images.Raw, images.Qcow2Target], DiskImages.Mirror, "BLOCK_JOB_READY"),
    Job("backup, raw to raw", 1, images.EmptyRaw, [images.Raw, images.RawTarget], DiskImages.Backup, "BLOCK_JOB_COMPLETED"),
    Job("backup, qcow2 to qcow2", 1, images.EmptyQcow2, [images.Qcow2, images.Qcow2Target], DiskImages.Backup, "BLOCK_JOB_COMPLETED"),
    Job("stream, qcow2 over qcow2", 1, images.EmptyQcow2, [images.Qcow2, images.Qcow2TargetAbove], DiskImages.Stream, "BLOCK_JOB_COMPLETED"),
    Job("commit, qcow2 over qcow2", 1, images.EmptyQcow2, [images.Qcow2Target, images.Qcow2AboveTarget], DiskImages.Commit, "BLOCK_JOB_READY"),
    Convert("qemu-img convert, export of qcow2 to raw", images.EmptyRaw, images.Qcow2, "n", e => ["convert", "-n", "-f", "raw", "-O", "raw", e, images.RawTargetFile]),
    Convert("qemu-img convert, raw to export of qcow2", images.EmptyQcow2, images.Qcow2Target, "t", e => ["convert", "-n", "-f", "raw", "-O", "raw", images.RawFile, e]),

    // Debian's QEMU is built without LZO and Snappy.
    Dump("elf", 1),
    Dump("kdump-zlib", 1.7),
    Dump("kdump-lzo", null, isAlone: true),
    Dump("kdump-snappy", null, isAlone: true),
];
if (Environment.GetEnvironmentVariable("VMM_BENCH_DUMP_GROWTH") is not null)
{
    foreach (string format in (string[])["elf", "kdump-zlib"])
    {
        for (int cores = 1; cores <= Environment.ProcessorCount; cores++)
        {
            measurements.Add(Dump(format, null, 1024, cores));
        }

        for (int mib = 256; mib <= 8192; mib *= 2)
        {
            measurements.Add(Dump(format, null, mib, isAlone: true));
        }
    }
}

Console.WriteLine("| what | unit | Vmm | QEMU 7.2 | ratio | bar |");
Console.WriteLine("|---|---|---:|---:|---:|---:|");
bool missed = false;
try
{
    foreach (Measurement measurement in measurements)
    {
        if (args.Length == 0 || measurement.Rows.Any(r => args.Any(a => r.Name.Contains(a, StringComparison.OrdinalIgnoreCase))))
        {
            missed |= Print(measurement, measurement.Run(vmm, qemu));
        }
    }
}
finally
{
    Directory.Delete(directory, true);
}

return missed ? 3 : 0;

static bool Print(Measurement measurement, (Series Mine, Series Other, Series Bare) result)
{
    bool missed = false;
    foreach (Row row in measurement.Rows)
    {
        double kernel = row.WithoutKernel ? result.Bare.Quantile(row.Quantity, row.Fraction) ?? 0 : 0;
        double mine = result.Mine.Quantile(row.Quantity, row.Fraction)!.Value - kernel;
        double? other = result.Other.Quantile(row.Quantity, row.Fraction) - kernel;
        double noise = row.WithoutKernel ? result.Bare.Spread(row.Quantity) : 0;
        if (mine < noise && other < noise)
        {
            // What is left of both is less than what the bare loop itself varies by: a quotient of two such numbers says nothing.
            Console.WriteLine($"| {row.Name} | {row.Unit} | {Number(mine)} | {Number(other)} | noise: {Number(noise)} |  |");
            continue;
        }

        double? ratio = mine / (row.WithoutKernel ? Math.Max(other ?? 0, noise) : other);
        bool ok = ratio is not { } r || row.Bar is not { } bar || (row.HigherIsBetter ? r >= bar : r <= bar);
        missed |= !ok;
        string wanted = row.Bar is { } b ? (row.HigherIsBetter ? ">= " : "<= ") + b.ToString(CultureInfo.InvariantCulture) : "";
        string verdict = ok ? "" : " missed";
        Console.WriteLine($"| {row.Name} | {row.Unit} | {Number(mine)} | {Number(other)} | {Number(ratio)} | {wanted}{verdict} |");
    }

    return missed;
}

static string Number(double? value)
{
    double size = Math.Abs(value ?? 0);
    return value?.ToString(size >= 100 ? "F0" : size >= 10 ? "F1" : size >= 1 ? "F2" : "F3", CultureInfo.InvariantCulture) ?? "";
}
