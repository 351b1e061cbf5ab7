using Vmm.Firmware;
using Vmm.Machines.Firmware;

namespace Vmm.Machines.Tests.Firmware;

public sealed class BootRomTests
{
    [Test]
    public void EmbeddedRomIsWhatTheGeneratorEmits()
    {
        var embedded = new byte[BootRom.Size];
        BootRom.CopyTo(embedded);
        Assert.That(
            embedded.AsSpan().SequenceEqual(BootRomBuilder.Build()), "run: dotnet run --project tools/Vmm.Firmware firmware/vmm-bootrom.bin");
    }

    [Test]
    public void ResetVectorJumpsBackIntoTheRom()
    {
        var rom = BootRomBuilder.Build();
        var distance = (short)(rom[0xfff1] | rom[0xfff2] << 8);
        Assert.Multiple(() =>
        {
            Assert.That(rom[0xfff0], Is.EqualTo(0xe9));
            Assert.That(rom[0xfff3 + distance], Is.EqualTo(0xfa), "interrupts off first");
        });
    }

    [Test]
    public void AWrongSizeIsRefused()
    {
        Assert.Throws<ArgumentException>(() => BootRom.CopyTo(new byte[BootRom.Size - 1]));
    }
}
