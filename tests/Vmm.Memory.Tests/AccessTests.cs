using FsCheck;
using FsCheck.Fluent;
using Vmm.Interop;

namespace Vmm.Memory.Tests;

public sealed class AccessTests
{
    [Test]
    public void UnassignedMemoryReadsZeroAndUnassignedPortsReadOnes()
    {
        using var memory = new AddressSpace("memory", MemoryRegion.Container("system", UInt128.One << 64));
        using var ports = new AddressSpace("I/O", MemoryRegion.PortSpace());
        Assert.That(memory.ReadU32(0xe0000000), Is.Zero);
        Assert.That(memory.Read(0xe0000000, new byte[3]), Is.EqualTo(MemTxResult.DecodeError));
        Assert.That(ports.ReadU8(0x5555), Is.EqualTo(0xff));
        Assert.That(ports.ReadU32(0x5555), Is.EqualTo(uint.MaxValue));
        Assert.That(memory.Write(0, new byte[8]), Is.EqualTo(MemTxResult.DecodeError));
    }

    [Test]
    public void ConstraintsSplitAndReject()
    {
        var bytes = new Recorder(16);
        var dwords = new Recorder(16);
        var root = MemoryRegion.Container("root", 0x1000);
        root.AddSubregion(0, MemoryRegion.Io("bytes", 16, bytes, IoConstraints.Bytes));
        root.AddSubregion(0x100, MemoryRegion.Io("dwords", 16, dwords, new IoConstraints(4, 4, 4, 4)));
        using var space = new AddressSpace("s", root);
        space.WriteU32(3, 0x44332211);
        Assert.That(bytes.Calls, Is.EqualTo(new[]
        {
            (true, 3UL, 1, 0x11UL), (true, 4UL, 1, 0x22UL), (true, 5UL, 1, 0x33UL), (true, 6UL, 1, 0x44UL),
        }));
        Assert.That(space.ReadU16(4), Is.EqualTo(0x3322));
        space.WriteU64(0x100, 0x8877665544332211);
        Assert.That(dwords.Calls, Is.EqualTo(new[] { (true, 0UL, 4, 0x44332211UL), (true, 4UL, 4, 0x88776655UL) }));
        Assert.That(space.Write(0x108, new byte[2]), Is.EqualTo(MemTxResult.DecodeError));
        Assert.That(space.ReadU8(0x100), Is.Zero);
        Assert.That(dwords.Calls, Has.Count.EqualTo(2));
    }

    [Test]
    public void StartAddressAlonePicksTheRegisterBlock()
    {
        var index = new Recorder(16);
        var reset = new Recorder(1);
        var root = MemoryRegion.PortSpace();
        root.AddSubregion(0xcf8, MemoryRegion.Io("pci-conf-idx", 4, index, IoConstraints.Exact(4)));
        root.AddSubregion(0xcf9, MemoryRegion.Io("reset", 1, reset), 1);
        using var ports = new AddressSpace("I/O", root);
        ports.WriteU32(0xcf8, 0x80000b3c);
        ports.WriteU8(0xcf9, 6);
        Assert.That(index.Calls, Is.EqualTo(new[] { (true, 0UL, 4, 0x80000b3cUL) }));
        Assert.That(reset.Calls, Is.EqualTo(new[] { (true, 0UL, 1, 6UL) }));
    }

    [Test]
    public void RomDropsWritesAndRomDeviceSendsThemToTheHandler()
    {
        RamBlock rom = Ram.Make("rom", 0x1000);
        RamBlock flash = Ram.Make("flash", 0x1000);
        var commands = new Recorder(0x1000);
        var root = MemoryRegion.Container("root", 0x10000);
        root.AddSubregion(0, MemoryRegion.Rom("rom", rom));
        MemoryRegion device = MemoryRegion.RomDevice("flash", flash, commands, IoConstraints.Exact(8));
        root.AddSubregion(0x1000, device);
        using var space = new AddressSpace("s", root);
        Assert.That(space.WriteRom(0, [1, 2, 3, 4]), Is.EqualTo(MemTxResult.Ok));
        space.WriteU32(0, 0);
        Assert.That(space.ReadU32(0), Is.EqualTo(0x04030201));
        space.WriteRom(0x1000, [9]);
        space.WriteU8(0x1000, 0x40);
        Assert.That(space.ReadU8(0x1000), Is.EqualTo(9));
        Assert.That(commands.Calls, Is.EqualTo(new[] { (true, 0UL, 1, 0x40UL) }));
        device.RomdMode = false;
        Assert.That(space.ReadU8(0x1000), Is.EqualTo(0x40));
    }

