using System.Buffers.Binary;
using Vmm.Machines.Loading;

namespace Vmm.Machines.Tests.Loading;

public sealed class LinuxBzImageTests
{
    private static readonly byte[] s_scratch = new byte[1 << 20];

    [Test]
    public void KernelGoesToOneMebibyteAndTheZeroPageDescribesTheMachine()
    {
        using var image = BootFixture.Load(BootFixture.Linux(), BootFixture.Request(commandLine: "console=ttyS0 quiet", rsdp: 0x9fc10));
        var ram = FlatRam.Load(image, BootFixture.Ram);
        var zeroPage = image.Entry.Rsi;
        Assert.Multiple(() =>
        {
            Assert.That(image.Protocol, Is.EqualTo(BootProtocol.Linux));
            Assert.That(image.Entry.Mode, Is.EqualTo(CpuEntryMode.Protected32));
            Assert.That(image.Entry.Rip, Is.EqualTo(0x100000));
            Assert.That(ram.Bytes.AsSpan(0x100000, 4096).IndexOfAnyExcept((byte)0x90), Is.EqualTo(-1));
            Assert.That(ram.U32(zeroPage + 0x202), Is.EqualTo(0x53726448));
            Assert.That(ram.Bytes[zeroPage + 0x210], Is.EqualTo(0xb0));
            Assert.That(ram.U32(zeroPage + 0x214), Is.EqualTo(0x100000));
            Assert.That(ram.Text(ram.U32(zeroPage + 0x228)), Is.EqualTo("console=ttyS0 quiet"));
            Assert.That(ram.U64(zeroPage + 0x70), Is.EqualTo(0x9fc10));
            Assert.That(ram.U32(zeroPage + 0x1e0), Is.EqualTo(63 * 1024));
            Assert.That(ram.Bytes[zeroPage + 0x1ef], Is.Zero, "the kernel's sentinel for a loader that left garbage");
        });
    }

    [Test]
    public void MemoryMapIsTheLayouts()
    {
        var request = BootFixture.Request();
        using var image = BootFixture.Load(BootFixture.Linux(), request);
        var ram = FlatRam.Load(image, BootFixture.Ram);
        var zeroPage = image.Entry.Rsi;
        Assert.That(ram.Bytes[zeroPage + 0x1e8], Is.EqualTo(request.Ram.E820.Count));
        for (var i = 0; i < request.Ram.E820.Count; i++)
        {
            var at = zeroPage + 0x2d0 + (ulong)i * 20;
            var entry = new E820Entry(ram.U64(at), ram.U64(at + 8), (E820Type)ram.U32(at + 16));
            Assert.That(entry, Is.EqualTo(request.Ram.E820[i]));
        }
    }

    [Test]
    public void SixtyFourBitKernelStartsInLongModeWithTheFirstFourGiBMapped()
    {
        using var image = BootFixture.Load(BootFixture.Linux(xloadFlags: 1));
        var ram = FlatRam.Load(image, BootFixture.Ram);
        Assert.Multiple(() =>
        {
            Assert.That(image.Entry.Mode, Is.EqualTo(CpuEntryMode.Long64));
            Assert.That(image.Entry.Rip, Is.EqualTo(0x100200));
            Assert.That(image.Entry.Efer, Is.EqualTo(0x500));
            foreach (var address in new[] { 0ul, 0x100200ul, 0x7fe00000ul, 0xffffffffUL })
            {
                Assert.That(Walk(ram, image.Entry.Cr3, address), Is.EqualTo(address), $"0x{address:x}");
            }
        });
    }

    [Test]
    public void WithoutLongModeTheThirtyTwoBitEntryIsUsed()
    {
        using var image = BootFixture.Load(BootFixture.Linux(xloadFlags: 1), BootFixture.Request(longMode: false));
        Assert.That((image.Entry.Mode, image.Entry.Rip), Is.EqualTo((CpuEntryMode.Protected32, 0x100000ul)));
    }

