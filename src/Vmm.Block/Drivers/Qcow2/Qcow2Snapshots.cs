using System.Buffers.Binary;
using System.Text;
using Vmm.Qapi;

namespace Vmm.Block.Drivers.Qcow2;

/// <summary>An internal snapshot.</summary>
public sealed record Qcow2Snapshot
{
    /// <summary>Unique among the snapshots of an image; a number as a rule.</summary>
    public required string Id { get; init; }

    /// <summary>Name.</summary>
    public required string Name { get; init; }

    /// <summary>When it was made, in seconds since 1970.</summary>
    public uint Seconds { get; init; }

    /// <summary>And nanoseconds.</summary>
    public uint Nanoseconds { get; init; }

    /// <summary>The guest's clock at that time, in nanoseconds.</summary>
    public ulong ClockNs { get; init; }

    /// <summary>Bytes of the machine's state.</summary>
    public long StateBytes { get; init; }

    /// <summary>Bytes of the disk.</summary>
    public long DiskBytes { get; init; }

    /// <summary>Instructions of the guest so far; -1 when nobody counted.</summary>
    public long InstructionCount { get; init; } = -1;

    internal long L1Offset { get; init; }

    internal int L1Entries { get; init; }

    /// <summary>Extra fields that are not known.</summary>
    internal byte[] Unknown { get; init; } = [];
}

/// <summary>The table of snapshots as bytes. Pure.</summary>
internal static class Qcow2SnapshotTable
{
    private const int FixedBytes = 40;
    private const int KnownExtraBytes = 24;

    /// <summary>Reads a table.</summary>
    /// <param name="bytes">The file from the beginning of the table on.</param>
    /// <param name="count">Number of snapshots.</param>
    /// <param name="diskBytes">Size of the disk, for snapshots that do not say theirs.</param>
    /// <param name="length">Bytes of the table.</param>
    /// <returns>Null when more bytes are needed.</returns>
    /// <exception cref="QapiException">It cannot be a table.</exception>
    internal static List<Qcow2Snapshot>? Parse(ReadOnlySpan<byte> bytes, int count, long diskBytes, out int length)
    {
        List<Qcow2Snapshot> snapshots = [];
        long position = 0;
        length = 0;
        for (int i = 0; i < count; i++)
        {
            position = (position + 7) & ~7L;
            if (bytes.Length - position < FixedBytes)
            {
                return null;
            }

            ReadOnlySpan<byte> entry = bytes[(int)position..];
            uint extraBytes = BinaryPrimitives.ReadUInt32BigEndian(entry[36..]);
            if (extraBytes > Qcow2Format.MaxSnapshotExtraBytes)
            {
                throw new QapiException($"Too much extra metadata in snapshot table entry {i}");
            }

            int idBytes = BinaryPrimitives.ReadUInt16BigEndian(entry[12..]);
            int nameBytes = BinaryPrimitives.ReadUInt16BigEndian(entry[14..]);
            int all = FixedBytes + (int)extraBytes + idBytes + nameBytes;
            if (entry.Length < all)
            {
                return null;
            }

            snapshots.Add(ReadEntry(entry[..all], (int)extraBytes, idBytes, diskBytes));
            position += all;
            if (position > Qcow2Format.MaxSnapshotTableBytes)
            {
                throw new QapiException("Snapshot table is too big");
            }
        }

        length = (int)position;
        return snapshots;
    }

    /// <summary>A table as bytes.</summary>
    internal static byte[] Write(IReadOnlyList<Qcow2Snapshot> snapshots)
    {
        List<byte> all = [];
        foreach (Qcow2Snapshot snapshot in snapshots)
        {
            while ((all.Count & 7) != 0)
            {
                all.Add(0);
            }

            byte[] id = Encoding.UTF8.GetBytes(snapshot.Id);
            byte[] name = Encoding.UTF8.GetBytes(snapshot.Name);
            byte[] entry = new byte[FixedBytes + KnownExtraBytes + snapshot.Unknown.Length + id.Length + name.Length];
            Span<byte> span = entry;
            BinaryPrimitives.WriteInt64BigEndian(span, snapshot.L1Offset);
            BinaryPrimitives.WriteInt32BigEndian(span[8..], snapshot.L1Entries);
            BinaryPrimitives.WriteUInt16BigEndian(span[12..], (ushort)id.Length);
            BinaryPrimitives.WriteUInt16BigEndian(span[14..], (ushort)name.Length);
            BinaryPrimitives.WriteUInt32BigEndian(span[16..], snapshot.Seconds);
            BinaryPrimitives.WriteUInt32BigEndian(span[20..], snapshot.Nanoseconds);
            BinaryPrimitives.WriteUInt64BigEndian(span[24..], snapshot.ClockNs);
            BinaryPrimitives.WriteUInt32BigEndian(span[32..], snapshot.StateBytes > uint.MaxValue ? 0 : (uint)snapshot.StateBytes);
            BinaryPrimitives.WriteInt32BigEndian(span[36..], KnownExtraBytes + snapshot.Unknown.Length);
            BinaryPrimitives.WriteInt64BigEndian(span[40..], snapshot.StateBytes);
            BinaryPrimitives.WriteInt64BigEndian(span[48..], snapshot.DiskBytes);
            BinaryPrimitives.WriteInt64BigEndian(span[56..], snapshot.InstructionCount);
            snapshot.Unknown.CopyTo(span[64..]);
            id.CopyTo(span[(64 + snapshot.Unknown.Length)..]);
            name.CopyTo(span[(64 + snapshot.Unknown.Length + id.Length)..]);
            all.AddRange(entry);
        }

        return [.. all];
    }

    private static Qcow2Snapshot ReadEntry(ReadOnlySpan<byte> entry, int extraBytes, int idBytes, long diskBytes)
    {
        ReadOnlySpan<byte> extra = entry.Slice(FixedBytes, extraBytes);
        ReadOnlySpan<byte> text = entry[(FixedBytes + extraBytes)..];
        return new Qcow2Snapshot
        {
            L1Offset = BinaryPrimitives.ReadInt64BigEndian(entry),
            L1Entries = BinaryPrimitives.ReadInt32BigEndian(entry[8..]),
            Seconds = BinaryPrimitives.ReadUInt32BigEndian(entry[16..]),
            Nanoseconds = BinaryPrimitives.ReadUInt32BigEndian(entry[20..]),
            ClockNs = BinaryPrimitives.ReadUInt64BigEndian(entry[24..]),
            StateBytes = extraBytes >= 8 ? BinaryPrimitives.ReadInt64BigEndian(extra) : BinaryPrimitives.ReadUInt32BigEndian(entry[32..]),
            DiskBytes = extraBytes >= 16 ? BinaryPrimitives.ReadInt64BigEndian(extra[8..]) : diskBytes,
            InstructionCount = extraBytes >= 24 ? BinaryPrimitives.ReadInt64BigEndian(extra[16..]) : -1,
            Unknown = extraBytes > KnownExtraBytes ? extra[KnownExtraBytes..].ToArray() : [],
            Id = Encoding.UTF8.GetString(text[..idBytes]),
            Name = Encoding.UTF8.GetString(text[idBytes..]),
        };
    }
}