    [Test]
    public void RandomAccessesAgreeWithBytes()
    {
        RamBlock a = Ram.Make("a", 0x1000);
        RamBlock b = Ram.Make("b", 0x1000);
        var io = new Recorder(0x1000);
        var root = MemoryRegion.Container("root", 0x10000);
        root.AddSubregion(0, MemoryRegion.Ram("a", a));
        // Aligned pieces, so that none crosses the end of the registers (such a piece is not cut there).
        root.AddSubregion(0x1000, MemoryRegion.Io("io", 0x1000, io, new IoConstraints(1, 8, 1, 4)));
        root.AddSubregion(0x2000, MemoryRegion.Ram("b", b));
        using var space = new AddressSpace("s", root);
        byte[] model = new byte[0x3000];
        Check.One(Config.QuickThrowOnFailure.WithMaxTest(500), Prop.ForAll(ArbMap.Default.ArbFor<int>(), seed =>
        {
            var random = new Random(seed);
            ulong near = (ulong)random.Next(3) * 0x1000;
            ulong address = Math.Min(0x3000 - 64, (ulong)Math.Max(0, (long)near + random.Next(-20, 20)));
            int size = random.Next(2) == 0 ? 1 << random.Next(4) : random.Next(1, 64);
            byte[] data = new byte[size];
            if (random.Next(2) == 0)
            {
                random.NextBytes(data);
                if (size is 1 or 2 or 4 or 8)
                {
                    ulong value = 0;
                    for (int i = size - 1; i >= 0; i--)
                    {
                        value = (value << 8) | data[i];
                    }

                    space.WriteValue(address, value, size);
                }
                else
                {
                    space.Write(address, data);
                }

                data.CopyTo(model, (int)address);
            }

            space.Read(address, data);
            Assert.That(data, Is.EqualTo(model[(int)address..((int)address + size)]));
            Assert.That(space.ReadU64(address), Is.EqualTo(BitConverter.ToUInt64(model, (int)address)));
            Assert.That(space.ReadU16(address + 1), Is.EqualTo(BitConverter.ToUInt16(model, (int)address + 1)));
        }));
    }

    [Test]
    public void HandlersRunUnderTheLockUnlessThreadSafe()
    {
        var ioLock = new CountingLock();
        var root = MemoryRegion.Container("root", 0x1000);
        root.AddSubregion(0, MemoryRegion.Io("locked", 8, new Recorder(8)));
        root.AddSubregion(0x100, MemoryRegion.Io("free", 8, new Recorder(8), threadSafe: true));
        using var space = new AddressSpace("s", root, ioLock);
        space.ReadU8(0x100);
        Assert.That(ioLock.Entered, Is.Zero);
        space.ReadU8(0);
        Assert.That((ioLock.Entered, ioLock.IsHeldByCurrentThread), Is.EqualTo((1, false)));
        ioLock.Enter();
        space.WriteU8(0, 1);
        Assert.That(ioLock.Entered, Is.EqualTo(2));
    }

    [Test]
    public void IoEventFdTakesMatchingWrites()
    {
        using EventFd fd = EventFd.Create();
        var io = new Recorder(16);
        var root = MemoryRegion.Container("root", 0x1000);
        MemoryRegion region = MemoryRegion.Io("io", 16, io);
        root.AddSubregion(0x100, region);
        using var space = new AddressSpace("s", root);
        region.AddIoEventFd(4, 2, 7, fd);
        Assert.That(space.IoEventFds.ToArray(), Is.EqualTo(new[] { new MappedIoEventFd(0x104, 2, 7, fd) }));
        space.WriteU16(0x104, 6);
        Assert.That(fd.Drain(), Is.Zero);
        space.WriteU16(0x104, 7);
        Assert.That(fd.Drain(), Is.EqualTo(1));
        Assert.That(io.Calls, Has.Count.EqualTo(1));
        region.RemoveIoEventFd(4, 2, 7, fd);
        space.WriteU16(0x104, 7);
        Assert.That((fd.Drain(), io.Calls.Count), Is.EqualTo((0UL, 2)));
    }

    [Test]
    public void AccessesDoNotAllocate()
    {
        RamBlock ram = Ram.Make("ram", 0x1000);
        var root = MemoryRegion.Container("root", 0x10000);
        root.AddSubregion(0, MemoryRegion.Ram("ram", ram));
        root.AddSubregion(0x1000, MemoryRegion.Io("io", 0x1000, new Silent()));
        using var space = new AddressSpace("s", root);
        var dma = new GuestMemory(space);
        Span<byte> buffer = stackalloc byte[32];
        Work(space, dma, buffer);
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 1000; i++)
        {
            Work(space, dma, buffer);
        }

        Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.Zero);

        static void Work(AddressSpace space, GuestMemory dma, Span<byte> buffer)
        {
            space.WriteU32(0x1000, 1);
            space.ReadU64(0x1003);
            space.Read(0xff0, buffer);
            dma.TryWrite(0x10, buffer);
            dma.ReadU16(0x20);
        }
    }

    [Test]
    public void MapGivesSpansOfPlainMemoryOnly()
    {
        RamBlock ram = Ram.Make("ram", 0x1000);
        var root = MemoryRegion.Container("root", 0x10000);
        root.AddSubregion(0x1000, MemoryRegion.Ram("ram", ram));
        root.AddSubregion(0x2000, MemoryRegion.Rom("rom", Ram.Make("rom", 0x1000)));
        using var space = new AddressSpace("s", root);
        Assert.That(space.TryMap(0x1ff0, 16, true, out Span<byte> span), Is.True);
        span[0] = 5;
        Assert.That(space.ReadU8(0x1ff0), Is.EqualTo(5));
        Assert.That(space.TryMap(0x1ff0, 17, false, out _), Is.False);
        Assert.That(space.TryMap(0x2000, 16, false, out _), Is.True);
        Assert.That(space.TryMap(0x2000, 16, true, out _), Is.False);
        Assert.That(space.TryMap(0x3000, 1, false, out _), Is.False);
    }

    private sealed class Silent : IIoHandler
    {
        public ulong Read(ulong offset, int size) => 0;

        public void Write(ulong offset, ulong value, int size)
        {
        }
    }

    private sealed class CountingLock : IIoLock
    {
        public int Entered { get; private set; }

        public bool IsHeldByCurrentThread { get; private set; }

        public void Enter()
        {
            Assert.That(IsHeldByCurrentThread, Is.False);
            Entered++;
            IsHeldByCurrentThread = true;
        }

        public void Exit() => IsHeldByCurrentThread = false;
    }
}
