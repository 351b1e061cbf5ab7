using System.Globalization;
using Vmm.Benchmarks;
using Vmm.TestKit.Guests;
using Vmm.TestKit.Processes;

// Side-by-side measurements against Debian's qemu-system-x86_64 in one run. Prints the table that the README carries.
// Arguments: names of rows (substrings) to run; none runs all.
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
const int PortWrites = 50_000;
string ports = Save("ports.elf", TestGuests.PortLoop(PortWrites));
string spin = Save("spin.elf", TestGuests.Spin());

string[] stopped = ["-machine", "microvm", "-accel", "kvm", "-cpu", "qemu64", "-m", "64", "-nodefaults", "-display", "none", "-no-user-config", "-S", "-kernel", hello];
string[] stoppedPc = [.. stopped];
stoppedPc[1] = "pc";

List<Row> rows =
[
    new("exec to greeting", "ms", 0.5, s => Measurements.Greeting(s, 21)),
    new("exec to first port write, PVH on microvm", "ms", null, s => Measurements.FirstPortWrite(s, 9, "microvm", hello)),
    new("exec to first port write, PVH on pc", "ms", 0.1, s => Measurements.FirstPortWrite(s, 3, "pc", hello)),
    new("exec to first port write, multiboot on pc", "ms", 0.1, s => Measurements.FirstPortWrite(s, 3, "pc", multiboot)),
    new("idle RSS, -machine none", "KiB", 0.5, s => Measurements.IdleMemory(s, 5, "Rss")),
    new("idle PSS, -machine none", "KiB", 0.5, s => Measurements.IdleMemory(s, 5, "Pss")),
    new("idle RSS, microvm 64 MiB with KVM", "KiB", 0.5, s => Measurements.IdleMemory(s, 5, "Rss", stopped)),
    new("idle RSS, pc 64 MiB with KVM", "KiB", 0.5, s => Measurements.IdleMemory(s, 5, "Rss", stoppedPc)),
    new("query-status round trip, median", "us", 0.3, s => Measurements.RoundTrip(s, 5000).Median),
    new("query-status round trip, p99", "us", null, s => Measurements.RoundTrip(s, 5000).P99),
    new("1000 pipelined commands", "per s", 20, s => Measurements.Pipelined(s, 1000, 5), HigherIsBetter: true),
    new("query-qmp-schema round trip", "ms", 0.3, s => Measurements.Schema(s, 7)),
    new("command with a 512 KiB string", "ms", 0.05, s => Measurements.LongString(s, 512, 3)),
    new("command with a 64 KiB string", "ms", null, s => Measurements.LongString(s, 64, 3)),
    new("port write by the guest (exit cost)", "us", 1.1, s => Measurements.PortWrite(s, "microvm", ports, PortWrites, 3)),
    new("stop while a vCPU computes", "us", null, s => Measurements.Pause(s, "microvm", spin, 200)),
];

Console.WriteLine("| what | unit | Vmm | QEMU 7.2 | ratio | bar |");
Console.WriteLine("|---|---|---:|---:|---:|---:|");
bool missed = false;
foreach (Row row in rows.Where(r => args.Length == 0 || args.Any(a => r.Name.Contains(a, StringComparison.OrdinalIgnoreCase))))
{
    double mine = row.Measure(vmm);
    double other = row.Measure(qemu);
    double ratio = mine / other;
    bool ok = row.Bar is not { } bar || (row.HigherIsBetter ? ratio >= bar : ratio <= bar);
    missed |= !ok;
    Console.WriteLine($"| {row.Name} | {row.Unit} | {Number(mine)} | {Number(other)} | {Number(ratio)} | {(row.Bar is { } b ? (row.HigherIsBetter ? ">= " : "<= ") + Number(b) : "-")}{(ok ? "" : " missed")} |");
}

Directory.Delete(directory, true);
return missed ? 3 : 0;

static string Number(double v) => v.ToString(v >= 1000 ? "F0" : v >= 100 ? "F0" : v >= 10 ? "F1" : "F3", CultureInfo.InvariantCulture);

/// <summary>One row of the table: the bar is a ratio ours / theirs.</summary>
internal sealed record Row(string Name, string Unit, double? Bar, Func<Subject, double> Measure, bool HigherIsBetter = false);
