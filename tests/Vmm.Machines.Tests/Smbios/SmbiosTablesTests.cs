using System.Buffers.Binary;
using System.Text;
using Vmm.Machines.Smbios;

namespace Vmm.Machines.Tests.Smbios;

public sealed class SmbiosTablesTests
{
    private const uint Place = 0xf0000;

    private static readonly SmbiosConfig s_config = new()
    {
        Product = "A machine",
        Version = "machine-1",
        Uuid = Guid.Parse("01234567-89ab-cdef-0123-456789abcdef"),
        CpuSignature = 0x106a3,
        CpuFeatures = 0x078bfbfd,
        Sockets = 17,
        CoresPerSocket = 300,
        ThreadsPerSocket = 2,
        Ram = [(0, 3UL << 30), (5UL << 40, 17UL << 30)],
    };

    [Test]
    public void TheEntryPointLeadsToTheStructures()
    {
        byte[] image = SmbiosTables.Build(s_config).PlaceAt(Place);
        Assert.Multiple(() =>
        {
            Assert.That(Encoding.ASCII.GetString(image, 0, 4), Is.EqualTo("_SM_"));
            Assert.That(Encoding.ASCII.GetString(image, 16, 5), Is.EqualTo("_DMI_"));
            Assert.That(Sum(image.AsSpan(0, image[5])), Is.Zero);
            Assert.That(Sum(image.AsSpan(16, 15)), Is.Zero);
        });
        int at = (int)(BinaryPrimitives.ReadUInt32LittleEndian(image.AsSpan(24)) - Place);
        int length = BinaryPrimitives.ReadUInt16LittleEndian(image.AsSpan(22));
        Assert.That(at + length, Is.EqualTo(image.Length));
        List<(byte Type, byte[] Bytes, int Size)> all = Walk(image.AsSpan(at, length));
        Assert.That(all, Has.Count.EqualTo(BinaryPrimitives.ReadUInt16LittleEndian(image.AsSpan(28))));
        Assert.That(all.Max(s => s.Size), Is.EqualTo(BinaryPrimitives.ReadUInt16LittleEndian(image.AsSpan(8))));
        Assert.That(all[^1].Type, Is.EqualTo(127));
        Assert.That(all.Select(s => BinaryPrimitives.ReadUInt16LittleEndian(s.Bytes.AsSpan(2))), Is.Unique);
    }

    [Test]
    public void EverySocketAndEveryRangeIsThere()
    {
        List<(byte Type, byte[] Bytes, int Size)> all = Walk(SmbiosTables.Build(s_config).Structures);
        byte[] high = all.Where(s => s.Type == 19).ElementAt(1).Bytes;
        byte[] socket = all.Where(s => s.Type == 4).ElementAt(16).Bytes;
        Assert.Multiple(() =>
        {
            Assert.That(all.Count(s => s.Type == 4), Is.EqualTo(17));
            Assert.That(Encoding.ASCII.GetString(socket, 42, 6), Is.EqualTo("CPU10\0"));
            Assert.That(socket[35], Is.EqualTo(0xff), "more cores than a byte can count");

            // What ends beyond 4 TiB is told in bytes.
            Assert.That(BinaryPrimitives.ReadUInt64LittleEndian(high.AsSpan(4)), Is.EqualTo(ulong.MaxValue));
            Assert.That(BinaryPrimitives.ReadUInt64LittleEndian(high.AsSpan(15)), Is.EqualTo(5UL << 40));
            Assert.That(BinaryPrimitives.ReadUInt64LittleEndian(high.AsSpan(23)), Is.EqualTo((5UL << 40) + (17UL << 30) - 1));
            Assert.That(all.Count(s => s.Type == 17), Is.EqualTo(2));
            Assert.That(BinaryPrimitives.ReadUInt16LittleEndian(all.Last(s => s.Type == 17).Bytes.AsSpan(12)), Is.EqualTo(4096), "MiB of the last");
        });
    }

    private static List<(byte Type, byte[] Bytes, int Size)> Walk(ReadOnlySpan<byte> structures)
    {
        List<(byte, byte[], int)> all = [];
        while (!structures.IsEmpty)
        {
            int end = structures[1];
            end += structures[end..].IndexOf("\0\0"u8) + 2;
            all.Add((structures[0], structures[..end].ToArray(), end));
            structures = structures[end..];
        }

        return all;
    }

    private static byte Sum(ReadOnlySpan<byte> bytes)
    {
        byte sum = 0;
        foreach (byte b in bytes)
        {
            sum += b;
        }

        return sum;
    }
}
