using System.Diagnostics;
using System.Text;
using Vmm.Machines.Acpi;
using Vmm.Machines.Loading;

namespace Vmm.Machines.Tests.Acpi;

public sealed class AcpiTablesTests
{
    private static readonly AcpiConfig s_pc = new()
    {
        ApicIds = [0, 1, 2, 3],
        Pm = new AcpiPmBlock { Gpe0 = 0xafe0, ResetPort = 0xcf9, SuspendToRamType = 1, SuspendToDiskType = 2 },
        Pci = new AcpiPciHost { WindowStart = 0x8000000, Window64Start = 0x100000000, Window64End = 0x17fffffff },
        Serials = [new(1, 0x3f8, 4), new(2, 0x2f8, 3)],
        Keyboard = true,
        Rtc = true,
        PvpanicPort = 0x505,
        FwCfgPort = 0x510,
    };

    private static readonly AcpiConfig s_plainPc = new() { ApicIds = [0], Pm = new AcpiPmBlock(), Serials = [new(1, 0x3f8, 4)] };

    private static readonly AcpiConfig s_microvm = new()
    {
        ApicIds = [0, 300],
        Ged = new AcpiGedBlock(),
        IoApics = [new(0, 0xfec00000, 0), new(1, 0xfec10000, 24)],
        Serials = [new(1, 0x3f8, 4)],
        VirtioMmio = [new(0xfeb00000, 0x200, 24), new(0xfeb00200, 0x200, 25)],
        Pit = false,
        FwCfgPort = 0x510,
    };

    private static IEnumerable<TestCaseData> Configs()
    {
        yield return new TestCaseData(s_pc).SetArgDisplayNames("pc");
        yield return new TestCaseData(s_plainPc).SetArgDisplayNames("pc without chipset");
        yield return new TestCaseData(s_microvm).SetArgDisplayNames("microvm");
    }

    [TestCaseSource(nameof(Configs))]
    public void EveryTableIsReachableFromTheRsdpWithAGoodChecksum(AcpiConfig config)
    {
        var ram = Place(config, out var rsdp);
        Assert.That(Sum(ram, rsdp, 20), Is.Zero);
        Assert.That(Sum(ram, rsdp, 36), Is.Zero);
        var tables = Tables(ram, rsdp);
        Assert.That(tables.Keys, Is.EquivalentTo(new[] { "RSDT", "XSDT", "FACP", "DSDT", "APIC", "WAET" }));
        Assert.Multiple(() =>
        {
            foreach (var (name, (at, length)) in tables)
            {
                Assert.That(Sum(ram, at, length), Is.Zero, name);
            }
        });
    }

    [Test]
    public void RsdpIsFoundByTheScanOfTheExtendedBiosArea()
    {
        var ram = Place(s_plainPc, out var rsdp);
        Assert.That(Encoding.ASCII.GetString(ram.Bytes.AsSpan((int)rsdp, 8)), Is.EqualTo("RSD PTR "));
        Assert.That(rsdp % 16, Is.Zero);
        Assert.That(rsdp - LowMemory.EbdaBase, Is.LessThan(1024));
    }

    [Test]
    public void FixedHardwareIsWhereThePmBlockSays()
    {
        var ram = Place(s_pc, out var rsdp);
        var fadt = Tables(ram, rsdp)["FACP"].At;
        Assert.Multiple(() =>
        {
            Assert.That(ram.U32(fadt + 56), Is.EqualTo(0x600));
            Assert.That(ram.U32(fadt + 64), Is.EqualTo(0x604));
            Assert.That(ram.U32(fadt + 76), Is.EqualTo(0x608));
            Assert.That(ram.U32(fadt + 48), Is.Zero, "ACPI mode is always on");
            Assert.That(ram.U32(fadt + 112) & 0x10, Is.Zero, "power button in fixed hardware");
            Assert.That(ram.U64(fadt + 120), Is.EqualTo(0xcf9));
            Assert.That(ram.U32(fadt + 36) % 64, Is.Zero, "FACS alignment");
        });
    }

    [Test]
    public void AProcessorIdentifierAbove254GetsAnX2ApicEntry()
    {
        var ram = Place(s_microvm, out var rsdp);
        var (at, _) = Tables(ram, rsdp)["APIC"];
        Assert.Multiple(() =>
        {
            Assert.That(ram.Bytes[at + 44], Is.Zero);
            Assert.That(ram.Bytes[at + 52], Is.EqualTo(9));
            Assert.That(ram.U32(at + 56), Is.EqualTo(300));
        });
    }

    [Test]
    public void LargestMachineFits()
    {
        var config = new AcpiConfig { ApicIds = [.. Enumerable.Range(0, 255).Select(i => (uint)i)], Pm = new AcpiPmBlock(), Pci = s_pc.Pci };
        Assert.That(AcpiTables.Build(config).Segments[0].End, Is.LessThan(LowMemory.EbdaBase));
    }

