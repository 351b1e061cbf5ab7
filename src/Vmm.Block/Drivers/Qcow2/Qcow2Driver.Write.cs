using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;

namespace Vmm.Block.Drivers.Qcow2;

/// <content>
/// Writes. What has a place of its own is written there. Else clusters are allocated, the parts of them that the guest does not write are
/// copied together with its data in one write, and only then do the tables refer to them.
/// </content>
public sealed partial class Qcow2Driver
{
    private const long MaxIdleCopyBytes = 8 << 20;

    private readonly Stack<Qcow2Allocation> _freeAllocations = new();
    private readonly List<Qcow2Allocation> _allocations = [];

    /// <inheritdoc/>
    public override IoTask<int> WriteAsync(long offset, IoVectors data, BlockRequestFlags flags)
    {
        if (_allocations.Count == 0 && !_isFailed && _mapping.TryLookup(offset, data.Size, out Qcow2Extent extent)
            && extent.Bytes == data.Size && IsInPlace(extent) && CheckPlace(extent) >= 0)
        {
            return WritePlaceAsync(extent.HostOffset, data);
        }

        return WritePartsAsync(offset, data);
    }

    // Nobody else refers to the cluster, and the subcluster has data.
    private static bool IsInPlace(in Qcow2Extent extent) =>
        extent.Kind == Qcow2Kind.Normal && (extent.Entry & Qcow2Format.Copied) != 0;

    // A place that cannot be one, and that others refer to as well: it is left for a new one.
    private bool IsReplaceable(in Qcow2Extent extent) =>
        (extent.Entry & Qcow2Format.Copied) == 0 && (extent.Entry & Qcow2Format.OffsetMask & (ulong)(Header.ClusterBytes - 1)) != 0;

    // A table that refers to metadata as if it were the guest's must not be believed.
    private int CheckPlace(in Qcow2Extent extent) => Header.HasDataFile ? 0 : _metadata.CheckOverlap(extent.HostOffset, extent.Bytes);

    private async IoTask<int> WritePlaceAsync(long place, IoVectors data)
    {
        int phase = _limbo.Enter();
        await _file.DebugAsync(BlkdebugEvent.WriteAio);
        int result = await WriteDataAsync(place, data);
        _limbo.Leave(phase);
        return result;
    }

    private async IoTask<int> WritePartsAsync(long offset, IoVectors data)
    {
        if (offset > Header.Size - data.Size)
        {
            return BlockResult.Io;
        }

        int phase = _limbo.Enter();
        int result = 0;
        for (long done = 0; done < data.Size && result >= 0;)
        {
            long written = await WritePartAsync(offset + done, data, done);
            result = (int)Math.Min(written, 0);
            done += written;
        }

        _limbo.Leave(phase);
        return result;
    }

    /// <summary>Writes the beginning of a range; returns how much of it, or a negative errno.</summary>
    private async IoTask<long> WritePartAsync(long offset, IoVectors data, long done)
    {
        long bytes = Math.Min(data.Size - done, MaxAllocationBytes);
        await _lock.EnterAsync();
        if (_isFailed)
        {
            _lock.Exit();
            return BlockResult.NoMedium;
        }

        bytes = await WaitForAllocationsAsync(offset, bytes);
        int result = await _mapping.LoadAsync(offset);
        Qcow2Extent extent = default;
        if (result >= 0)
        {
            result = _mapping.TryLookup(offset, bytes, out extent) ? 0 : BlockResult.Io;
        }

        if (result >= 0 && extent.Kind == Qcow2Kind.Invalid && !IsReplaceable(extent))
        {
            result = ReportInvalid(offset, extent, isWrite: true);
        }

        if (result < 0)
        {
            _lock.Exit();
            return result;
        }

        if (IsInPlace(extent))
        {
            result = CheckPlace(extent);
            _lock.Exit();
            return result < 0 ? result : await WriteSliceAsync(extent.HostOffset, data, done, extent.Bytes);
        }

        Qcow2Allocation allocation = RentAllocation();
        result = await AllocateAsync(allocation, offset, bytes);
        if (result < 0)
        {
            ReturnAllocation(allocation);
            _lock.Exit();
            return result;
        }

        _allocations.Add(allocation);
        _lock.Exit();
        long written = allocation.DataBytes;
        result = await FillAsync(allocation, data, done);
        await _lock.EnterAsync();
        result = result < 0 ? result : await LinkAsync(allocation);
        if (result < 0 && !allocation.IsReused && !Header.HasDataFile)
        {
            await _metadata.FreeNowAsync(allocation.HostOffset, allocation.HostBytes);
        }

        _allocations.Remove(allocation);
        allocation.Waiters.WakeAll();
        ReturnAllocation(allocation);
        _lock.Exit();
        return result < 0 ? result : written;
    }

    private async IoTask<long> WriteSliceAsync(long place, IoVectors data, long done, long bytes)
    {
        await _file.DebugAsync(BlkdebugEvent.WriteAio);
        if (bytes == data.Size)
        {
            int whole = await WriteDataAsync(place, data);
            return whole < 0 ? whole : bytes;
        }

        IoVectors part = IoVectors.RentSlice(data, done, bytes);
        int result = await WriteDataAsync(place, part);
        part.Return();
        return result < 0 ? result : bytes;
    }

