using System.Buffers.Binary;
using System.Text;
using Vmm.Qapi;

namespace Vmm.Block.Drivers.Qcow2;

/// <summary>A persistent bitmap as the directory has it (specification: "Bitmap directory").</summary>
/// <param name="TableOffset">Where its table is.</param>
/// <param name="TableEntries">Entries of the table.</param>
/// <param name="Flags">In use, auto, extra data compatible.</param>
/// <param name="GranularityBits">Bytes of a granule, as a power of two.</param>
/// <param name="Name">Name.</param>
/// <param name="Extra">Data that is not known.</param>
internal sealed record Qcow2BitmapEntry(long TableOffset, int TableEntries, uint Flags, int GranularityBits, string Name, byte[] Extra)
{
    /// <summary>It was not stored since it was last written.</summary>
    internal const uint InUse = 1;

    /// <summary>It records writes.</summary>
    internal const uint Auto = 2;

    private const uint ExtraCompatible = 4;

    /// <summary>Nothing can be told from its contents.</summary>
    internal bool IsInconsistent => (Flags & InUse) != 0 || (Extra.Length > 0 && (Flags & ExtraCompatible) == 0);
}

/// <summary>The directory of persistent bitmaps as bytes. Pure.</summary>
internal static class Qcow2BitmapDirectory
{
    private const int FixedBytes = 24;
    private const int MaxName = 1023;
    private const byte TypeDirty = 1;

    /// <summary>Reads a directory.</summary>
    /// <exception cref="QapiException">It cannot be one.</exception>
    internal static List<Qcow2BitmapEntry> Parse(ReadOnlySpan<byte> bytes, uint count, int clusterBits)
    {
        List<Qcow2BitmapEntry> entries = [];
        while (bytes.Length > 0)
        {
            if (bytes.Length < FixedBytes || entries.Count >= count)
            {
                throw Corrupt();
            }

            long offset = BinaryPrimitives.ReadInt64BigEndian(bytes);
            uint size = BinaryPrimitives.ReadUInt32BigEndian(bytes[8..]);
            uint flags = BinaryPrimitives.ReadUInt32BigEndian(bytes[12..]);
            int nameBytes = BinaryPrimitives.ReadUInt16BigEndian(bytes[18..]);
            uint extra = BinaryPrimitives.ReadUInt32BigEndian(bytes[20..]);
            long total = (FixedBytes + (long)extra + nameBytes + 7) & ~7L;
            bool isGood = bytes[16] == TypeDirty && bytes[17] is >= 9 and <= 31 && nameBytes is > 0 and <= MaxName && total <= bytes.Length
                && offset > 0 && (offset & ((1L << clusterBits) - 1)) == 0 && size <= Qcow2Format.MaxBitmapBytes >> clusterBits;
            if (!isGood)
            {
                throw Corrupt();
            }

            entries.Add(new Qcow2BitmapEntry(
                offset,
                (int)size,
                flags,
                bytes[17],
                Encoding.UTF8.GetString(bytes.Slice(FixedBytes + (int)extra, nameBytes)),
                bytes.Slice(FixedBytes, (int)extra).ToArray()));
            bytes = bytes[(int)total..];
        }

        return entries.Count == count ? entries : throw Corrupt();
    }

    /// <summary>A directory as bytes.</summary>
    internal static byte[] Write(IReadOnlyList<Qcow2BitmapEntry> entries)
    {
        MemoryStream stream = new();
        Span<byte> head = stackalloc byte[FixedBytes];
        foreach (Qcow2BitmapEntry entry in entries)
        {
            byte[] name = Encoding.UTF8.GetBytes(entry.Name);
            BinaryPrimitives.WriteInt64BigEndian(head, entry.TableOffset);
            BinaryPrimitives.WriteInt32BigEndian(head[8..], entry.TableEntries);
            BinaryPrimitives.WriteUInt32BigEndian(head[12..], entry.Flags);
            head[16] = TypeDirty;
            head[17] = (byte)entry.GranularityBits;
            BinaryPrimitives.WriteUInt16BigEndian(head[18..], (ushort)name.Length);
            BinaryPrimitives.WriteInt32BigEndian(head[20..], entry.Extra.Length);
            stream.Write(head);
            stream.Write(entry.Extra);
            stream.Write(name);
            stream.SetLength((stream.Length + 7) & ~7L);
            stream.Position = stream.Length;
        }

        return stream.ToArray();
    }

    private static QapiException Corrupt() => new("Invalid bitmap directory");
}
