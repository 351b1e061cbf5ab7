using Vmm.Machines.Loading;

namespace Vmm.Machines.Tests.Loading;

public sealed class RamLayoutTests
{
    private const ulong MiB = 1 << 20;

    // Observed with QEMU 7.2's "info mtree" at these sizes.
    [TestCase(2048ul, 0x80000000ul, 0ul)]
    [TestCase(3300ul, 0xce400000ul, 0ul)]
    [TestCase(3583ul, 0xdff00000ul, 0ul)]
    [TestCase(3584ul, 0xc0000000ul, 0x20000000ul)]
    [TestCase(4096ul, 0xc0000000ul, 0x40000000ul)]
    [TestCase(6144ul, 0xc0000000ul, 0xc0000000ul)]
    public void PcSplitsLikeTheOriginal(ulong mebibytes, ulong below, ulong above)
    {
        var layout = RamLayout.ForPc(mebibytes * MiB);
        Assert.That((layout.BelowFourGiB, layout.AboveFourGiB), Is.EqualTo((below, above)));
    }

    [TestCase(3072ul, 0xc0000000ul, 0ul)]
    [TestCase(3300ul, 0xc0000000ul, 0xe400000ul)]
    [TestCase(6144ul, 0xc0000000ul, 0xc0000000ul)]
    public void MicrovmSplitsAtThreeGiB(ulong mebibytes, ulong below, ulong above)
    {
        var layout = RamLayout.ForMicrovm(mebibytes * MiB);
        Assert.That((layout.BelowFourGiB, layout.AboveFourGiB), Is.EqualTo((below, above)));
    }

    [FsCheck.NUnit.Property]
    public bool MapIsAscendingDisjointAndCountsTheRam(uint pages)
    {
        var size = (pages % (1u << 21) + 512) * 4096UL;
        var layout = RamLayout.ForPc(size);
        ulong end = 0;
        ulong ram = 0;
        foreach (var e in layout.E820)
        {
            if (e.Address < end || e.Length == 0)
            {
                return false;
            }

            end = e.Address + e.Length;
            ram += e.Type == E820Type.Ram ? e.Length : 0;
        }

        // What is not offered: ACPI tables, extended BIOS area and the legacy hole below 1 MiB.
        return ram == size - (0x100000 - LowMemory.AcpiBase);
    }

    [Test]
    public void TheHoleIsNotRam()
    {
        var layout = RamLayout.ForPc(5UL << 30);
        Assert.Multiple(() =>
        {
            Assert.That(layout.IsRam(0xbffff000, 0x1000), Is.True);
            Assert.That(layout.IsRam(0xbffff000, 0x1001), Is.False);
            Assert.That(layout.IsRam(0x100000000, 0x80000000), Is.True);
            Assert.That(layout.IsRam(0x17fffffff, 2), Is.False);
            Assert.That(layout.IsRam(ulong.MaxValue, 2), Is.False);
        });
    }
}
