using System.Buffers.Binary;
using System.Text;

namespace Vmm.Block.Drivers.Qcow2;

/// <summary>The first cluster of an image as bytes.</summary>
internal static class Qcow2HeaderWriter
{
    private const int RoomForNames = 4096;

    /// <summary>The header with its extensions and the backing file's name; null when that does not fit into a cluster.</summary>
    internal static byte[]? TryWrite(this Qcow2Header header)
    {
        byte[] bytes = new byte[header.ClusterBytes];
        int headerBytes = header.Version >= 3 ? Qcow2Format.HeaderBytesNow + header.UnknownFields.Length : Qcow2Format.HeaderBytesV2;
        if (headerBytes > bytes.Length)
        {
            return null;
        }

        WriteFields(header, bytes, headerBytes);
        int position = headerBytes;
        bool fits = true;
        if (header.BackingFormat is { } format)
        {
            fits &= Append(bytes, ref position, Qcow2Format.ExtensionBackingFormat, Encoding.UTF8.GetBytes(format));
        }

        if (header.DataFile is { } dataFile)
        {
            fits &= Append(bytes, ref position, Qcow2Format.ExtensionDataFile, Encoding.UTF8.GetBytes(dataFile));
        }

        // For people only: what is needed must find room first.
        if (header.Version >= 3 && bytes.Length - position >= RoomForNames)
        {
            fits &= Append(bytes, ref position, Qcow2Format.ExtensionFeatureNames, Qcow2FeatureNames.Write());
        }

        foreach (Qcow2Extension extension in header.Extensions)
        {
            if (extension.Type != Qcow2Format.ExtensionFeatureNames)
            {
                fits &= Append(bytes, ref position, extension.Type, extension.Data);
            }
        }

        fits &= Append(bytes, ref position, Qcow2Format.ExtensionEnd, []);
        byte[] backing = Encoding.UTF8.GetBytes(header.BackingFile ?? "");
        if (!fits || position + backing.Length > bytes.Length)
        {
            return null;
        }

        if (backing.Length > 0)
        {
            backing.CopyTo(bytes, position);
            BinaryPrimitives.WriteInt64BigEndian(bytes.AsSpan(8), position);
            BinaryPrimitives.WriteInt32BigEndian(bytes.AsSpan(16), backing.Length);
        }

        return bytes;
    }

    private static void WriteFields(Qcow2Header header, Span<byte> bytes, int headerBytes)
    {
        BinaryPrimitives.WriteUInt32BigEndian(bytes, Qcow2Format.Magic);
        BinaryPrimitives.WriteInt32BigEndian(bytes[4..], header.Version);
        BinaryPrimitives.WriteInt32BigEndian(bytes[20..], header.ClusterBits);
        BinaryPrimitives.WriteInt64BigEndian(bytes[24..], header.Size);
        BinaryPrimitives.WriteInt32BigEndian(bytes[32..], header.CryptMethod);
        BinaryPrimitives.WriteInt32BigEndian(bytes[36..], header.L1Entries);
        BinaryPrimitives.WriteInt64BigEndian(bytes[40..], header.L1Offset);
        BinaryPrimitives.WriteInt64BigEndian(bytes[48..], header.RefcountTableOffset);
        BinaryPrimitives.WriteInt32BigEndian(bytes[56..], header.RefcountTableClusters);
        BinaryPrimitives.WriteInt32BigEndian(bytes[60..], header.SnapshotCount);
        BinaryPrimitives.WriteInt64BigEndian(bytes[64..], header.SnapshotsOffset);
        if (header.Version >= 3)
        {
            BinaryPrimitives.WriteUInt64BigEndian(bytes[72..], (ulong)header.Incompatible);
            BinaryPrimitives.WriteUInt64BigEndian(bytes[80..], (ulong)header.Compatible);
            BinaryPrimitives.WriteUInt64BigEndian(bytes[88..], (ulong)header.Autoclear);
            BinaryPrimitives.WriteInt32BigEndian(bytes[96..], header.RefcountOrder);
            BinaryPrimitives.WriteInt32BigEndian(bytes[100..], headerBytes);
            bytes[104] = (byte)header.Compression;
            header.UnknownFields.CopyTo(bytes[Qcow2Format.HeaderBytesNow..]);
        }
    }

    private static bool Append(Span<byte> bytes, ref int position, uint type, ReadOnlySpan<byte> data)
    {
        int padded = (data.Length + 7) & ~7;
        if (bytes.Length - position < 8 + padded)
        {
            return false;
        }

        BinaryPrimitives.WriteUInt32BigEndian(bytes[position..], type);
        BinaryPrimitives.WriteInt32BigEndian(bytes[(position + 4)..], data.Length);
        data.CopyTo(bytes[(position + 8)..]);
        position += 8 + padded;
        return true;
    }
}
