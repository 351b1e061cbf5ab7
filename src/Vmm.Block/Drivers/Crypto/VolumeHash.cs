using System.Security.Cryptography;
using Vmm.Interop;
using Vmm.Qapi;

namespace Vmm.Block.Drivers.Crypto;

/// <summary>A hash of volumes, and keys that passwords make with it. The formats prescribe which; nothing here relies on its strength. Any thread.</summary>
internal sealed class VolumeHash
{
    private const int MaxDigest = 64;

    private readonly HashAlgorithmName _name;
    private readonly NettleHash? _nettle;

    private VolumeHash(HashAlgorithmName name, int digestBytes)
    {
        _name = name;
        DigestBytes = digestBytes;
    }

    private VolumeHash(NettleHash nettle)
    {
        _nettle = nettle;
        DigestBytes = nettle.DigestBytes;
    }

    /// <summary>Bytes of a hash.</summary>
    internal int DigestBytes { get; }

    /// <summary>The hash of that name.</summary>
    /// <exception cref="QapiException">There is none, or no library for it.</exception>
    internal static VolumeHash Find(string name) => name switch
    {
        "sha1" => new VolumeHash(HashAlgorithmName.SHA1, 20),
        "sha256" => new VolumeHash(HashAlgorithmName.SHA256, 32),
        "sha384" => new VolumeHash(HashAlgorithmName.SHA384, 48),
        "sha512" => new VolumeHash(HashAlgorithmName.SHA512, 64),
        "md5" or "sha224" or "ripemd160" when NettleHash.TryFind(name) is { } nettle => new VolumeHash(nettle),
        _ => throw new QapiException($"Hash algorithm '{name}' not supported"),
    };

    /// <summary>Hashes bytes.</summary>
    /// <param name="data">The bytes.</param>
    /// <param name="digest">Where the beginning of the hash goes, at most <see cref="DigestBytes"/>.</param>
    internal void Hash(ReadOnlySpan<byte> data, Span<byte> digest)
    {
        if (_nettle is not null)
        {
            _nettle.Hash(data, digest);
            return;
        }

        Span<byte> whole = stackalloc byte[MaxDigest];
        CryptographicOperations.HashData(_name, data, whole);
        whole[..digest.Length].CopyTo(digest);
    }

    /// <summary>Hashes bytes.</summary>
    internal byte[] Hash(ReadOnlySpan<byte> data)
    {
        byte[] digest = new byte[DigestBytes];
        Hash(data, digest);
        return digest;
    }

    /// <summary>A key or digest made of a password: PBKDF2 (RFC 8018, 5.2).</summary>
    internal byte[] Derive(ReadOnlySpan<byte> password, ReadOnlySpan<byte> salt, uint iterations, int length)
    {
        byte[] key = new byte[length];
        if (_nettle is not null)
        {
            _nettle.Derive(password, salt, iterations, key);
        }
        else
        {
            Rfc2898DeriveBytes.Pbkdf2(password, salt, key, (int)Math.Min(iterations, int.MaxValue), _name);
        }

        return key;
    }
}
