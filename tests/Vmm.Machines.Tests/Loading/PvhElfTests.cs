using System.Buffers.Binary;
using Vmm.Machines.Loading;
using Vmm.TestKit.Guests;

namespace Vmm.Machines.Tests.Loading;

public sealed class PvhElfTests
{
    [Test]
    public void StartInformationDescribesTheMachine()
    {
        var initrd = BootFixture.TempFile(5000, "module");
        var request = BootFixture.Request(initrd, "a=b", rsdp: 0x9fc10);
        using var image = BootFixture.Load(TestGuests.PvhHello(), request);
        var ram = FlatRam.Load(image, BootFixture.Ram);
        var info = image.Entry.Rbx;
        Assert.Multiple(() =>
        {
            Assert.That(image.Protocol, Is.EqualTo(BootProtocol.Pvh));
            Assert.That((image.Entry.Mode, image.Entry.Rip), Is.EqualTo((CpuEntryMode.Protected32, (ulong)GuestImage.Entry)));
            Assert.That(ram.U32(info), Is.EqualTo(0x336ec578));
            Assert.That(ram.U32(info + 4), Is.EqualTo(1));
            Assert.That(ram.U32(info + 12), Is.EqualTo(1));
            Assert.That(ram.Text(ram.U64(ram.U64(info + 16))), Is.EqualTo("module"));
            Assert.That(ram.U64(ram.U64(info + 16) + 8), Is.EqualTo(5000));
            Assert.That(ram.Text(ram.U64(info + 24)), Is.EqualTo("a=b"));
            Assert.That(ram.U64(info + 32), Is.EqualTo(0x9fc10));
            Assert.That(ram.U32(info + 48), Is.EqualTo(request.Ram.E820.Count));
            for (var i = 0; i < request.Ram.E820.Count; i++)
            {
                var at = ram.U64(info + 40) + (ulong)i * 24;
                Assert.That(new E820Entry(ram.U64(at), ram.U64(at + 8), (E820Type)ram.U32(at + 16)), Is.EqualTo(request.Ram.E820[i]));
            }
        });
    }

    [Test]
    public void WithoutInitrdThereIsNoModule()
    {
        using var image = BootFixture.Load(TestGuests.PvhHello());
        var ram = FlatRam.Load(image, BootFixture.Ram);
        Assert.That((ram.U32(image.Entry.Rbx + 12), ram.U64(image.Entry.Rbx + 16)), Is.EqualTo((0u, 0ul)));
    }

    [Test]
    public void ReloadingRestoresWhatTheGuestOverwrote()
    {
        using var image = BootFixture.Load(TestGuests.PvhHello());
        var first = FlatRam.Load(image, BootFixture.Ram);
        var again = new FlatRam(BootFixture.Ram);
        again.Bytes.AsSpan().Fill(0xcc);
        image.LoadInto(again.Map, ramIsZero: false);
        foreach (var s in image.Segments)
        {
            Assert.That(again.Bytes.AsSpan((int)s.Gpa, (int)s.Length).SequenceEqual(first.Bytes.AsSpan((int)s.Gpa, (int)s.Length)), $"0x{s.Gpa:x}");
        }
    }

    [Test]
    public void DescriptorTableMatchesTheHiddenParts()
    {
        using var image = BootFixture.Load(TestGuests.PvhHello());
        var ram = FlatRam.Load(image, BootFixture.Ram);
        var e = image.Entry;
        Assert.Multiple(() =>
        {
            Assert.That(ram.U64(e.GdtBase + e.Cs.Selector), Is.EqualTo(0x00cf9b000000ffff));
            Assert.That(ram.U64(e.GdtBase + e.Data.Selector), Is.EqualTo(0x00cf93000000ffff));
            Assert.That(ram.U64(e.GdtBase + e.Tr.Selector), Is.EqualTo(0x00008b0000000067));
            Assert.That(e.GdtLimit, Is.EqualTo(0x2f));
        });
    }

    [Test]
    public void AnElfFileThatIsNotAKernelIsRefusedWithQemusWords()
    {
        var noNote = new GuestImage().Code(32, GuestImage.Entry, c => c.hlt()).ToPvhElf(note: false);
        var truncated = TestGuests.PvhHello()[..0x1010];
        var arm = TestGuests.PvhHello();
        arm[18] = 40;
        var high = TestGuests.PvhHello();
        BinaryPrimitives.WriteUInt32LittleEndian(high.AsSpan(52 + 12), 0xf0000000);
        Assert.Multiple(() =>
        {
            Assert.That(
                BootFixture.Failure(noNote), Is.EqualTo("qemu-system-x86_64: Error loading uncompressed kernel without PVH ELF Note"));
            Assert.That(BootFixture.Failure(truncated), Is.EqualTo("qemu-system-x86_64: Error while loading elf kernel"));
            Assert.That(BootFixture.Failure(arm), Is.EqualTo("qemu-system-x86_64: Error while loading elf kernel"));
            Assert.That(BootFixture.Failure(high), Is.EqualTo("qemu-system-x86_64: kernel does not fit in address space"));
        });
    }

    [Test]
    public void BootStructuresAvoidAKernelInLowMemory()
    {
        var low = TestGuests.PvhHello();
        BinaryPrimitives.WriteUInt32LittleEndian(low.AsSpan(52 + 12), (uint)LowMemory.StructuresBase);
        using var image = BootFixture.Load(low);
        var kernel = image.Segments.Single(s => s.Gpa == LowMemory.StructuresBase);
        Assert.That(image.Segments.Count(s => s.Overlaps(kernel.Gpa, GuestImage.End - GuestImage.Base)), Is.EqualTo(2), "contents and cleared tail only");
    }

    [Test]
    public void NoteOfAnotherOwnerIsNotTheEntry()
    {
        byte[] notes =
        [
            4, 0, 0, 0, 1, 0, 0, 0, 18, 0, 0, 0, (byte)'G', (byte)'N', (byte)'U', 0, 9, 0, 0, 0,
            4, 0, 0, 0, 8, 0, 0, 0, 18, 0, 0, 0, (byte)'X', (byte)'e', (byte)'n', 0, 0, 6, 0, 1, 0, 0, 0, 0,
        ];
        Assert.Multiple(() =>
        {
            Assert.That(ElfImage.FindPvhEntry(notes), Is.EqualTo(0x1000600));
            Assert.That(ElfImage.FindPvhEntry(notes.AsSpan(0, 20)), Is.Null);
        });
    }

    [FsCheck.NUnit.Property(MaxTest = 2000)]
    public bool AnyNoteBytesAreSurvived(byte[] notes)
    {
        ElfImage.FindPvhEntry(notes);
        return true;
    }

    [FsCheck.NUnit.Property(MaxTest = 2000)]
    public bool AnyElfIsParsedOrRefused(int seed)
    {
        var random = new Random(seed);
        var elf = TestGuests.PvhHello();
        for (var i = 0; i < 4; i++)
        {
            elf[random.Next(4, 0x90)] = (byte)random.Next(256);
        }

        return LinuxBzImageTests.Survives(elf[..random.Next(elf.Length)]) && LinuxBzImageTests.Survives(elf);
    }
}
