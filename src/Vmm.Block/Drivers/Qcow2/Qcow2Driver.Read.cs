using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;

namespace Vmm.Block.Drivers.Qcow2;

/// <content>Reads, and what ranges hold.</content>
public sealed partial class Qcow2Driver
{
    private bool? _hasHoles;

    private bool _isCorruptionTold;

    // As many as run at once without waiting for each other; each has memory for three clusters.
    private const int MaxIdleCodecs = 4;

    /// <inheritdoc/>
    public override IoTask<int> ReadAsync(long offset, IoVectors data, BlockRequestFlags flags)
    {
        if (_mapping.TryLookup(offset, data.Size, out Qcow2Extent extent) && extent.Kind == Qcow2Kind.Normal && extent.Bytes == data.Size && !_isFailed
            && (!Header.HasDataFile || extent.HostOffset == offset))
        {
            return ReadPlaceAsync(extent.HostOffset, data);
        }

        return ReadPartsAsync(offset, data);
    }

    /// <inheritdoc/>
    public override async IoTask<BlockStatus> StatusAsync(long offset, long bytes, bool wantZero)
    {
        if (_isFailed)
        {
            return BlockStatus.Error(BlockResult.NoMedium);
        }

        var (result, extent) = await FindAsync(offset, bytes);
        if (result < 0)
        {
            return BlockStatus.Error(result);
        }

        bool mayHaveHoles = wantZero && extent.Kind == Qcow2Kind.Normal && await HasHolesAsync();
        BlockStatusFlags flags = extent.Kind switch
        {
            Qcow2Kind.Zero or Qcow2Kind.ZeroPlaced => BlockStatusFlags.Zero,
            Qcow2Kind.Normal when mayHaveHoles => BlockStatusFlags.Data | BlockStatusFlags.Recurse,
            Qcow2Kind.Normal => BlockStatusFlags.Data,
            Qcow2Kind.Compressed => BlockStatusFlags.Data | BlockStatusFlags.Compressed,
            _ => BlockStatusFlags.None,
        };
        return extent.Kind is Qcow2Kind.Normal or Qcow2Kind.ZeroPlaced or Qcow2Kind.UnallocatedPlaced
            ? new BlockStatus(flags | BlockStatusFlags.OffsetValid, extent.Bytes, extent.HostOffset, Data)
            : new BlockStatus(flags, extent.Bytes);
    }

    // Clusters that were allocated in advance are holes of the file until they are written. Where the file has next to no holes it is not asked
    // about each range; holes of an encrypted image do not read as zeroes.
    private async IoTask<bool> HasHolesAsync()
    {
        if (_hasHoles is { } known)
        {
            return known;
        }

        long allocated = _file.Node.Driver.GetAllocatedBytes();
        long length = await _file.Node.Driver.GetLengthAsync();
        bool hasHoles = _crypto is null && !Header.HasDataFile && allocated >= 0
            && length - allocated > Math.Max(allocated / 9, 2L * Header.ClusterBytes);
        _hasHoles = hasHoles;
        return hasHoles;
    }

    private async IoTask<int> ReadPlaceAsync(long place, IoVectors data)
    {
        int phase = _limbo.Enter();
        await _file.DebugAsync(BlkdebugEvent.ReadAio);
        int result = await ReadDataAsync(place, data);
        _limbo.Leave(phase);
        return result;
    }

    private async IoTask<int> ReadPartsAsync(long offset, IoVectors data)
    {
        if (_isFailed)
        {
            return BlockResult.NoMedium;
        }

        int phase = _limbo.Enter();
        int result = 0;
        for (long done = 0; done < data.Size && result >= 0;)
        {
            (result, Qcow2Extent extent) = await FindAsync(offset + done, data.Size - done);
            if (result < 0)
            {
                break;
            }

            if (extent.Bytes == data.Size)
            {
                result = await ReadExtentAsync(offset, extent, data);
                break;
            }

            IoVectors part = IoVectors.RentSlice(data, done, extent.Bytes);
            result = await ReadExtentAsync(offset + done, extent, part);
            part.Return();
            done += extent.Bytes;
        }

        _limbo.Leave(phase);
        return result;
    }

    /// <summary>Looks up the beginning of a range, loading what is needed.</summary>
    private async IoTask<(int Result, Qcow2Extent Extent)> FindAsync(long offset, long bytes)
    {
        if (!_mapping.TryLookup(offset, bytes, out Qcow2Extent extent))
        {
            await _lock.EnterAsync();
            int result = await _mapping.LoadAsync(offset);
            bool isFound = _mapping.TryLookup(offset, bytes, out extent);
            _lock.Exit();
            if (result < 0 || !isFound)
            {
                return (result < 0 ? result : BlockResult.Io, default);
            }
        }

        bool isMisplaced = Header.HasDataFile && (extent.Kind == Qcow2Kind.Compressed || (extent.Kind == Qcow2Kind.Normal && extent.HostOffset != offset));
        return extent.Kind == Qcow2Kind.Invalid || isMisplaced
            ? (ReportInvalid(offset, extent), default)
            : (0, extent);
    }

