using System.Buffers.Binary;
using System.Security.Cryptography;

namespace Vmm.Block.Drivers.Crypto;

/// <summary>Encrypts and decrypts sectors of 512 bytes. One call at a time; no allocation in steady state.</summary>
internal sealed class SectorCipher : IDisposable
{
    /// <summary>Most bytes of a call.</summary>
    internal const int ChunkBytes = 32 << 10;

    private const int Block = 16;
    private const int Sector = LuksHeader.SectorBytes;

    private readonly CipherSpec _spec;
    private readonly List<SymmetricAlgorithm> _algorithms = [];
    private readonly ICryptoTransform _encrypt;
    private readonly ICryptoTransform _decrypt;
    private readonly ICryptoTransform? _vectors;
    private readonly byte[] _data = new byte[ChunkBytes];
    private readonly byte[] _result = new byte[ChunkBytes];
    private readonly byte[] _tweaks = new byte[ChunkBytes];
    private readonly byte[] _numbers = new byte[ChunkBytes / Sector * Block];
    private readonly byte[] _starts = new byte[ChunkBytes / Sector * Block];

    /// <summary>A cipher with a key.</summary>
    internal SectorCipher(CipherSpec spec, ReadOnlySpan<byte> key)
    {
        _spec = spec;
        SymmetricAlgorithm data = Create(key[..spec.KeyBytes]);
        _encrypt = data.CreateEncryptor();
        _decrypt = data.CreateDecryptor();
        if (spec.Mode == CipherMode.Xts)
        {
            Tweaks = Create(key.Slice(spec.KeyBytes, spec.KeyBytes)).CreateEncryptor();
        }

        if (spec.Vector == VectorKind.Essiv)
        {
            _vectors = Create(Hash(spec.VectorHash!, key)).CreateEncryptor();
        }
    }

    private ICryptoTransform? Tweaks { get; }

    /// <inheritdoc/>
    public void Dispose()
    {
        _encrypt.Dispose();
        _decrypt.Dispose();
        _vectors?.Dispose();
        Tweaks?.Dispose();
        foreach (SymmetricAlgorithm algorithm in _algorithms)
        {
            algorithm.Dispose();
        }
    }

    /// <summary>Encrypts whole sectors in place.</summary>
    /// <param name="sector">Number of the first.</param>
    /// <param name="data">The sectors, at most <see cref="ChunkBytes"/>.</param>
    internal void Encrypt(ulong sector, Span<byte> data)
    {
        data.CopyTo(_data);
        MakeVectors(sector, data.Length);
        switch (_spec.Mode)
        {
            case CipherMode.Xts:
                Xor(_data, _tweaks, data.Length);
                _encrypt.TransformBlock(_data, 0, data.Length, _result, 0);
                Xor(_result, _tweaks, data.Length);
                break;
            case CipherMode.Cbc:
                for (int i = 0; i < data.Length; i += Block)
                {
                    ReadOnlySpan<byte> before = i % Sector == 0 ? _starts.AsSpan(i / Sector * Block, Block) : _result.AsSpan(i - Block, Block);
                    Xor(_data.AsSpan(i, Block), before);
                    _encrypt.TransformBlock(_data, i, Block, _result, i);
                }

                break;
            default:
                _encrypt.TransformBlock(_data, 0, data.Length, _result, 0);
                break;
        }

        _result.AsSpan(0, data.Length).CopyTo(data);
    }

    /// <summary>Decrypts whole sectors in place; see <see cref="Encrypt"/>.</summary>
    internal void Decrypt(ulong sector, Span<byte> data)
    {
        data.CopyTo(_data);
        MakeVectors(sector, data.Length);
        if (_spec.Mode == CipherMode.Xts)
        {
            Xor(_data, _tweaks, data.Length);
        }

        _decrypt.TransformBlock(_data, 0, data.Length, _result, 0);
        if (_spec.Mode == CipherMode.Xts)
        {
            Xor(_result, _tweaks, data.Length);
        }
        else if (_spec.Mode == CipherMode.Cbc)
        {
            for (int i = 0; i < data.Length; i += Block)
            {
                Xor(_result.AsSpan(i, Block), i % Sector == 0 ? _starts.AsSpan(i / Sector * Block, Block) : _data.AsSpan(i - Block, Block));
            }
        }

        _result.AsSpan(0, data.Length).CopyTo(data);
    }

