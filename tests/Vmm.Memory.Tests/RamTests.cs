using System.Text;

namespace Vmm.Memory.Tests;

public sealed class RamTests
{
    [Test]
    public void DirtyBitsAgreeWithASet()
    {
        var random = new Random(7);
        RamBlock block = Ram.Make("ram", 300 * 4096);
        block.EnableDirtyBitmap(DirtyClients.Migration);
        var model = new HashSet<ulong>();
        for (int i = 0; i < 3000; i++)
        {
            ulong offset = (ulong)random.Next(300 * 4096 - 1);
            ulong length = Math.Min((ulong)random.Next(1, random.Next(2) == 0 ? 20 : 200_000), (300 * 4096) - offset);
            ulong first = offset >> 12;
            ulong last = (offset + length - 1) >> 12;
            bool any = false;
            switch (random.Next(4))
            {
                case 0:
                    block.MarkDirty(offset, length, DirtyClients.Migration | DirtyClients.Vga);
                    for (ulong p = first; p <= last; p++)
                    {
                        model.Add(p);
                    }

                    break;
                case 1:
                    for (ulong p = first; p <= last; p++)
                    {
                        any |= model.Contains(p);
                    }

                    Assert.That(block.IsDirty(offset, length, DirtyClients.Migration), Is.EqualTo(any));
                    break;
                case 2:
                    ulong[] log = [(ulong)random.NextInt64(), (ulong)random.NextInt64()];
                    ulong pages = Math.Min((ulong)random.Next(1, 128), 300 - first);
                    block.MergeDirty(first, log, pages, DirtyClients.Migration);
                    for (ulong p = 0; p < pages; p++)
                    {
                        if ((log[p / 64] >> (int)(p % 64) & 1) != 0)
                        {
                            model.Add(first + p);
                        }
                    }

                    break;
                default:
                    for (ulong p = first; p <= last; p++)
                    {
                        any |= model.Remove(p);
                    }

                    Assert.That(block.TestAndClearDirty(offset, length, DirtyClients.Migration), Is.EqualTo(any));
                    break;
            }

            Assert.That(block.CountDirty(DirtyClients.Migration), Is.EqualTo((ulong)model.Count));
        }

        Assert.That(block.CountDirty(DirtyClients.Vga), Is.Zero);
    }

    [Test]
    public void WritesThroughTheSpaceAreLoggedWhileAClientAsks()
    {
        RamBlock block = Ram.Make("ram", 0x4000);
        block.EnableDirtyBitmap(DirtyClients.Migration | DirtyClients.Vga);
        var root = MemoryRegion.Container("root", 0x10000);
        MemoryRegion ram = MemoryRegion.Ram("ram", block);
        root.AddSubregion(0, ram);
        using var space = new AddressSpace("s", root);
        space.WriteU8(0, 1);
        Assert.That(block.CountDirty(DirtyClients.Migration), Is.Zero);
        space.GlobalDirtyLog = true;
        ram.SetDirtyLog(DirtyClients.Vga, true);
        space.Write(0xfff, new byte[2]);
        Assert.That((block.CountDirty(DirtyClients.Migration), block.CountDirty(DirtyClients.Vga)), Is.EqualTo((2UL, 2UL)));
        space.GlobalDirtyLog = false;
        space.WriteU8(0x3000, 1);
        Assert.That((block.CountDirty(DirtyClients.Migration), block.CountDirty(DirtyClients.Vga)), Is.EqualTo((2UL, 3UL)));
    }

    [Test]
    public void BackendErrorsAreQemus()
    {
        Assert.That(RamBackends.CreateFile(new RamOptions("m", 8192), "/nonexist/x", 0, false, out string? error), Is.Null);
        Assert.That(error, Is.EqualTo("can't open backing store /nonexist/x for guest RAM: No such file or directory"));
        string path = Path.Combine(Path.GetTempPath(), $"vmm-ram-{Environment.ProcessId}");
        File.WriteAllBytes(path, new byte[4096]);
        try
        {
            RamBackends.CreateFile(new RamOptions("m", 8192), path, 0, false, out error);
            Assert.That(error, Is.EqualTo("backing store size 0x1000 does not match 'size' option 0x2000"));
            RamBackends.CreateFile(new RamOptions("m", 4096), path, 1024, false, out error);
            Assert.That(error, Is.EqualTo("alignment 0x400 must be multiples of page size 0x1000"));
            RamBackends.CreateFile(new RamOptions("m", 100), path, 0, false, out error);
            Assert.That(error, Is.EqualTo("memory size 0x64 must be equal to or larger than page size 0x1000"));
        }
        finally
        {
            File.Delete(path);
        }

        RamBackends.CreateAnonymous(new RamOptions("m", 4096) { HostNodes = [1] }, out error);
        Assert.That(error, Does.StartWith("host-nodes must be empty for policy default"));
        RamBackends.CreateAnonymous(new RamOptions("m", 4096) { Policy = RamNumaPolicy.Bind }, out error);
        Assert.That(error, Is.EqualTo("host-nodes must be set for policy bind"));
        RamBackends.CreateMemFd(new RamOptions("m", 4096), true, 3 << 20, true, out error);
        Assert.That(error, Is.EqualTo("Hugepage size must be a power of 2"));
        RamBackends.CreateAnonymous(new RamOptions("m", 1UL << 57), out error);
        Assert.That(error, Is.EqualTo("cannot set up guest memory 'm': Cannot allocate memory"));
    }