    private async IoTask<int> ReadExtentAsync(long offset, Qcow2Extent extent, IoVectors data)
    {
        switch (extent.Kind)
        {
            case Qcow2Kind.Normal:
                await _file.DebugAsync(BlkdebugEvent.ReadAio);
                return await ReadDataAsync(extent.HostOffset, data);
            case Qcow2Kind.Compressed:
                return await ReadCompressedAsync(offset, extent, data);
            case Qcow2Kind.Unallocated or Qcow2Kind.UnallocatedPlaced when Node.Backing is { } backing:
                await _file.DebugAsync(BlkdebugEvent.ReadBackingAio);
                return await backing.Node.ReadAsync(offset, data);
            default:
                data.Fill(0, data.Size, 0);
                return 0;
        }
    }

    private async IoTask<int> ReadCompressedAsync(long offset, Qcow2Extent extent, IoVectors data)
    {
        Qcow2CodecWork codec = RentCodec();
        codec.IsCompress = false;
        codec.PackedBytes = Math.Min(_mapping.CompressedBytes(extent.Entry), codec.Packed.Length);
        await _file.DebugAsync(BlkdebugEvent.ReadCompressed);
        int result = await _file.ReadAsync(extent.HostOffset, codec.Packed, 0, codec.PackedBytes);
        if (result >= 0)
        {
            result = (int)await codec.RunAsync(_workers);
        }

        if (result >= 0)
        {
            data.CopyFrom(0, codec.Cluster.Span.Slice((int)(offset & (Header.ClusterBytes - 1)), (int)data.Size));
        }

        ReturnCodec(codec);
        return result;
    }

    private void ReturnCodec(Qcow2CodecWork codec)
    {
        if (_codecs.Count < MaxIdleCodecs)
        {
            _codecs.Push(codec);
        }
        else
        {
            codec.Dispose();
        }
    }

    private Qcow2CodecWork RentCodec() => _codecs.TryPop(out Qcow2CodecWork? codec) ? codec : new Qcow2CodecWork(Header.Compression)
    {
        Cluster = new NativeBuffer(Header.ClusterBytes),

        // What is not compressible is not compressed; foreign images may have it longer, by the sector in which it begins.
        Packed = new NativeBuffer((2 * Header.ClusterBytes) + 1024),
    };

    private int ReportInvalid(long offset, Qcow2Extent extent, bool isWrite = false)
    {
        long l1 = _mapping.L1Index(offset);
        ulong l1Entry = l1 < _mapping.L1.Length ? _mapping.L1[(int)l1] : 0;
        long table = (long)(l1Entry & Qcow2Format.OffsetMask);
        string where = $"(L2 offset: {Qcow2Text.Hex(table)}, L2 index: {Qcow2Text.Hex(_mapping.SliceIndex(offset))})";
        bool isUnaligned = (extent.Entry & Qcow2Format.OffsetMask & (ulong)(Header.ClusterBytes - 1)) != 0;
        string message;
        if ((table & (Header.ClusterBytes - 1)) != 0)
        {
            message = TableUnaligned(l1, table);
        }
        else if (extent.Kind == Qcow2Kind.Compressed)
        {
            message = $"Compressed cluster entry found in image with external data file {where}";
        }
        else if (extent.Kind == Qcow2Kind.Normal)
        {
            long inCluster = offset & (Header.ClusterBytes - 1);
            message = $"External data file host cluster offset {Qcow2Text.Hex(extent.HostOffset - inCluster)} does not match guest cluster offset: "
                + $"{Qcow2Text.Hex(offset - inCluster)}, L2 index: {Qcow2Text.Hex(_mapping.SliceIndex(offset))})";
        }
        else if (!isUnaligned)
        {
            message = $"Invalid cluster entry found {(isWrite ? "" : " ")}{where}";
        }
        else if (isWrite)
        {
            string what = (extent.Entry & Qcow2Format.ZeroFlag) != 0 && !_mapping.HasSubclusters ? "Preallocated zero" : "Data";
            message = $"{what} cluster offset {Qcow2Text.Hex(extent.HostOffset)} unaligned (guest offset: {Qcow2Text.Hex(offset & ~(Header.ClusterBytes - 1L))})";
        }
        else
        {
            message = $"Cluster allocation offset {Qcow2Text.Hex(extent.HostOffset)} unaligned {where}";
        }

        Corrupt(isFatal: true, -1, -1, message);
        return BlockResult.Io;
    }

    private static string TableUnaligned(long l1Index, long table) =>
        $"L2 table offset {Qcow2Text.Hex(table)} unaligned (L1 index: {Qcow2Text.Hex(l1Index)})";

    /// <summary>
    /// The image contradicts itself. One that is written is used no more; of one that is only read, other parts may be good. Told once.
    /// </summary>
    private void Corrupt(bool isFatal, long offset, long bytes, string message)
    {
        isFatal &= !Node.IsReadOnly;
        if (_isFailed || (_isCorruptionTold && !isFatal))
        {
            return;
        }

        _isCorruptionTold = true;
        if (isFatal)
        {
            _isFailed = true;
            if (Header.Version >= 3 && (Header.Incompatible & Qcow2Incompatible.Corrupt) == 0)
            {
                // A failure to say so changes nothing: the image is not used any more.
                _metadata.SetIncompatibleAsync(Header.Incompatible | Qcow2Incompatible.Corrupt).Forget();
            }
        }

        Node.Graph.ReportCorruption(Node, message, offset, bytes, isFatal);
    }
}