    /// <summary>A hash by its name.</summary>
    internal static byte[] Hash(string name, ReadOnlySpan<byte> data) => name switch
    {
        "sha1" => Sha1(data),
        "sha384" => SHA384.HashData(data),
        "sha512" => SHA512.HashData(data),
        _ => SHA256.HashData(data),
    };

    // The format prescribes it; nothing here relies on its strength.
    private static byte[] Sha1(ReadOnlySpan<byte> data)
    {
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA1);
        hash.AppendData(data);
        return hash.GetHashAndReset();
    }

    private static void Xor(byte[] data, byte[] other, int length) => Xor(data.AsSpan(0, length), other.AsSpan(0, length));

    private static void Xor(Span<byte> data, ReadOnlySpan<byte> other)
    {
        for (int i = 0; i < data.Length; i += 8)
        {
            ulong value = BinaryPrimitives.ReadUInt64LittleEndian(data[i..]) ^ BinaryPrimitives.ReadUInt64LittleEndian(other[i..]);
            BinaryPrimitives.WriteUInt64LittleEndian(data[i..], value);
        }
    }

    // The next block's tweak: twice the one before, in GF(2^128) (IEEE 1619, 5.2).
    private static void Spread(Span<byte> tweaks)
    {
        ulong low = BinaryPrimitives.ReadUInt64LittleEndian(tweaks);
        ulong high = BinaryPrimitives.ReadUInt64LittleEndian(tweaks[8..]);
        for (int i = Block; i < tweaks.Length; i += Block)
        {
            ulong carry = (ulong)((long)high >> 63) & 0x87;
            high = (high << 1) | (low >> 63);
            low = (low << 1) ^ carry;
            BinaryPrimitives.WriteUInt64LittleEndian(tweaks[i..], low);
            BinaryPrimitives.WriteUInt64LittleEndian(tweaks[(i + 8)..], high);
        }
    }

    private SymmetricAlgorithm Create(ReadOnlySpan<byte> key)
    {
        Aes aes = Aes.Create();
        aes.Mode = System.Security.Cryptography.CipherMode.ECB;
        aes.Padding = PaddingMode.None;
        aes.Key = key.ToArray();
        _algorithms.Add(aes);
        return aes;
    }

    private void MakeVectors(ulong sector, int length)
    {
        if (_spec.Mode == CipherMode.Ecb)
        {
            return;
        }

        int bytes = length / Sector * Block;
        _numbers.AsSpan(0, bytes).Clear();
        for (int i = 0; i < bytes; i += Block, sector++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(_numbers.AsSpan(i), _spec.Vector == VectorKind.Plain ? (uint)sector : sector);
        }

        byte[] starts = _numbers;
        if (_vectors is not null)
        {
            _vectors.TransformBlock(_numbers, 0, bytes, _starts, 0);
            starts = _starts;
        }

        if (_spec.Mode == CipherMode.Cbc)
        {
            starts.AsSpan(0, bytes).CopyTo(_starts);
            return;
        }

        if (starts == _starts)
        {
            _starts.AsSpan(0, bytes).CopyTo(_numbers);
        }

        Tweaks!.TransformBlock(_numbers, 0, bytes, _starts, 0);
        for (int i = 0; i < bytes / Block; i++)
        {
            Span<byte> tweaks = _tweaks.AsSpan(i * Sector, Sector);
            _starts.AsSpan(i * Block, Block).CopyTo(tweaks);
            Spread(tweaks);
        }
    }
}
