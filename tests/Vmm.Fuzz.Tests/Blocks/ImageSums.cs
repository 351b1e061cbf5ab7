using System.Buffers.Binary;
using System.Numerics;

namespace Vmm.Fuzz.Tests.Blocks;

/// <summary>The sums that headers of images carry, put right after a mutation: where there is a header, by its signature.</summary>
internal static class ImageSums
{
    private const int VpcFooterBytes = 512;
    private const int VpcTableBytes = 1024;
    private const int VhdxHeaderBytes = 4096;
    private const int VhdxTableBytes = 64 << 10;

    internal static void PutRight(string format, Span<byte> image)
    {
        if (format == "vpc")
        {
            Vpc(image, 0, 64, VpcFooterBytes, "conectix"u8);
            Vpc(image, image.Length - VpcFooterBytes, 64, VpcFooterBytes, "conectix"u8);
            Vpc(image, VpcFooterBytes, 36, VpcTableBytes, "cxsparse"u8);
        }
        else if (format == "vhdx")
        {
            Vhdx(image, 64 << 10, VhdxHeaderBytes, "head"u8);
            Vhdx(image, 128 << 10, VhdxHeaderBytes, "head"u8);
            Vhdx(image, 192 << 10, VhdxTableBytes, "regi"u8);
            Vhdx(image, 256 << 10, VhdxTableBytes, "regi"u8);
            Vhdx(image, 1 << 20, VhdxHeaderBytes, "loge"u8);
        }
    }

    // VHD specification, "Hard disk footer format": the complement of the sum of all bytes but those of the sum.
    private static void Vpc(Span<byte> image, int at, int sumAt, int bytes, ReadOnlySpan<byte> signature)
    {
        if (at < 0 || at + bytes > image.Length || !image[at..].StartsWith(signature))
        {
            return;
        }

        Span<byte> header = image.Slice(at, bytes);
        header.Slice(sumAt, 4).Clear();
        uint sum = 0;
        foreach (byte b in header)
        {
            sum += b;
        }

        BinaryPrimitives.WriteUInt32BigEndian(header[sumAt..], ~sum);
    }

    // VHDX specification, 2.2.2: CRC-32C with the sum as zero.
    private static void Vhdx(Span<byte> image, int at, int bytes, ReadOnlySpan<byte> signature)
    {
        if (at + bytes > image.Length || !image[at..].StartsWith(signature))
        {
            return;
        }

        Span<byte> header = image.Slice(at, bytes);
        header.Slice(4, 4).Clear();
        uint crc = uint.MaxValue;
        foreach (byte b in header)
        {
            crc = BitOperations.Crc32C(crc, b);
        }

        BinaryPrimitives.WriteUInt32LittleEndian(header[4..], ~crc);
    }
}