    [TestCase(0x201, 1)]
    [TestCase(0x20f, 0)]
    public void KernelThatNeedsItsRealModeCodeIsRefused(int version, int loadFlags)
    {
        Assert.That(
            BootFixture.Failure(BootFixture.Linux((ushort)version, (byte)loadFlags)), Is.EqualTo("qemu: invalid kernel header"));
    }

    [Test]
    public void InitrdGoesAsHighAsItMay()
    {
        var path = BootFixture.TempFile(10000, "initrd!");
        using var image = BootFixture.Load(BootFixture.Linux(), BootFixture.Request(path, reserved: 0x28000));
        var ram = FlatRam.Load(image, BootFixture.Ram);
        var address = ram.U32(image.Entry.Rsi + 0x218);
        Assert.Multiple(() =>
        {
            Assert.That(address, Is.EqualTo((BootFixture.Ram - 0x28000u - 1 - 10000) & ~0xfffu));
            Assert.That(ram.U32(image.Entry.Rsi + 0x21c), Is.EqualTo(10000));
            Assert.That(ram.Text(address), Is.EqualTo("initrd!"));
        });
    }

    [Test]
    public void InitrdStaysBelowTheKernelsLimit()
    {
        var path = BootFixture.TempFile(8192);
        using var image = BootFixture.Load(BootFixture.Linux(initrdMax: 0x1ffffff), BootFixture.Request(path));
        var ram = FlatRam.Load(image, BootFixture.Ram);
        Assert.That(ram.U32(image.Entry.Rsi + 0x218), Is.EqualTo(0x1ffd000));
    }

    [Test]
    public void InitrdDoesNotCoverTheKernel()
    {
        var path = BootFixture.TempFile(0x3f00000);
        Assert.That(
            BootFixture.Failure(BootFixture.Linux(), BootFixture.Request(path)),
            Is.EqualTo($"qemu: initrd is too large, cannot support.(max: {BootFixture.Ram - 1 - 0x101000}, need {0x3f00000})"));
    }

    [Test]
    public void AnEmptyInitrdIsNoError()
    {
        using var image = BootFixture.Load(BootFixture.Linux(), BootFixture.Request(BootFixture.TempFile(0)));
        Assert.That(FlatRam.Load(image, BootFixture.Ram).U32(image.Entry.Rsi + 0x21c), Is.Zero);
    }

    [Test]
    public void MessagesAreQemus()
    {
        var big = BootFixture.TempFile(BootFixture.Ram);
        var small = BootFixture.TempFile(1);
        Assert.Multiple(() =>
        {
            Assert.That(
                BootFixture.Failure(BootFixture.Linux(), BootFixture.Request("/nonexistent")),
                Is.EqualTo("qemu: error reading initrd /nonexistent: Failed to open file “/nonexistent”: open() failed: No such file or directory"));
            Assert.That(
                BootFixture.Failure(BootFixture.Linux(), BootFixture.Request(big, reserved: 0x28000)),
                Is.EqualTo($"qemu: initrd is too large, cannot support.(max: {BootFixture.Ram - 0x28000 - 1}, need {BootFixture.Ram})"));
            Assert.That(
                BootFixture.Failure(BootFixture.Linux(version: 0x1ff), BootFixture.Request(small)),
                Is.EqualTo("qemu: linux kernel too old to load a ram disk"));
            Assert.That(BootFixture.Failure(BootFixture.Linux()[..0x900]), Is.EqualTo("qemu: invalid kernel header"));
            Assert.That(BootFixture.Failure(new byte[100]), Is.EqualTo("qemu: invalid kernel header"));
            Assert.That(BootFixture.Failure([]), Is.EqualTo("qemu: could not load kernel 'kernel': Success"));
            Assert.That(
                BootFixture.Failure(BootFixture.Linux(), BootFixture.Request(commandLine: "vga=foo")),
                Is.EqualTo("qemu: invalid 'vga=' kernel parameter."));
        });
    }

