using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;

namespace Vmm.Block.Drivers.Qcow2;

/// <content>Writes of compressed clusters. They are packed one behind the other, several into a cluster of the file.</content>
public sealed partial class Qcow2Driver
{
    /// <inheritdoc/>
    public override async IoTask<int> WriteCompressedAsync(long offset, IoVectors? data)
    {
        if (Header.HasDataFile || _crypto is not null)
        {
            return BlockResult.NotSupported;
        }

        if (data is null || data.Size == 0)
        {
            return 0;
        }

        long end = offset + data.Size;
        if ((offset & (Header.ClusterBytes - 1)) != 0 || end > Header.Size || ((end & (Header.ClusterBytes - 1)) != 0 && end != Header.Size))
        {
            return BlockResult.Invalid;
        }

        int result = 0;
        for (long done = 0; done < data.Size && result >= 0; done += Header.ClusterBytes)
        {
            IoVectors part = IoVectors.RentSlice(data, done, Math.Min(Header.ClusterBytes, data.Size - done));
            result = await CompressClusterAsync(offset + done, part);
            part.Return();
        }

        return result;
    }

    private async IoTask<int> CompressClusterAsync(long offset, IoVectors data)
    {
        Qcow2CodecWork codec = RentCodec();
        codec.IsCompress = true;
        data.CopyTo(0, codec.Cluster.Span[..(int)data.Size]);
        codec.Cluster.Span[(int)data.Size..].Clear();
        int result = (int)await codec.RunAsync(_workers);
        if (result == -(int)Errno.ENOMEM)
        {
            // It would not get smaller.
            result = await WritePartsAsync(offset, data);
        }
        else if (result >= 0)
        {
            result = await WritePackedAsync(offset, codec.Packed, codec.PackedBytes);
        }

        ReturnCodec(codec);
        return result;
    }

    private async IoTask<int> WritePackedAsync(long offset, NativeBuffer packed, int bytes)
    {
        await _lock.EnterAsync();
        await WaitForAllAllocationsAsync(offset, Header.ClusterBytes);
        long place = 0;
        int result = _isFailed ? BlockResult.NoMedium : await EnsureTableAsync(offset);
        if (result >= 0)
        {
            place = await AllocateBytesAsync(bytes);
            result = (int)Math.Min(place, 0);
        }

        if (result < 0)
        {
            _lock.Exit();
            return result;
        }

        Qcow2Allocation allocation = RentAllocation();
        allocation.GuestOffset = offset;
        allocation.GuestEnd = offset + Header.ClusterBytes;
        _allocations.Add(allocation);
        _lock.Exit();
        await _file.DebugAsync(BlkdebugEvent.WriteCompressed);
        result = await _file.WriteAsync(place, packed, 0, bytes);
        await _lock.EnterAsync();
        result = result < 0 ? result : await LinkPackedAsync(offset, _mapping.CompressedEntry(place, bytes));
        if (result < 0)
        {
            await _metadata.FreeNowAsync(place, bytes);
        }

        _allocations.Remove(allocation);
        allocation.Waiters.WakeAll();
        ReturnAllocation(allocation);
        _lock.Exit();
        return result;
    }

    private async IoTask<int> LinkPackedAsync(long offset, ulong entry)
    {
        int result = await MarkStaleAsync();
        if (result >= 0)
        {
            result = await EnsureTableAsync(offset);
        }

        if (result >= 0)
        {
            result = await _mapping.LoadAsync(offset);
        }

        if (result < 0)
        {
            return result;
        }

        Qcow2Cache.Slot slot = _mapping.Slices.Find(_mapping.SliceOffset(offset))!;
        int index = _mapping.SliceIndex(offset);
        ulong old = _mapping.Entry(slot.Span, index);
        _mapping.SetEntry(slot.Span, index, entry);
        _mapping.SetBitmap(slot.Span, index, 0);
        _mapping.Slices.MarkDirty(slot);
        FreeEntry(old, Qcow2FreeReason.Other);
        return 0;
    }

    /// <summary>Finds room for compressed data and counts it once for each cluster that it touches.</summary>
    private async IoTask<long> AllocateBytesAsync(int bytes)
    {
        Qcow2Refcounts refcounts = _metadata.Refcounts;
        long offset = _metadata.PackOffset;
        long rest = offset == 0 ? 0 : Header.ClusterBytes - (offset & (Header.ClusterBytes - 1));
        if (rest > 0)
        {
            var (failed, count) = await refcounts.GetAsync(offset >> Header.ClusterBits);
            if (failed < 0)
            {
                return failed;
            }

            rest = count == refcounts.Max ? 0 : rest;
        }

        int result = 0;
        if (rest >= bytes)
        {
            result = await refcounts.UpdateAsync(offset, bytes, isUp: true);
        }
        else if (rest > 0 && await refcounts.AllocateAtAsync(offset + rest, 1) == 1)
        {
            result = await refcounts.UpdateAsync(offset, rest, isUp: true);
            if (result < 0)
            {
                await _metadata.FreeNowAsync(offset + rest, 1);
            }
        }
        else
        {
            offset = await refcounts.AllocateAsync(1);
            result = (int)Math.Min(offset, 0);
        }

        if (result < 0)
        {
            return result;
        }

        long next = offset + bytes;
        _metadata.PackOffset = (next & (Header.ClusterBytes - 1)) == 0 ? 0 : next;
        return offset;
    }
}
