using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;

namespace Vmm.Block.Drivers.Crypto;

/// <summary>An open LUKS volume: its header, and reads and writes through its cipher. Home: the node's loop.</summary>
internal sealed class LuksVolume : IDisposable
{
    private const int MaxPieceBytes = 1 << 20;

    private readonly SectorCipher _cipher;
    private readonly Stack<NativeBuffer> _buffers = new();
    private readonly byte[] _chunk = new byte[SectorCipher.ChunkBytes];

    private LuksVolume(LuksHeader header, byte[] key)
    {
        Header = header;
        _cipher = new SectorCipher(header.Cipher, key);
    }

    /// <summary>The header as the file has it.</summary>
    internal LuksHeader Header { get; set; }

    /// <inheritdoc/>
    public void Dispose()
    {
        _cipher.Dispose();
        while (_buffers.TryPop(out NativeBuffer? buffer))
        {
            buffer.Dispose();
        }
    }

    /// <summary>Reads a header and finds the master key.</summary>
    /// <param name="file">The node that has the header.</param>
    /// <param name="offset">Where it is.</param>
    /// <param name="password">The password.</param>
    /// <param name="workers">Threads.</param>
    /// <exception cref="QapiException">It is no volume, or the password is wrong.</exception>
    internal static async IoTask<LuksVolume> OpenAsync(BlockNode file, long offset, byte[] password, LoopWorkers workers)
    {
        byte[] bytes = await ReadAsync(file, offset, LuksHeader.Bytes, "Unable to read LUKS header");
        LuksHeader header = LuksHeader.Parse(bytes);
        foreach (LuksSlot slot in header.KeySlots)
        {
            if (await TryUnlockAsync(file, offset, header, slot, password, workers) is { } key)
            {
                return new LuksVolume(header, key);
            }
        }

        throw new QapiException("Invalid password, cannot unlock any keyslot");
    }

    /// <summary>The master key of a slot; null when it has none under this password.</summary>
    internal static async IoTask<byte[]?> TryUnlockAsync(
        BlockNode file, long offset, LuksHeader header, LuksSlot slot, byte[] password, LoopWorkers workers)
    {
        if (!slot.IsActive)
        {
            return null;
        }

        int materialBytes = (int)LuksHeader.SplitSectors(header.KeyBytes) * LuksHeader.SectorBytes;
        byte[] material = await ReadAsync(file, offset + ((long)slot.Sector * LuksHeader.SectorBytes), materialBytes, "Failed to read key material");
        LuksUnlockWork work = new(header, slot, material, password);
        await work.RunAsync(workers);
        return work.Key;
    }

    /// <summary>Reads and decrypts whole sectors.</summary>
    /// <param name="node">The node that has them.</param>
    /// <param name="place">Where, in that node.</param>
    /// <param name="sector">Number of the first sector, as the cipher counts.</param>
    /// <param name="data">The sectors.</param>
    internal async IoTask<int> ReadAsync(BlockNode node, long place, long sector, IoVectors data)
    {
        int result = await node.ReadAsync(place, data);
        for (long done = 0; done < data.Size && result >= 0; done += _chunk.Length)
        {
            Span<byte> chunk = _chunk.AsSpan(0, (int)Math.Min(_chunk.Length, data.Size - done));
            data.CopyTo(done, chunk);
            _cipher.Decrypt((ulong)(sector + (done / LuksHeader.SectorBytes)), chunk);
            data.CopyFrom(done, chunk);
        }

        return result;
    }

    /// <summary>Encrypts and writes whole sectors; see <see cref="ReadAsync(BlockNode, long, long, IoVectors)"/>.</summary>
    internal async IoTask<int> WriteAsync(BlockNode node, long place, long sector, IoVectors data, BlockRequestFlags flags = BlockRequestFlags.None)
    {
        NativeBuffer buffer = _buffers.TryPop(out NativeBuffer? free) ? free : new NativeBuffer(MaxPieceBytes);
        int result = 0;
        for (long done = 0; done < data.Size && result >= 0;)
        {
            int length = (int)Math.Min(MaxPieceBytes, data.Size - done);
            Span<byte> piece = buffer.Span[..length];
            data.CopyTo(done, piece);
            for (int at = 0; at < length; at += SectorCipher.ChunkBytes)
            {
                Span<byte> chunk = piece.Slice(at, Math.Min(SectorCipher.ChunkBytes, length - at));
                _cipher.Encrypt((ulong)(sector + ((done + at) / LuksHeader.SectorBytes)), chunk);
            }

            IoVectors packed = IoVectors.Rent(buffer.Vector(0, length));
            result = await node.WriteAsync(place + done, packed, flags);
            packed.Return();
            done += length;
        }

        _buffers.Push(buffer);
        return result;
    }

    private static async IoTask<byte[]> ReadAsync(BlockNode file, long offset, int length, string what)
    {
        using NativeBuffer buffer = new(length);
        IoVectors data = IoVectors.Rent(buffer.Vector(0, length));
        int result = await file.ReadAsync(offset, data);
        data.Return();
        return result < 0 ? throw new QapiException($"{what}: {BlockResult.Text(result)}") : buffer.Span.ToArray();
    }
}
