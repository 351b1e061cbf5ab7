using Vmm.Machines.Acpi;

namespace Vmm.Machines.Tests.Acpi;

public sealed class AmlWriterTests
{
    [TestCase(10, new byte[] { 0x0b })]
    [TestCase(62, new byte[] { 0x3f })]
    [TestCase(63, new byte[] { 0x41, 0x04 })]
    [TestCase(4093, new byte[] { 0x4f, 0xff })]
    [TestCase(4094, new byte[] { 0x81, 0x00, 0x01 })]
    public void PackageLengthCountsItself(int body, byte[] expected)
    {
        var aml = new AmlWriter();
        var mark = aml.Begin(0x11);
        aml.Raw(new byte[body]).End(mark);
        Assert.Multiple(() =>
        {
            Assert.That(aml.Written[1..(1 + expected.Length)].ToArray(), Is.EqualTo(expected));
            Assert.That(aml.Length, Is.EqualTo(1 + expected.Length + body));
        });
    }

    [TestCase("_STA", "5F535441")]
    [TestCase("\\", "5C00")]
    [TestCase("ISA", "4953415F")]
    [TestCase("\\_SB.PCI0", "5C2E5F53425F50434930")]
    [TestCase("A.B.C", "2F03415F5F5F425F5F5F435F5F5F")]
    public void PathsAreEncoded(string path, string expected)
    {
        Assert.That(Convert.ToHexString(new AmlWriter().Path(path).Written), Is.EqualTo(expected));
    }

    [TestCase(0ul, "00")]
    [TestCase(1ul, "01")]
    [TestCase(255ul, "0AFF")]
    [TestCase(256ul, "0B0001")]
    [TestCase(0x12345678ul, "0C78563412")]
    [TestCase(0x100000000ul, "0E0000000001000000")]
    public void IntegersTakeTheShortestForm(ulong value, string expected)
    {
        Assert.That(Convert.ToHexString(new AmlWriter().Integer(value).Written), Is.EqualTo(expected));
    }

    [Test]
    public void EisaIdentifierIsCompressed()
    {
        Assert.That(Convert.ToHexString(new AmlWriter().EisaId("PNP0A03").Written), Is.EqualTo("0C41D00A03"));
    }
}
