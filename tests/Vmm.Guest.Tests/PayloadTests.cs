using Vmm.TestKit.Guests;

namespace Vmm.Guest.Tests;

/// <summary>Small guests run to their end: entry protocols, processors, memory.</summary>
public sealed class PayloadTests
{
    private static IEnumerable<TestCaseData> Payloads()
    {
        foreach (string machine in (string[])["microvm", "pc"])
        {
            yield return new TestCaseData(machine, TestGuests.PvhHello()).SetArgDisplayNames(machine, "pvh");
            yield return new TestCaseData(machine, TestGuests.MultibootHello()).SetArgDisplayNames(machine, "multiboot");
            yield return new TestCaseData(machine, TestGuests.MultibootElfHello()).SetArgDisplayNames(machine, "multiboot elf");
        }
    }

    [TestCaseSource(nameof(Payloads))]
    public void APayloadPrintsAndExits(string machine, byte[] kernel)
    {
        Assert.That(
            GuestRun.ToEnd(machine, kernel, "-m", "64"),
            Is.EqualTo((GuestRun.SuccessStatus, TestGuests.Hello, TestGuests.Hello)));
    }

    [Test]
    public void EveryProcessorStarts([Values("microvm", "pc")] string machine, [Values(1, 2, 4, 8)] int cpus)
    {
        (int status, string debug, _) = GuestRun.ToEnd(machine, TestGuests.SmpReport(cpus), "-m", "64", "-smp", $"{cpus}");
        string expected = "01234567"[..cpus] + "\n";
        Assert.That((status, string.Concat(debug.TrimEnd('\n').Order()) + "\n"), Is.EqualTo((GuestRun.SuccessStatus, expected)));
    }

    [TestCase("microvm", 64)]
    [TestCase("microvm", 3072)]
    [TestCase("microvm", 5120)]
    [TestCase("pc", 64)]
    [TestCase("pc", 3072)]
    [TestCase("pc", 5120)]
    public void TheGuestSeesAllItsMemory(string machine, int megabytes)
    {
        (int status, string debug, _) = GuestRun.ToEnd(machine, TestGuests.MemoryProbe(), "-m", $"{megabytes}");
        Assert.That(status, Is.EqualTo(GuestRun.SuccessStatus), debug);
        ulong hole = RamEndBelowHole(machine, (ulong)megabytes << 20);
        ulong low = 0;
        ulong high = 0;
        ulong highStart = 0;
        foreach (string line in debug.Split('\n', StringSplitOptions.RemoveEmptyEntries))
        {
            ulong[] n = [.. line.Split(' ').Select(t => Convert.ToUInt64(t, 16))];
            if (n[2] == 1 && n[0] >= 0x100000000)
            {
                highStart = n[0];
                high += n[1];
            }
            else if (n[2] == 1)
            {
                low = Math.Max(low, n[0] + n[1]);
            }
        }

        // The tables of the loader may take a little from the top of low memory.
        ulong above = ((ulong)megabytes << 20) - hole;
        Assert.Multiple(() =>
        {
            Assert.That(low, Is.InRange(hole - 0x100000, hole));
            Assert.That((highStart, high), Is.EqualTo((above == 0 ? 0UL : 0x100000000UL, above)));
        });
    }

    /// <summary>Where RAM below 4 GiB ends on QEMU's machines: pc leaves 1 GiB when RAM does not fit, microvm 1 GiB too.</summary>
    private static ulong RamEndBelowHole(string machine, ulong ram)
    {
        ulong limit = machine == "pc" ? 0xe0000000UL : 0xc0000000UL;
        return ram < limit ? ram : 0xc0000000UL;
    }
}