    /// <summary>
    /// Waits, without the lock, until no allocation under way has the first byte's cluster, and returns how much of the range none has.
    /// </summary>
    private async IoTask<long> WaitForAllocationsAsync(long offset, long bytes)
    {
        int i = 0;
        long free = bytes;
        while (i < _allocations.Count)
        {
            Qcow2Allocation other = _allocations[i];
            if (other.GuestOffset >= offset + free || other.GuestEnd <= offset)
            {
                i++;
                continue;
            }

            if (other.GuestOffset > offset)
            {
                free = other.GuestOffset - offset;
                i++;
                continue;
            }

            _lock.Exit();
            await other.Waiters.WaitAsync();
            await _lock.EnterAsync();
            i = 0;
            free = bytes;
        }

        return free;
    }

    /// <summary>Waits, without the lock, until no allocation under way touches a range.</summary>
    private async IoTask WaitForAllAllocationsAsync(long offset, long bytes)
    {
        for (int i = 0; i < _allocations.Count; i++)
        {
            Qcow2Allocation other = _allocations[i];
            if (other.GuestOffset < offset + bytes && offset < other.GuestEnd)
            {
                _lock.Exit();
                await other.Waiters.WaitAsync();
                await _lock.EnterAsync();
                i = -1;
            }
        }
    }

    /// <summary>
    /// Writes the guest's data and what surrounds it in the clusters. Surroundings that are zero already, as the file was never used there,
    /// are left out.
    /// </summary>
    private async IoTask<int> FillAsync(Qcow2Allocation allocation, IoVectors data, long done)
    {
        int head = allocation.HeadBytes;
        int tail = allocation.TailBytes;
        IoVectors all = IoVectors.Rent();
        NativeBuffer? copy = null;
        int result = 0;
        if (head + tail > 0)
        {
            bool isZero = allocation.IsSurroundingZero;
            if (isZero && allocation.IsNew && _crypto is null)
            {
                head = tail = 0;
            }
            else
            {
                copy = TakeCopyBuffer(head + tail);
                result = isZero ? 0 : await ReadSurroundingsAsync(allocation, copy);
                if (isZero)
                {
                    copy.Span[..(head + tail)].Clear();
                }
            }
        }

        if (result >= 0)
        {
            if (head > 0)
            {
                all.Add(copy!, 0, head);
            }

            all.AddSlice(data, done, allocation.DataBytes);
            if (tail > 0)
            {
                all.Add(copy!, head, tail);
            }

            await _file.DebugAsync(head + tail > 0 ? BlkdebugEvent.CowWrite : BlkdebugEvent.WriteAio);
            result = await WriteDataAsync(allocation.HostDataOffset - head, all);
        }

        all.Return();
        if (copy is not null)
        {
            GiveCopyBuffer(copy);
        }

        return result;
    }

    private async IoTask<int> ReadSurroundingsAsync(Qcow2Allocation allocation, NativeBuffer copy)
    {
        int result = 0;
        await _file.DebugAsync(BlkdebugEvent.CowRead);
        if (allocation.HeadBytes > 0)
        {
            result = await ReadOldAsync(allocation.DataOffset - allocation.HeadBytes, copy, 0, allocation.HeadBytes);
        }

        return result < 0 || allocation.TailBytes == 0
            ? result
            : await ReadOldAsync(allocation.DataOffset + allocation.DataBytes, copy, allocation.HeadBytes, allocation.TailBytes);
    }

    // What the guest sees there now; behind the end of the disk nothing.
    private async IoTask<int> ReadOldAsync(long offset, NativeBuffer buffer, int position, int length)
    {
        IoVectors data = IoVectors.Rent(buffer.Vector(position, length));
        int result = await ReadPartsAsync(offset, data);
        data.Return();
        return result;
    }

    private NativeBuffer TakeCopyBuffer(int length) =>
        _copyBuffers.TryPop(out NativeBuffer? buffer) && buffer.Length >= length
            ? buffer
            : new NativeBuffer(Math.Max(length, 2 * Header.ClusterBytes));

    private void GiveCopyBuffer(NativeBuffer buffer)
    {
        if (_copyBuffers.Count * 2L * Header.ClusterBytes < MaxIdleCopyBytes)
        {
            _copyBuffers.Push(buffer);
        }
        else
        {
            buffer.Dispose();
        }
    }

    private Qcow2Allocation RentAllocation() => _freeAllocations.TryPop(out Qcow2Allocation? free) ? free : new Qcow2Allocation();

    private void ReturnAllocation(Qcow2Allocation allocation) => _freeAllocations.Push(allocation);
}

/// <summary>Clusters that are being filled and to which the tables do not refer yet. Reused.</summary>
internal sealed class Qcow2Allocation
{
    internal LoopWaitQueue Waiters { get; } = new();

    /// <summary>First byte of the first cluster, as the guest sees it.</summary>
    internal long GuestOffset { get; set; }

    /// <summary>Behind the last cluster.</summary>
    internal long GuestEnd { get; set; }

    /// <summary>Where the first cluster is.</summary>
    internal long HostOffset { get; set; }

    internal long HostBytes => GuestEnd - GuestOffset;

    /// <summary>Where the guest's data begins, as the guest sees it.</summary>
    internal long DataOffset { get; set; }

    internal long DataBytes { get; set; }

    internal long HostDataOffset => HostOffset + DataOffset - GuestOffset;

    /// <summary>Bytes before the data that are copied.</summary>
    internal int HeadBytes { get; set; }

    /// <summary>Bytes behind the data that are copied.</summary>
    internal int TailBytes { get; set; }

    /// <summary>The copied bytes are zero.</summary>
    internal bool IsSurroundingZero { get; set; }

    /// <summary>The file has never been used there.</summary>
    internal bool IsNew { get; set; }

    /// <summary>The clusters had this place before.</summary>
    internal bool IsReused { get; set; }

    /// <summary>All subclusters get data, not only those that are written.</summary>
    internal bool IsWhole { get; set; }
}
