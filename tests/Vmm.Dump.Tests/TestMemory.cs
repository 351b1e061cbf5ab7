using Vmm.Dump.Guest;
using Vmm.Interop;
using Vmm.Memory;

namespace Vmm.Dump.Tests;

/// <summary>Guest memory for a test: ranges of blocks of RAM, with a model of what is in them.</summary>
internal sealed class TestMemory
{
    private readonly List<GuestMemoryRange> _ranges = [];

    public List<(ulong Start, byte[] Contents)> Model { get; } = [];

    public GuestMemoryMap Map => GuestMemoryMap.Of(_ranges.ToArray());

    public static RamBlock Block(ulong bytes)
    {
        Errno errno = MappedMemory.Map(
            Math.Max(bytes, 1), Libc.PROT_READ | Libc.PROT_WRITE, Libc.MAP_PRIVATE | Libc.MAP_ANONYMOUS | Libc.MAP_NORESERVE, -1, 0,
            out MappedMemory? memory);
        Assert.That(errno, Is.EqualTo(Errno.OK));
        return new RamBlock("ram", memory!, bytes);
    }

    /// <summary>Ranges of any length and place, of one block or several, with pages of all kinds.</summary>
    public static TestMemory Random(Random random)
    {
        TestMemory memory = new();
        bool isAligned = random.Next(2) == 0;
        ulong at = random.Next(4) == 0 ? 0xffff_0000 : 0;
        for (int i = random.Next(1, 9); i > 0; i--)
        {
            int unit = isAligned ? 4096 : 1;
            at += random.Next(3) switch { 0 => 0ul, 1 => (ulong)(random.Next(isAligned ? 20 : 9000) * unit), _ => 0x10_0000ul };
            int length = isAligned ? random.Next(1, 17) * 4096 : random.Next(1, random.Next(2) == 0 ? 100 : 60_000);
            memory.Add(at, Contents(random, length), random.Next(3) == 0 ? random.Next(5000) : 0);
            at += (ulong)length;
        }

        return memory;
    }

    public void Add(ulong start, byte[] contents, int blockOffset = 0)
    {
        RamBlock block = Block((ulong)(contents.Length + blockOffset));
        contents.CopyTo(block.Span((ulong)blockOffset, contents.Length));
        _ranges.Add(new GuestMemoryRange(start, (ulong)contents.Length, block, (ulong)blockOffset));
        Model.Add((start, contents));
    }

    public void Write(ulong address, ReadOnlySpan<byte> bytes)
    {
        GuestMemoryRange range = _ranges.Single(r => address >= r.Start && address < r.End);
        bytes.CopyTo(range.Block.Span(range.BlockOffset + (address - range.Start), bytes.Length));
    }

    /// <summary>The model's byte at an address; null where there is no memory.</summary>
    public byte? ByteAt(ulong address)
    {
        foreach ((ulong start, byte[] contents) in Model)
        {
            if (address >= start && address - start < (ulong)contents.Length)
            {
                return contents[address - start];
            }
        }

        return null;
    }

    // Zeroes, noise, text that compresses, or one byte in zeroes, by the page.
    private static byte[] Contents(Random random, int length)
    {
        byte[] contents = new byte[length];
        for (int at = 0; at < length; at += 4096)
        {
            Span<byte> page = contents.AsSpan(at, Math.Min(4096, length - at));
            switch (random.Next(5))
            {
                case 0:
                    random.NextBytes(page);
                    break;
                case 1:
                    int period = random.Next(1, 300);
                    random.NextBytes(page[..Math.Min(period, page.Length)]);
                    for (int i = period; i < page.Length; i++)
                    {
                        page[i] = page[i - period];
                    }

                    break;
                case 2:
                    page[random.Next(page.Length)] = (byte)random.Next(256);
                    break;
                case 3:
                    for (int i = 0; i < page.Length; i++)
                    {
                        page[i] = (byte)random.Next(random.Next(2) == 0 ? 3 : 256);
                    }

                    break;
            }
        }

        return contents;
    }
}
