using System.Globalization;
using Vmm.Interop.KvmApi;
using Vmm.Kvm.CpuModels;
using Vmm.Kvm.Qmp;
using Vmm.ObjectModel.Accel;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.Kvm.Tests;

public sealed class CpuModelTests
{
    private static readonly string s_data = Path.Combine(AppContext.BaseDirectory, "cpuid");

    private static CpuHost s_host = null!;

    public static IEnumerable<string> Recordings()
    {
        foreach (string file in Directory.GetFiles(s_data, "*.txt"))
        {
            string name = Path.GetFileNameWithoutExtension(file);
            if (name != "host")
            {
                yield return name;
            }
        }
    }

    /// <summary>CPUID tables as QEMU 7.2 gives them to KVM, on the same (recorded) host.</summary>
    [TestCaseSource(nameof(Recordings))]
    public void CpuidIsAsRecorded(string name)
    {
        string[] lines = File.ReadAllLines(Path.Combine(s_data, name + ".txt"));
        string[] head = lines[0].Split('|');
        int[] t = Array.ConvertAll(head[1].Split(','), int.Parse);
        var topology = new CpuTopology(t[0], t[1], t[2], t[3]);
        QomTypeRegistry registry = Registry();
        CpuSpec spec = CpuSpec.Parse(head[0]);
        int index = -1;
        var expected = new List<string>();
        for (int i = 1; i < lines.Length; i++)
        {
            if (lines[i].StartsWith('#'))
            {
                Compare();
                index++;
                expected.Clear();
            }
            else
            {
                expected.Add(lines[i].Replace(" 6 ", " 0 ", StringComparison.Ordinal));
            }
        }

        Compare();

        void Compare()
        {
            if (index >= 0)
            {
                X86Cpu cpu = spec.Create(registry);
                cpu.Topology = topology;
                cpu.CpuIndex = index;
                cpu.ApicId = topology.ApicId(index);
                Assert.That(Lines(cpu), Is.EqualTo(expected), $"CPU {index}");
            }
        }
    }

    [Test]
    public void WarningsAndUnavailableFeatures()
    {
        X86Cpu cpu = CpuSpec.Parse("qemu64,+sse4a,rdctl-no=on").Create(Registry());
        var warnings = new List<string>();
        cpu.Warn = warnings.Add;
        Assert.That(cpu.UnavailableFeatures(), Is.EqualTo(new[] { "pni", "sse4a", "rdctl-no" }));
        Assert.That(warnings, Is.EqualTo(new[]
        {
            "This feature depends on other features that were not requested: MSR(10AH).rdctl-no [bit 0]",
            "host doesn't support requested feature: CPUID.01H:ECX.pni [bit 0]",
            "host doesn't support requested feature: CPUID.80000001H:ECX.sse4a [bit 6]",
        }));
    }

    [Test]
    public void DefinitionsAreAsRecorded()
    {
        var commands = new CpuCommands(Registry(), s_host, static () => null, static () => null);
        var lines = new List<string>();
        foreach (CpuDefinitionInfo info in commands.QueryCpuDefinitions())
        {
            lines.Add($"{info.Name}:{string.Join(',', info.UnavailableFeatures!)}");
        }

        string[] expected = File.ReadAllLines(Path.Combine(s_data, "unavailable.lst"));
        Assert.That(lines, Has.Count.EqualTo(expected.Length));
        for (int i = 0; i < expected.Length; i++)
        {
            Assert.That(lines[i], Is.EqualTo(expected[i]));
        }
    }

    /// <summary>Each property that QEMU tells has the same value here; the others are not served.</summary>
    [Test]
    public void ExpansionIsAsRecorded()
    {
        var commands = new CpuCommands(Registry(), s_host, static () => null, static () => null);
        foreach (string line in File.ReadAllLines(Path.Combine(s_data, "expansion.lst")))
        {
            int colon = line.IndexOf(':');
            CpuModelExpansionInfo result = commands.QueryCpuModelExpansion(
                CpuModelExpansionType.Full, new CpuModelInfo { Name = line[..colon] });
            var props = (QDict)result.Model.Props!;
            var wrong = new List<string>();
            int same = 0;
            foreach (string pair in line[(colon + 1)..].Split(';'))
            {
                string[] parts = pair.Split('=', 2);
                if (props.TryGetValue(parts[0], out QValue? value))
                {
                    string text = value is QString s ? s.Value : value.ToString()!.Trim('"');
                    if (text == parts[1])
                    {
                        same++;
                    }
                    else
                    {
                        wrong.Add($"{line[..colon]}: {pair}, here {text}");
                    }
                }
            }

            Assert.That(wrong, Is.Empty);
            Assert.That(same, Is.GreaterThan(370));
        }
    }

