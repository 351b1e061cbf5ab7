using System.Buffers.Binary;

namespace Vmm.Block.Drivers.Crypto;

/// <summary>Encrypts and decrypts sectors of 512 bytes. One call at a time; no allocation in steady state.</summary>
internal sealed class SectorCipher : IDisposable
{
    /// <summary>Most bytes of a call.</summary>
    internal const int ChunkBytes = 32 << 10;

    private const int MaxBlock = 16;
    private const int Sector = LuksHeader.SectorBytes;

    private readonly CipherSpec _spec;
    private readonly int _block;
    private readonly BlockTransform _encrypt;
    private readonly BlockTransform _decrypt;
    private readonly BlockTransform? _vectors;
    private readonly BlockTransform? _tweakCipher;
    private readonly byte[] _data = new byte[ChunkBytes];
    private readonly byte[] _result = new byte[ChunkBytes];
    private readonly byte[] _tweaks = new byte[ChunkBytes];
    private readonly byte[] _numbers = new byte[ChunkBytes / Sector * MaxBlock];
    private readonly byte[] _starts = new byte[ChunkBytes / Sector * MaxBlock];

    /// <summary>A cipher with a key.</summary>
    internal SectorCipher(CipherSpec spec, ReadOnlySpan<byte> key)
    {
        _spec = spec;
        _block = spec.BlockBytes;
        _encrypt = BlockTransform.Create(spec.Family, key[..spec.KeyBytes], encrypts: true);
        _decrypt = BlockTransform.Create(spec.Family, key[..spec.KeyBytes], encrypts: false);
        if (spec.Mode == CipherMode.Xts)
        {
            _tweakCipher = BlockTransform.Create(spec.Family, key.Slice(spec.KeyBytes, spec.KeyBytes), encrypts: true);
        }

        if (spec.Vector == VectorKind.Essiv)
        {
            _vectors = BlockTransform.Create(spec.Family, VolumeHash.Find(spec.VectorHash!).Hash(key), encrypts: true);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _encrypt.Dispose();
        _decrypt.Dispose();
        _vectors?.Dispose();
        _tweakCipher?.Dispose();
    }

    /// <summary>Encrypts whole sectors in place.</summary>
    /// <param name="sector">Number of the first.</param>
    /// <param name="data">The sectors, at most <see cref="ChunkBytes"/>.</param>
    internal void Encrypt(ulong sector, Span<byte> data)
    {
        if (_spec.Mode == CipherMode.Ctr)
        {
            Count(sector, data);
            return;
        }

        data.CopyTo(_data);
        MakeVectors(sector, data.Length);
        switch (_spec.Mode)
        {
            case CipherMode.Xts:
                Xor(_data, _tweaks, data.Length);
                _encrypt.Run(_data, 0, data.Length, _result);
                Xor(_result, _tweaks, data.Length);
                break;
            case CipherMode.Cbc:
                for (int i = 0; i < data.Length; i += _block)
                {
                    ReadOnlySpan<byte> before = i % Sector == 0 ? Start(i) : _result.AsSpan(i - _block, _block);
                    Xor(_data.AsSpan(i, _block), before);
                    _encrypt.Run(_data, i, _block, _result);
                }

                break;
            default:
                _encrypt.Run(_data, 0, data.Length, _result);
                break;
        }

        _result.AsSpan(0, data.Length).CopyTo(data);
    }

    /// <summary>Decrypts whole sectors in place; see <see cref="Encrypt"/>.</summary>
    internal void Decrypt(ulong sector, Span<byte> data)
    {
        if (_spec.Mode == CipherMode.Ctr)
        {
            Count(sector, data);
            return;
        }

        data.CopyTo(_data);
        MakeVectors(sector, data.Length);
        if (_spec.Mode == CipherMode.Xts)
        {
            Xor(_data, _tweaks, data.Length);
        }

        _decrypt.Run(_data, 0, data.Length, _result);
        if (_spec.Mode == CipherMode.Xts)
        {
            Xor(_result, _tweaks, data.Length);
        }
        else if (_spec.Mode == CipherMode.Cbc)
        {
            for (int i = 0; i < data.Length; i += _block)
            {
                Xor(_result.AsSpan(i, _block), i % Sector == 0 ? Start(i) : _data.AsSpan(i - _block, _block));
            }
        }

        _result.AsSpan(0, data.Length).CopyTo(data);
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
        for (int i = MaxBlock; i < tweaks.Length; i += MaxBlock)
        {
            ulong carry = (ulong)((long)high >> 63) & 0x87;
            high = (high << 1) | (low >> 63);
            low = (low << 1) ^ carry;
            BinaryPrimitives.WriteUInt64LittleEndian(tweaks[i..], low);
            BinaryPrimitives.WriteUInt64LittleEndian(tweaks[(i + 8)..], high);
        }
    }

    private Span<byte> Start(int offset) => _starts.AsSpan(offset / Sector * _block, _block);

    // Both directions: what sectors begin with is a number, big-endian, that each block has one more of.
    private void Count(ulong sector, Span<byte> data)
    {
        MakeVectors(sector, data.Length);
        for (int i = 0; i < data.Length; i += _block)
        {
            Span<byte> number = Start(i);
            number.CopyTo(_data.AsSpan(i));
            for (int digit = _block - 1; digit >= 0 && ++number[digit] == 0; digit--)
            {
            }
        }

        _encrypt.Run(_data, 0, data.Length, _result);
        Xor(data, _result);
    }

    private void MakeVectors(ulong sector, int length)
    {
        if (_spec.Mode == CipherMode.Ecb)
        {
            return;
        }

        int bytes = length / Sector * _block;
        _numbers.AsSpan(0, bytes).Clear();
        for (int i = 0; i < bytes; i += _block, sector++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(_numbers.AsSpan(i), _spec.Vector == VectorKind.Plain ? (uint)sector : sector);
        }

        byte[] starts = _numbers;
        if (_vectors is not null)
        {
            _vectors.Run(_numbers, 0, bytes, _starts);
            starts = _starts;
        }

        if (_spec.Mode != CipherMode.Xts)
        {
            starts.AsSpan(0, bytes).CopyTo(_starts);
            return;
        }

        if (starts == _starts)
        {
            _starts.AsSpan(0, bytes).CopyTo(_numbers);
        }

        _tweakCipher!.Run(_numbers, 0, bytes, _starts);
        for (int i = 0; i < bytes / MaxBlock; i++)
        {
            Span<byte> tweaks = _tweaks.AsSpan(i * Sector, Sector);
            _starts.AsSpan(i * MaxBlock, MaxBlock).CopyTo(tweaks);
            Spread(tweaks);
        }
    }
}
