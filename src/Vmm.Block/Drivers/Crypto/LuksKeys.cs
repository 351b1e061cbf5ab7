using System.Buffers.Binary;
using System.Diagnostics;
using System.Security.Cryptography;
using Vmm.EventLoop.Tasks;

namespace Vmm.Block.Drivers.Crypto;

/// <summary>Master keys in key slots: split so that a part of the slot says nothing, and encrypted with a key that a password makes.</summary>
internal static class LuksKeys
{
    /// <summary>The master key of a slot; null when the password is another one.</summary>
    /// <param name="header">The header.</param>
    /// <param name="slot">An active slot of it.</param>
    /// <param name="material">The slot's sectors; they are overwritten.</param>
    /// <param name="password">The password.</param>
    internal static byte[]? Unlock(LuksHeader header, LuksSlot slot, byte[] material, byte[] password)
    {
        VolumeHash hash = VolumeHash.Find(header.Hash);
        byte[] slotKey = hash.Derive(password, slot.Salt, slot.Iterations, header.KeyBytes);
        using (SectorCipher cipher = new(header.Cipher, slotKey))
        {
            Apply(cipher, material, encrypt: false);
        }

        byte[] key = Merge(hash, material, header.KeyBytes);
        byte[] digest = hash.Derive(key, header.DigestSalt, header.DigestIterations, LuksHeader.DigestBytes);
        return CryptographicOperations.FixedTimeEquals(digest, header.Digest) ? key : null;
    }

    /// <summary>The sectors of a slot with a master key.</summary>
    internal static byte[] Lock(LuksHeader header, LuksSlot slot, byte[] key, byte[] password)
    {
        byte[] material = new byte[LuksHeader.SplitSectors(header.KeyBytes) * LuksHeader.SectorBytes];
        VolumeHash hash = VolumeHash.Find(header.Hash);
        Split(hash, key, material);
        byte[] slotKey = hash.Derive(password, slot.Salt, slot.Iterations, header.KeyBytes);
        using SectorCipher cipher = new(header.Cipher, slotKey);
        Apply(cipher, material, encrypt: true);
        return material;
    }

    /// <summary>Iterations that take a time on this host, at least 1000.</summary>
    internal static uint Count(VolumeHash hash, int length, ulong milliseconds)
    {
        byte[] salt = new byte[LuksHeader.SaltBytes];
        uint iterations = 1 << 12;
        while (true)
        {
            long start = Stopwatch.GetTimestamp();
            hash.Derive(salt, salt, iterations, length);
            double spent = Stopwatch.GetElapsedTime(start).TotalMilliseconds;
            if (spent >= 20 || iterations >= 1 << 24)
            {
                double wanted = iterations / Math.Max(spent, 0.001) * milliseconds;
                return (uint)Math.Clamp(wanted, 1000, uint.MaxValue / 2);
            }

            iterations *= 2;
        }
    }

    private static void Apply(SectorCipher cipher, byte[] material, bool encrypt)
    {
        for (int at = 0; at < material.Length; at += SectorCipher.ChunkBytes)
        {
            Span<byte> part = material.AsSpan(at, Math.Min(SectorCipher.ChunkBytes, material.Length - at));
            if (encrypt)
            {
                cipher.Encrypt((ulong)(at / LuksHeader.SectorBytes), part);
            }
            else
            {
                cipher.Decrypt((ulong)(at / LuksHeader.SectorBytes), part);
            }
        }
    }

    // All stripes but the last are random; the last is the key, hidden by all others.
    private static void Split(VolumeHash hash, ReadOnlySpan<byte> key, Span<byte> material)
    {
        byte[] mixed = new byte[key.Length];
        for (int i = 0; i < LuksHeader.Stripes - 1; i++)
        {
            Span<byte> stripe = material.Slice(i * key.Length, key.Length);
            RandomNumberGenerator.Fill(stripe);
            Mix(hash, mixed, stripe);
        }

        Span<byte> last = material.Slice((LuksHeader.Stripes - 1) * key.Length, key.Length);
        for (int i = 0; i < key.Length; i++)
        {
            last[i] = (byte)(mixed[i] ^ key[i]);
        }
    }

    private static byte[] Merge(VolumeHash hash, ReadOnlySpan<byte> material, int keyBytes)
    {
        byte[] mixed = new byte[keyBytes];
        for (int i = 0; i < LuksHeader.Stripes - 1; i++)
        {
            Mix(hash, mixed, material.Slice(i * keyBytes, keyBytes));
        }

        ReadOnlySpan<byte> last = material.Slice((LuksHeader.Stripes - 1) * keyBytes, keyBytes);
        for (int i = 0; i < keyBytes; i++)
        {
            mixed[i] ^= last[i];
        }

        return mixed;
    }

    private static void Mix(VolumeHash hash, Span<byte> mixed, ReadOnlySpan<byte> stripe)
    {
        for (int i = 0; i < mixed.Length; i++)
        {
            mixed[i] ^= stripe[i];
        }

        // Each part is hashed with its number.
        Span<byte> input = stackalloc byte[4 + 64];
        for (int at = 0, number = 0; at < mixed.Length; at += hash.DigestBytes, number++)
        {
            int length = Math.Min(hash.DigestBytes, mixed.Length - at);
            BinaryPrimitives.WriteInt32BigEndian(input, number);
            mixed.Slice(at, length).CopyTo(input[4..]);
            hash.Hash(input[..(4 + length)], mixed.Slice(at, length));
        }
    }
}

/// <summary>Tries a password on one slot, on a worker thread. One use.</summary>
internal sealed class LuksUnlockWork(LuksHeader header, LuksSlot slot, byte[] material, byte[] password) : LoopWork
{
    /// <summary>The master key; null when the password is another one.</summary>
    internal byte[]? Key { get; private set; }

    /// <inheritdoc/>
    protected override long Execute()
    {
        Key = LuksKeys.Unlock(header, slot, material, password);
        return 0;
    }
}
