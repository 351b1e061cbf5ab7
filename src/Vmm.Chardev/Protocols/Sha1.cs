using System.Buffers.Binary;
using System.Numerics;

namespace Vmm.Chardevs;

/// <summary>
/// SHA-1 (FIPS 180-4 section 6.1) of a short message, for the websocket handshake; the class library's one would load a cryptography
/// library into the process. Not for security.
/// </summary>
internal static class Sha1
{
    /// <summary>Length of a digest in bytes.</summary>
    internal const int DigestSize = 20;

    /// <summary>Writes the digest of <paramref name="message"/>.</summary>
    internal static void Hash(ReadOnlySpan<byte> message, Span<byte> digest)
    {
        Span<uint> h = [0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0];
        Span<byte> block = stackalloc byte[64];
        int whole = message.Length / 64;
        for (int i = 0; i < whole; i++)
        {
            Compress(h, message.Slice(i * 64, 64));
        }

        ReadOnlySpan<byte> rest = message[(whole * 64)..];
        block.Clear();
        rest.CopyTo(block);
        block[rest.Length] = 0x80;
        if (rest.Length >= 56)
        {
            Compress(h, block);
            block.Clear();
        }

        BinaryPrimitives.WriteUInt64BigEndian(block[56..], (ulong)message.Length * 8);
        Compress(h, block);
        for (int i = 0; i < 5; i++)
        {
            BinaryPrimitives.WriteUInt32BigEndian(digest[(i * 4)..], h[i]);
        }
    }

    private static void Compress(Span<uint> h, ReadOnlySpan<byte> block)
    {
        Span<uint> w = stackalloc uint[80];
        for (int t = 0; t < 16; t++)
        {
            w[t] = BinaryPrimitives.ReadUInt32BigEndian(block[(t * 4)..]);
        }

        for (int t = 16; t < 80; t++)
        {
            w[t] = BitOperations.RotateLeft(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1);
        }

        (uint a, uint b, uint c, uint d, uint e) = (h[0], h[1], h[2], h[3], h[4]);
        for (int t = 0; t < 80; t++)
        {
            (uint f, uint k) = (t / 20) switch
            {
                0 => ((b & c) | (~b & d), 0x5A827999u),
                1 => (b ^ c ^ d, 0x6ED9EBA1u),
                2 => ((b & c) | (b & d) | (c & d), 0x8F1BBCDCu),
                _ => (b ^ c ^ d, 0xCA62C1D6u),
            };
            uint next = BitOperations.RotateLeft(a, 5) + f + e + k + w[t];
            (e, d, c, b, a) = (d, c, BitOperations.RotateLeft(b, 30), a, next);
        }

        h[0] += a;
        h[1] += b;
        h[2] += c;
        h[3] += d;
        h[4] += e;
    }
}