    [Test]
    public void FileErrorsNameTheFile()
    {
        var missing = Assert.Throws<BootLoadException>(() => KernelLoader.Load(RequestFor("/nonexistent")))!;
        var directory = Assert.Throws<BootLoadException>(() => KernelLoader.Load(RequestFor("/tmp")))!;
        Assert.Multiple(() =>
        {
            Assert.That(missing.Message, Is.EqualTo("qemu: could not open kernel file '/nonexistent': No such file or directory"));
            Assert.That(directory.Message, Is.EqualTo("qemu: could not load kernel '/tmp': Is a directory"));
            Assert.That(missing.IsComplete && directory.IsComplete);
        });
        static KernelRequest RequestFor(string path) => new() { KernelPath = path, Ram = RamLayout.ForPc(BootFixture.Ram) };
    }

    [TestCase("vga=normal", 0xffff)]
    [TestCase("a vga=ext b", 0xfffe)]
    [TestCase("vga=ask", 0xfffd)]
    [TestCase("vga=0x317 quiet", 0x317)]
    [TestCase("vga=791", 791)]
    public void VideoModeIsPassedOn(string commandLine, int mode)
    {
        using var image = BootFixture.Load(BootFixture.Linux(), BootFixture.Request(commandLine: commandLine));
        var ram = FlatRam.Load(image, BootFixture.Ram);
        Assert.That(BinaryPrimitives.ReadUInt16LittleEndian(ram.Bytes.AsSpan((int)image.Entry.Rsi + 0x1fa)), Is.EqualTo(mode));
    }

    [Test]
    public void RealKernelIsRecognised()
    {
        var path = Shared.File("guests/linux-6.1-tiny.bzImage");
        using var image = KernelLoader.Load(new KernelRequest { KernelPath = path, Ram = RamLayout.ForPc(128 << 20), CommandLine = "x" });
        var ram = FlatRam.Load(image, 128 << 20);
        var file = File.ReadAllBytes(path);
        var setup = (file[0x1f1] + 1) * 512;
        Assert.Multiple(() =>
        {
            Assert.That(image.Entry.Mode, Is.EqualTo(CpuEntryMode.Long64));
            Assert.That(ram.Bytes.AsSpan(0x100000, file.Length - setup).SequenceEqual(file.AsSpan(setup)));
        });
    }

    [FsCheck.NUnit.Property(MaxTest = 2000)]
    public bool AnyHeaderIsParsedOrRefused(int seed)
    {
        var random = new Random(seed);
        var kernel = BootFixture.Linux(payload: 64);
        for (var i = 0; i < 20; i++)
        {
            kernel[random.Next(0x1f0, 0x270)] = (byte)random.Next(256);
        }

        return Survives(kernel[..random.Next(kernel.Length)]) && Survives(kernel);
    }

    /// <summary>Loads the kernel into RAM that keeps nothing; only the documented error may come out.</summary>
    internal static bool Survives(byte[] kernel)
    {
        try
        {
            using var image = BootFixture.Load(kernel);
            image.LoadInto((_, length) => s_scratch.AsSpan(0, Math.Min(length, s_scratch.Length)), ramIsZero: true);
            foreach (var segment in image.Segments)
            {
                if (segment.Length == 0 || segment.End > BootFixture.Ram)
                {
                    return false;
                }
            }
        }
        catch (BootLoadException)
        {
            // The documented error.
        }

        return true;
    }

    private static ulong Walk(FlatRam ram, ulong cr3, ulong address)
    {
        var table = cr3;
        for (var shift = 39; shift > 21; shift -= 9)
        {
            table = ram.U64(table + (address >> shift & 511) * 8) & ~0xfffUL;
        }

        var entry = ram.U64(table + (address >> 21 & 511) * 8);
        return (entry & 0x80) != 0 ? (entry & ~0x1fffffUL) + (address & 0x1fffff) : ulong.MaxValue;
    }
}