    [Test]
    public void SharedFileBackendWritesTheFile()
    {
        string path = Path.Combine(Path.GetTempPath(), $"vmm-ram-{Environment.ProcessId}");
        try
        {
            RamBlock? block = RamBackends.CreateFile(new RamOptions("m", 8192) { Share = true, Prealloc = true, PreallocThreads = 2 }, path, 0, false, out string? error);
            Assert.That(error, Is.Null);
            block!.Span(4096, 3).Fill(0x5a);
            using var file = File.OpenRead(path);
            Assert.That(file.Length, Is.EqualTo(8192));
            file.Position = 4096;
            Assert.That(file.ReadByte(), Is.EqualTo(0x5a));
        }
        finally
        {
            File.Delete(path);
        }
    }

    [Test]
    public void MemFdIsSealedAndDiscards()
    {
        RamBlock? block = RamBackends.CreateMemFd(new RamOptions("m", 1 << 20) { Share = true }, false, 0, true, out string? error);
        Assert.That(error, Is.Null);
        Assert.That(Vmm.Interop.Libc.FTruncate(block!.File!.Fd, 4096), Is.EqualTo(Vmm.Interop.Errno.EPERM));
        block.Span(0x3000, 1)[0] = 1;
        Assert.That(block.Discard(0x3000, 0x1000), Is.EqualTo(Vmm.Interop.Errno.OK));
        Assert.That(block.Span(0x3000, 1)[0], Is.Zero);
    }

    [Test]
    public void MtreeIsLaidOutAsQemus()
    {
        var system = MemoryRegion.Container("system", UInt128.One << 64);
        MemoryRegion ram = MemoryRegion.Ram("pc.ram", Ram.Make("pc.ram", 0x8000000));
        MemoryRegion pci = MemoryRegion.Container("pci", UInt128.One << 64);
        MemoryRegion bios = MemoryRegion.Rom("pc.bios", Ram.Make("pc.bios", 0x40000));
        system.AddSubregion(0, MemoryRegion.Alias("ram-below-4g", ram, 0, 0x8000000));
        system.AddSubregion(0, pci, -1);
        pci.AddSubregion(0xfffc0000, bios);
        MemoryRegion isa = MemoryRegion.Alias("isa-bios", bios, 0x20000, 0x20000);
        isa.SetReadOnly(true);
        pci.AddSubregion(0xe0000, isa, 1);
        MemoryRegion hidden = MemoryRegion.Container("hidden", 16);
        hidden.SetEnabled(false);
        hidden.AddSubregion(4, MemoryRegion.Io("inner", 4, new Recorder(4)));
        system.AddSubregion(0xfed00000, hidden);
        using var memory = new AddressSpace("memory", system);
        using var cpu = new AddressSpace("cpu-memory-0", system);
        var text = new StringBuilder();
        MtreePrinter.WriteTree(text, [cpu, memory], new MtreeOptions());
        Assert.That(text.ToString(), Is.EqualTo("""
            address-space: cpu-memory-0
            address-space: memory
              0000000000000000-ffffffffffffffff (prio 0, i/o): system
                0000000000000000-0000000007ffffff (prio 0, ram): alias ram-below-4g @pc.ram 0000000000000000-0000000007ffffff
                0000000000000000-ffffffffffffffff (prio -1, i/o): pci
                  00000000000e0000-00000000000fffff (prio 1, rom): alias isa-bios @pc.bios 0000000000020000-000000000003ffff
                  00000000fffc0000-00000000ffffffff (prio 0, rom): pc.bios
                  00000000fed00004-00000000fed00007 (prio 0, i/o): inner

            memory-region: pc.ram
              0000000000000000-0000000007ffffff (prio 0, ram): pc.ram

            memory-region: pc.bios
              00000000fffc0000-00000000ffffffff (prio 0, rom): pc.bios


            """));
        text.Clear();
        MtreePrinter.WriteFlat(text, [memory, cpu], new MtreeOptions(), " KVM", static (_, range) => range.Block is not null);
        Assert.That(text.ToString(), Is.EqualTo("""
            FlatView #0
             AS "memory", root: system
             AS "cpu-memory-0", root: system
             Root memory region: system
              0000000000000000-0000000007ffffff (prio 0, ram): pc.ram KVM
              00000000fffc0000-00000000ffffffff (prio 0, rom): pc.bios KVM


            """));
    }
}
