using System.Buffers.Binary;
using Vmm.Machines.Loading;
using Vmm.TestKit.Guests;

namespace Vmm.Machines.Tests.Loading;

public sealed class Multiboot1Tests
{
    [Test]
    public void InformationDescribesTheMachine()
    {
        var module = BootFixture.TempFile(5000, "first");
        var second = BootFixture.TempFile(3, "2nd");
        var request = BootFixture.Request($"{module} one two, {second}", "arguments");
        using var image = BootFixture.Load(TestGuests.MultibootHello(), request);
        var ram = FlatRam.Load(image, BootFixture.Ram);
        var info = image.Entry.Rbx;
        var modules = ram.U32(info + 24);
        Assert.Multiple(() =>
        {
            Assert.That(image.Protocol, Is.EqualTo(BootProtocol.Multiboot));
            Assert.That(image.Entry.Rax, Is.EqualTo(0x2badb002));
            Assert.That(image.Entry.Rip, Is.EqualTo(GuestImage.Entry));
            Assert.That(ram.U32(info), Is.EqualTo(0x24f));
            Assert.That(ram.U32(info + 4), Is.EqualTo(576));
            Assert.That(ram.U32(info + 8), Is.EqualTo(63 * 1024));
            Assert.That(ram.Text(ram.U32(info + 16)), Is.EqualTo("kernel arguments"));
            Assert.That(ram.Text(ram.U32(info + 64)), Is.EqualTo("qemu"));
            Assert.That(ram.U32(info + 20), Is.EqualTo(2));
            Assert.That(ram.Text(ram.U32(modules)), Is.EqualTo("first"));
            Assert.That(ram.U32(modules) & 0xfff, Is.Zero);
            Assert.That(ram.U32(modules + 4) - ram.U32(modules), Is.EqualTo(5000));
            Assert.That(ram.Text(ram.U32(modules + 8)), Is.EqualTo($"{module} one two"));
            Assert.That(ram.Text(ram.U32(modules + 16)), Is.EqualTo("2nd"));
            Assert.That(ram.Text(ram.U32(modules + 24)), Is.EqualTo(second));
            Assert.That(ram.U32(info + 44), Is.EqualTo(request.Ram.E820.Count * 24));
            var at = (ulong)ram.U32(info + 48);
            foreach (var e in request.Ram.E820)
            {
                Assert.That(ram.U32(at), Is.EqualTo(20));
                Assert.That(new E820Entry(ram.U64(at + 4), ram.U64(at + 12), (E820Type)ram.U32(at + 20)), Is.EqualTo(e));
                at += 24;
            }
        });
    }

    [Test]
    public void ModulesComeBehindTheKernelsClearedMemory()
    {
        var module = BootFixture.TempFile(1, "m");
        using var image = BootFixture.Load(BootFixture.Multiboot(bssEnd: 0x300001), BootFixture.Request(module));
        var ram = FlatRam.Load(image, BootFixture.Ram);
        Assert.That(ram.U32(ram.U32(image.Entry.Rbx + 24)), Is.EqualTo(0x301000));
    }

    [Test]
    public void ElfKernelIsPreferredToItsPvhNoteWhenItHasAHeader()
    {
        using var image = BootFixture.Load(TestGuests.MultibootElfHello());
        Assert.That(image.Protocol, Is.EqualTo(BootProtocol.Multiboot));
    }

    [Test]
    public void HeaderMustLieWithinTheFirstEightKilobytes()
    {
        var header = BootFixture.Multiboot().AsSpan(64, 32).ToArray();
        Assert.Multiple(() =>
        {
            Assert.That(Multiboot1.FindHeader([.. new byte[8160], .. header])!.Value.Offset, Is.EqualTo(8160));
            Assert.That(Multiboot1.FindHeader([.. new byte[8164], .. header]), Is.Null);
            Assert.That(Multiboot1.FindHeader([.. new byte[2], .. header]), Is.Null, "unaligned");
        });
    }

    [Test]
    public void WrongChecksumIsNoHeader()
    {
        var kernel = BootFixture.Multiboot();
        kernel[64 + 8]++;
        Assert.That(BootFixture.Failure(kernel), Is.EqualTo("qemu: invalid kernel header"));
    }

    [Test]
    public void WishForAVideoModeIsAnsweredWithAWarning()
    {
        using var image = BootFixture.Load(BootFixture.Multiboot(flags: 0x10007));
        Assert.That(image.Warnings, Is.EqualTo(new[] { "multiboot knows VBE. we don't" }));
    }

    [Test]
    public void AddressErrorsAreQemus()
    {
        Assert.Multiple(() =>
        {
            Expect(BootFixture.Multiboot(load: 0x200000), "invalid load_addr address");
            Expect(BootFixture.Multiboot(header: 0x900000), "invalid header_addr address");
            Expect(BootFixture.Multiboot(loadEnd: 0x1000), "invalid load_end_addr address");
            Expect(BootFixture.Multiboot(loadEnd: 0x800000), "fread() failed");
            Expect(BootFixture.Multiboot(loadEnd: 0x100060, bssEnd: 0x100010), "invalid bss_end_addr address");
            Expect(BootFixture.Multiboot(bssEnd: 0xfffffff0), "kernel does not fit in address space");
            Expect(BootFixture.Multiboot(flags: 3), "Error while loading elf kernel");
        });
    }

    [Test]
    public void SixtyFourBitElfIsRefused()
    {
        var elf = TestGuests.MultibootElfHello();
        elf[18] = 62;
        Expect(elf, "Cannot load x86-64 image, give a 32bit one.");
    }

    [Test]
    public void MissingModuleIsNamed()
    {
        Assert.That(
            BootFixture.Failure(BootFixture.Multiboot(), BootFixture.Request("/nonexistent argument")),
            Is.EqualTo("qemu-system-x86_64: Failed to open file '/nonexistent'"));
    }

    [TestCase("a b,c", new[] { "a b", "c" })]
    [TestCase("a,,b c", new[] { "a,b c" })]
    [TestCase("a,", new[] { "a" })]
    [TestCase("", new string[0])]
    public void ModuleListIsSplitAtSingleCommas(string list, string[] expected)
    {
        Assert.That(Multiboot1.SplitModules(list), Is.EqualTo(expected));
    }

    [FsCheck.NUnit.Property(MaxTest = 2000)]
    public bool AnyHeaderIsLoadedOrRefused(uint header, uint load, uint loadEnd, uint bssEnd, uint entry, bool near)
    {
        var mask = near ? 0x3ffffu : uint.MaxValue;
        var kernel = BootFixture.Multiboot(0x10003, header & mask, load & mask, loadEnd & mask, bssEnd & mask, entry);
        return LinuxBzImageTests.Survives(kernel);
    }

    private static void Expect(byte[] kernel, string message)
    {
        Assert.That(BootFixture.Failure(kernel), Is.EqualTo("qemu-system-x86_64: " + message));
    }
}