    [TestCase("foo", "unable to find CPU model 'foo'")]
    [TestCase("", "-cpu option cannot be empty")]
    [TestCase("max,foo=on", "can't apply global max-x86_64-cpu.foo=on: Property 'max-x86_64-cpu.foo' not found")]
    [TestCase("max,+foo", "Property 'max-x86_64-cpu.foo' not found")]
    [TestCase("max,family=xx", "can't apply global max-x86_64-cpu.family=xx: Parameter 'family' expects int64")]
    [TestCase("max,family=300", "can't apply global max-x86_64-cpu.family=300: Property .family doesn't take value 300 (minimum: 0, maximum: 270)")]
    [TestCase("max,vendor=abc", "can't apply global max-x86_64-cpu.vendor=abc: Property '.vendor' doesn't take value 'abc'")]
    [TestCase("qemu64,sse2=maybe", "can't apply global qemu64-x86_64-cpu.sse2=maybe: Parameter 'sse2' expects 'on' or 'off'")]
    public void ErrorsAreQemus(string text, string message)
    {
        QapiException? error = Assert.Throws<QapiException>(() => CpuSpec.Parse(text).Create(Registry()));
        Assert.That(error!.Message, Is.EqualTo(message));
    }

    [Test]
    public void AllModelsOfTheTableCanBeMade()
    {
        QomTypeRegistry registry = Registry();
        int count = 0;
        CpuModelTable.ForEach((name, versioned) =>
        {
            count++;
            X86Cpu cpu = CpuTypes.Create(registry, name);
            Assert.That(cpu.GetCpuid(), Is.Not.Empty);
            Assert.That(versioned is null || CpuModelTable.Find(versioned) is not null);
        });
        Assert.That(count, Is.EqualTo(129));
    }

    [TestCase(1, 1, 1, 0, 0u)]
    [TestCase(1, 3, 1, 3, 4u)]
    [TestCase(1, 2, 2, 3, 3u)]
    [TestCase(2, 2, 2, 4, 4u)]
    [TestCase(1, 3, 2, 6, 8u)]
    public void ApicIds(int dies, int cores, int threads, int index, uint expected) =>
        Assert.That(new CpuTopology(4, dies, cores, threads).ApicId(index), Is.EqualTo(expected));

    private static QomTypeRegistry Registry()
    {
        var entries = new List<KvmCpuidEntry2>();
        foreach (string line in File.ReadAllLines(Path.Combine(s_data, "host.txt")))
        {
            uint[] f = Array.ConvertAll(line.Split(' '), x => uint.Parse(x, NumberStyles.HexNumber, CultureInfo.InvariantCulture));
            entries.Add(new KvmCpuidEntry2 { function = f[0], index = f[1], flags = f[2], eax = f[3], ebx = f[4], ecx = f[5], edx = f[6] });
        }

        CpuHost host = s_host = new CpuHost(entries.ToArray(), new Dictionary<uint, ulong> { [0x10a] = 0x69 }, "AMD EPYC", 48);
        var registry = new QomTypeRegistry();
        registry.AddCatalog(r => CpuTypes.Register(r, host));
        return registry;
    }

    private static List<string> Lines(X86Cpu cpu)
    {
        var lines = new List<string>();
        foreach (CpuidLeaf l in cpu.GetCpuid())
        {
            lines.Add($"{l.Function:x8} {l.Index:x} {(l.IndexSignificant ? 1 : 0)} {l.Eax:x8} {l.Ebx:x8} {l.Ecx:x8} {l.Edx:x8}");
        }

        return lines;
    }
}
