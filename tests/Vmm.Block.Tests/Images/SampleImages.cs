using System.Buffers.Binary;
using System.IO.Compression;
using System.Numerics;
using System.Text;

namespace Vmm.Block.Tests.Images;

/// <summary>Images in formats that no program here makes.</summary>
internal static class SampleImages
{
    public static byte[] Cloop(byte[] contents, int blockBytes)
    {
        int blocks = (contents.Length + blockBytes - 1) / blockBytes;
        MemoryStream data = new();
        List<long> offsets = [136 + (8L * (blocks + 1))];
        for (int i = 0; i < blocks; i++)
        {
            byte[] block = new byte[blockBytes];
            contents.AsSpan(i * blockBytes, Math.Min(blockBytes, contents.Length - (i * blockBytes))).CopyTo(block);
            using (ZLibStream zlib = new(data, CompressionLevel.Fastest, leaveOpen: true))
            {
                zlib.Write(block);
            }

            offsets.Add(offsets[0] + data.Length);
        }

        byte[] image = new byte[offsets[^1]];
        Encoding.ASCII.GetBytes("#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n", image);
        BinaryPrimitives.WriteInt32BigEndian(image.AsSpan(128), blockBytes);
        BinaryPrimitives.WriteInt32BigEndian(image.AsSpan(132), blocks);
        for (int i = 0; i <= blocks; i++)
        {
            BinaryPrimitives.WriteInt64BigEndian(image.AsSpan(136 + (8 * i)), offsets[i]);
        }

        data.ToArray().CopyTo(image, offsets[0]);
        return image;
    }

    /// <summary>Extents of 64 KiB in reverse order, sectors of zeroes left out.</summary>
    public static byte[] Bochs(byte[] contents)
    {
        const int Extent = 65536;
        const int BitmapSectors = 1;
        int entries = (contents.Length + Extent - 1) / Extent;
        int dataOffset = 512 + (4 * entries);
        byte[] image = new byte[dataOffset + (entries * (512 + Extent))];
        Encoding.ASCII.GetBytes("Bochs Virtual HD Image", image);
        Encoding.ASCII.GetBytes("Redolog", image.AsSpan(32));
        Encoding.ASCII.GetBytes("Growing", image.AsSpan(48));
        BinaryPrimitives.WriteUInt32LittleEndian(image.AsSpan(64), 0x20000);
        BinaryPrimitives.WriteInt32LittleEndian(image.AsSpan(68), 512);
        BinaryPrimitives.WriteInt32LittleEndian(image.AsSpan(72), entries);
        BinaryPrimitives.WriteInt32LittleEndian(image.AsSpan(76), 16);
        BinaryPrimitives.WriteInt32LittleEndian(image.AsSpan(80), Extent);
        BinaryPrimitives.WriteInt64LittleEndian(image.AsSpan(88), contents.Length);
        for (int i = 0; i < entries; i++)
        {
            int number = entries - 1 - i;
            BinaryPrimitives.WriteInt32LittleEndian(image.AsSpan(512 + (4 * i)), number);
            int bitmap = dataOffset + (number * ((BitmapSectors * 512) + Extent));
            for (int sector = 0; sector < Extent / 512; sector++)
            {
                int at = (i * Extent) + (sector * 512);
                ReadOnlySpan<byte> part = at >= contents.Length ? [] : contents.AsSpan(at, Math.Min(512, contents.Length - at));
                if (part.ContainsAnyExcept((byte)0))
                {
                    image[bitmap + (sector / 8)] |= (byte)(1 << (sector % 8));
                    part.CopyTo(image.AsSpan(bitmap + 512 + (sector * 512)));
                }
            }
        }

        return image;
    }
}

/// <summary>Parts of VHDX images.</summary>
internal static class VhdxSamples
{
    /// <summary>An entry of a log that changes nothing.</summary>
    public static byte[] LogEntry(Guid log)
    {
        byte[] entry = new byte[4096];
        "loge"u8.CopyTo(entry);
        BinaryPrimitives.WriteInt32LittleEndian(entry.AsSpan(8), entry.Length);
        BinaryPrimitives.WriteInt64LittleEndian(entry.AsSpan(16), 1);
        log.TryWriteBytes(entry.AsSpan(32));
        WriteSum(entry);
        return entry;
    }

    /// <summary>Has both headers name a log.</summary>
    public static void NameLog(byte[] image, Guid log, out long offset)
    {
        offset = 0;
        foreach (int at in new[] { 65536, 131072 })
        {
            Span<byte> header = image.AsSpan(at, 4096);
            if (header.StartsWith("head"u8))
            {
                log.TryWriteBytes(header[48..]);
                offset = BinaryPrimitives.ReadInt64LittleEndian(header[72..]);
                WriteSum(header);
            }
        }
    }

    private static void WriteSum(Span<byte> bytes)
    {
        bytes.Slice(4, 4).Clear();
        uint crc = uint.MaxValue;
        foreach (byte b in bytes)
        {
            crc = BitOperations.Crc32C(crc, b);
        }

        BinaryPrimitives.WriteUInt32LittleEndian(bytes[4..], ~crc);
    }
}
