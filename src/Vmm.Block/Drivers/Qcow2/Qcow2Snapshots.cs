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

    /// <summary>Longest entry that is taken.</summary>
    internal const int MaxEntryBytes = FixedBytes + Qcow2Format.MaxSnapshotExtraBytes + (2 * ushort.MaxValue);

    /// <summary>Reads an entry.</summary>
    /// <param name="bytes">The table from the entry on, at least as much as the longest entry has.</param>
    /// <param name="index">Its number.</param>
    /// <param name="diskBytes">Size of the disk, for snapshots that do not say theirs.</param>
    /// <param name="length">Bytes of the entry; the next one begins at the next multiple of 8.</param>
    /// <exception cref="QapiException">It cannot be an entry.</exception>
    internal static Qcow2Snapshot Parse(ReadOnlySpan<byte> bytes, int index, long diskBytes, out int length)
    {
        uint extraBytes = BinaryPrimitives.ReadUInt32BigEndian(bytes[36..]);
        if (extraBytes > Qcow2Format.MaxSnapshotExtraBytes)
        {
            throw new QapiException($"Too much extra metadata in snapshot table entry {index}");
        }

        int idBytes = BinaryPrimitives.ReadUInt16BigEndian(bytes[12..]);
        int nameBytes = BinaryPrimitives.ReadUInt16BigEndian(bytes[14..]);
        length = FixedBytes + (int)extraBytes + idBytes + nameBytes;
        return ReadEntry(bytes[..length], (int)extraBytes, idBytes, diskBytes);
    }

    /// <summary>A table as bytes.</summary>
    /// <exception cref="QapiException">It would be too big.</exception>
    internal static byte[] Write(IReadOnlyList<Qcow2Snapshot> snapshots)
    {
        long bytes = 0;
        bool isValid = true;
        foreach (Qcow2Snapshot snapshot in snapshots)
        {
            bytes = ((bytes + 7) & ~7L) + EntryBytes(snapshot);
            isValid &= Encoding.UTF8.GetByteCount(snapshot.Id) <= ushort.MaxValue && Encoding.UTF8.GetByteCount(snapshot.Name) <= ushort.MaxValue;
        }

        if (!isValid || bytes > Qcow2Format.MaxSnapshotTableBytes)
        {
            throw new QapiException("Snapshot table is too big");
        }

        byte[] all = new byte[bytes];
        int position = 0;
        foreach (Qcow2Snapshot snapshot in snapshots)
        {
            position = (position + 7) & ~7;
            int length = EntryBytes(snapshot);
            WriteEntry(snapshot, all.AsSpan(position, length));
            position += length;
        }

        return all;
    }

    private static int EntryBytes(Qcow2Snapshot snapshot) => FixedBytes + KnownExtraBytes + snapshot.Unknown.Length
        + Encoding.UTF8.GetByteCount(snapshot.Id) + Encoding.UTF8.GetByteCount(snapshot.Name);

    private static void WriteEntry(Qcow2Snapshot snapshot, Span<byte> span)
    {
        int text = FixedBytes + KnownExtraBytes + snapshot.Unknown.Length;
        int idBytes = Encoding.UTF8.GetBytes(snapshot.Id, span[text..]);
        int nameBytes = Encoding.UTF8.GetBytes(snapshot.Name, span[(text + idBytes)..]);
        BinaryPrimitives.WriteInt64BigEndian(span, snapshot.L1Offset);
        BinaryPrimitives.WriteInt32BigEndian(span[8..], snapshot.L1Entries);
        BinaryPrimitives.WriteUInt16BigEndian(span[12..], (ushort)idBytes);
        BinaryPrimitives.WriteUInt16BigEndian(span[14..], (ushort)nameBytes);
        BinaryPrimitives.WriteUInt32BigEndian(span[16..], snapshot.Seconds);
        BinaryPrimitives.WriteUInt32BigEndian(span[20..], snapshot.Nanoseconds);
        BinaryPrimitives.WriteUInt64BigEndian(span[24..], snapshot.ClockNs);
        BinaryPrimitives.WriteUInt32BigEndian(span[32..], snapshot.StateBytes > uint.MaxValue ? 0 : (uint)snapshot.StateBytes);
        BinaryPrimitives.WriteInt32BigEndian(span[36..], KnownExtraBytes + snapshot.Unknown.Length);
        BinaryPrimitives.WriteInt64BigEndian(span[40..], snapshot.StateBytes);
        BinaryPrimitives.WriteInt64BigEndian(span[48..], snapshot.DiskBytes);
        BinaryPrimitives.WriteInt64BigEndian(span[56..], snapshot.InstructionCount);
        snapshot.Unknown.CopyTo(span[64..]);
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
            Id = Text(text[..idBytes]),
            Name = Text(text[idBytes..]),
        };
    }

    // As a C program sees it: to the first NUL.
    private static string Text(ReadOnlySpan<byte> bytes)
    {
        int end = bytes.IndexOf((byte)0);
        return Encoding.UTF8.GetString(end < 0 ? bytes : bytes[..end]);
    }
}
