namespace Vmm.ObjectModel.Objects;

/// <summary>
/// AES-256 decryption in CBC mode (FIPS 197, NIST SP 800-38A). Secrets are small and few, so the code is plain and the tables are
/// computed when first needed; the product carries no cryptography library for it.
/// </summary>
internal static class AesCbc
{
    /// <summary>Key length in bytes.</summary>
    public const int KeySize = 32;

    /// <summary>Block length in bytes.</summary>
    public const int BlockSize = 16;

    private const int Rounds = 14;

    /// <summary>Decrypts whole blocks; padding stays.</summary>
    /// <param name="key">32 bytes.</param>
    /// <param name="iv">16 bytes.</param>
    /// <param name="data">A multiple of 16 bytes.</param>
    public static byte[] Decrypt(ReadOnlySpan<byte> key, ReadOnlySpan<byte> iv, ReadOnlySpan<byte> data)
    {
        byte[] sbox = SBox();
        var inverse = new byte[256];
        for (int i = 0; i < 256; i++)
        {
            inverse[sbox[i]] = (byte)i;
        }

        byte[] schedule = Expand(key, sbox);
        var result = new byte[data.Length];
        Span<byte> state = stackalloc byte[BlockSize];
        ReadOnlySpan<byte> previous = iv;
        for (int at = 0; at < data.Length; at += BlockSize)
        {
            ReadOnlySpan<byte> block = data.Slice(at, BlockSize);
            block.CopyTo(state);
            DecryptBlock(state, schedule, inverse);
            for (int i = 0; i < BlockSize; i++)
            {
                result[at + i] = (byte)(state[i] ^ previous[i]);
            }

            previous = block;
        }

        return result;
    }

    private static byte[] SBox()
    {
        var sbox = new byte[256];
        byte p = 1;
        byte q = 1;
        do
        {
            // p runs through the field as powers of 3, q through the inverses.
            p = (byte)(p ^ (p << 1) ^ ((p & 0x80) != 0 ? 0x1b : 0));
            q ^= (byte)(q << 1);
            q ^= (byte)(q << 2);
            q ^= (byte)(q << 4);
            q ^= (byte)((q & 0x80) != 0 ? 0x09 : 0);
            int x = q ^ RotateLeft(q, 1) ^ RotateLeft(q, 2) ^ RotateLeft(q, 3) ^ RotateLeft(q, 4);
            sbox[p] = (byte)(x ^ 0x63);
        }
        while (p != 1);

        sbox[0] = 0x63;
        return sbox;
    }

    private static int RotateLeft(byte value, int by) => ((value << by) | (value >> (8 - by))) & 0xff;

    private static byte[] Expand(ReadOnlySpan<byte> key, byte[] sbox)
    {
        var w = new byte[BlockSize * (Rounds + 1)];
        key.CopyTo(w);
        byte rcon = 1;
        Span<byte> t = stackalloc byte[4];
        for (int i = KeySize; i < w.Length; i += 4)
        {
            w.AsSpan(i - 4, 4).CopyTo(t);
            if (i % KeySize == 0)
            {
                (t[0], t[1], t[2], t[3]) = ((byte)(sbox[t[1]] ^ rcon), sbox[t[2]], sbox[t[3]], sbox[t[0]]);
                rcon <<= 1;
            }
            else if (i % KeySize == 16)
            {
                (t[0], t[1], t[2], t[3]) = (sbox[t[0]], sbox[t[1]], sbox[t[2]], sbox[t[3]]);
            }

            for (int j = 0; j < 4; j++)
            {
                w[i + j] = (byte)(w[i + j - KeySize] ^ t[j]);
            }
        }

        return w;
    }

    private static void DecryptBlock(Span<byte> s, ReadOnlySpan<byte> schedule, byte[] inverse)
    {
        AddKey(s, schedule, Rounds);
        Span<byte> t = stackalloc byte[BlockSize];
        for (int round = Rounds - 1; round >= 0; round--)
        {
            // Inverse ShiftRows and SubBytes: row r moves right by r columns.
            for (int column = 0; column < 4; column++)
            {
                for (int row = 0; row < 4; row++)
                {
                    t[(((column + row) & 3) * 4) + row] = inverse[s[(column * 4) + row]];
                }
            }

            t.CopyTo(s);
            AddKey(s, schedule, round);
            if (round > 0)
            {
                InverseMixColumns(s);
            }
        }
    }

    private static void AddKey(Span<byte> s, ReadOnlySpan<byte> schedule, int round)
    {
        for (int i = 0; i < BlockSize; i++)
        {
            s[i] ^= schedule[(round * BlockSize) + i];
        }
    }

    private static void InverseMixColumns(Span<byte> s)
    {
        for (int i = 0; i < BlockSize; i += 4)
        {
            byte a = s[i];
            byte b = s[i + 1];
            byte c = s[i + 2];
            byte d = s[i + 3];
            s[i] = (byte)(Multiply(a, 14) ^ Multiply(b, 11) ^ Multiply(c, 13) ^ Multiply(d, 9));
            s[i + 1] = (byte)(Multiply(a, 9) ^ Multiply(b, 14) ^ Multiply(c, 11) ^ Multiply(d, 13));
            s[i + 2] = (byte)(Multiply(a, 13) ^ Multiply(b, 9) ^ Multiply(c, 14) ^ Multiply(d, 11));
            s[i + 3] = (byte)(Multiply(a, 11) ^ Multiply(b, 13) ^ Multiply(c, 9) ^ Multiply(d, 14));
        }
    }

    private static byte Multiply(byte a, int factor)
    {
        int product = 0;
        int x = a;
        for (; factor != 0; factor >>= 1)
        {
            if ((factor & 1) != 0)
            {
                product ^= x;
            }

            x = (x << 1) ^ ((x & 0x80) != 0 ? 0x11b : 0);
        }

        return (byte)product;
    }
}