    [Test]
    public void PowerManagementMustBeDescribedOnce()
    {
        Assert.Throws<ArgumentException>(() => AcpiTables.Build(new AcpiConfig { ApicIds = [0] }));
        Assert.Throws<ArgumentException>(() => AcpiTables.Build(new AcpiConfig { ApicIds = [0], Pm = new(), Ged = new() }));
    }

    [Test]
    public void CompilerReadsBackWhatWasWritten()
    {
        var pc = Disassemble(s_pc, "DSDT");
        var microvm = Disassemble(s_microvm, "DSDT");
        Assert.Multiple(() =>
        {
            Assert.That(pc, Does.Contain("Device (PCI0)").And.Contain("EisaId (\"PNP0A03\")").And.Contain("Name (\\_S5, Package (0x04)"));
            Assert.That(pc, Does.Contain("Name (\\_S3, Package (0x04)").And.Contain("Name (\\_S4, Package (0x04)"));
            Assert.That(microvm, Does.Contain("Name (\\_S5, Package (0x04)").And.Not.Contain("_S3").And.Not.Contain("_S4"));
            Assert.That(pc, Does.Contain("QEMU0001").And.Contain("EisaId (\"PNP0501\")").And.Contain("Method (_SRS, 1"));
            Assert.That(pc, Does.Contain("0x0CF8,             // Range Minimum"));
            Assert.That(microvm, Does.Contain("ACPI0013").And.Contain("0xFEA00000").And.Contain("Notify (PWRB, 0x80)"));
            Assert.That(microvm, Does.Contain("LNRO0005").And.Contain("0xFEB00200"));
            Assert.That(Disassemble(s_pc, "FACP"), Does.Contain("Reset Register Supported (V2) : 1"));
            Assert.That(Disassemble(s_microvm, "FACP"), Does.Contain("Hardware Reduced (V5) : 1"));
            Assert.That(Disassemble(s_microvm, "APIC"), Does.Contain("Processor Local x2APIC"));
        });
    }

    [TestCaseSource(nameof(Configs))]
    public void CompilerAcceptsTheDisassemblyWithoutErrors(AcpiConfig config)
    {
        var source = Disassemble(config, "DSDT");
        var path = Path.Combine(TestContext.CurrentContext.WorkDirectory, Path.GetRandomFileName().Replace('.', '_') + ".dsl");
        File.WriteAllText(path, source);
        Assert.That(Iasl("-p", path[..^4], path), Does.Contain("0 Errors, 0 Warnings, 0 Remarks"));
    }

    private static string Disassemble(AcpiConfig config, string table)
    {
        var ram = Place(config, out var rsdp);
        var (at, length) = Tables(ram, rsdp)[table];
        var path = Path.Combine(TestContext.CurrentContext.WorkDirectory, Path.GetRandomFileName().Replace('.', '_'));
        File.WriteAllBytes(path + ".aml", ram.Bytes.AsSpan((int)at, length).ToArray());
        var output = Iasl("-p", path, "-d", path + ".aml");
        Assert.That(output, Does.Not.Contain("Error").And.Not.Contain("Incorrect checksum").And.Not.Contain("Warning"), output);
        return File.ReadAllText(path + ".dsl");
    }

    private static string Iasl(params string[] arguments)
    {
        try
        {
            using var process = Process.Start(
                new ProcessStartInfo("iasl", arguments) { RedirectStandardOutput = true, RedirectStandardError = true })!;
            var error = process.StandardError.ReadToEndAsync();
            var text = process.StandardOutput.ReadToEnd();
            process.WaitForExit();
            return text + error.Result;
        }
        catch (System.ComponentModel.Win32Exception)
        {
            Assert.Ignore("needs iasl (Debian package acpica-tools)");
            throw;
        }
    }

    private static FlatRam Place(AcpiConfig config, out ulong rsdp)
    {
        var tables = AcpiTables.Build(config);
        rsdp = tables.RsdpAddress;
        var ram = new FlatRam(1 << 20);
        foreach (var segment in tables.Segments)
        {
            segment.WriteTo(ram.Map);
        }

        return ram;
    }

    private static Dictionary<string, (ulong At, int Length)> Tables(FlatRam ram, ulong rsdp)
    {
        var result = new Dictionary<string, (ulong, int)>();
        void Add(ulong at) => result[Encoding.ASCII.GetString(ram.Bytes.AsSpan((int)at, 4))] = (at, (int)ram.U32(at + 4));
        var rsdt = (ulong)ram.U32(rsdp + 16);
        var xsdt = ram.U64(rsdp + 24);
        Add(rsdt);
        Add(xsdt);
        for (var i = 0; i < ((int)ram.U32(rsdt + 4) - 36) / 4; i++)
        {
            var at = (ulong)ram.U32(rsdt + 36 + (ulong)i * 4);
            Assert.That(ram.U64(xsdt + 36 + (ulong)i * 8), Is.EqualTo(at));
            Add(at);
        }

        Add(ram.U32(result["FACP"].Item1 + 40));
        return result;
    }

    private static byte Sum(FlatRam ram, ulong at, int length)
    {
        byte sum = 0;
        foreach (var b in ram.Bytes.AsSpan((int)at, length))
        {
            sum += b;
        }

        return sum;
    }
}
