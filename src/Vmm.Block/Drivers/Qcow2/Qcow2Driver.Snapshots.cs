using System.Buffers.Binary;
using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.Qapi;

namespace Vmm.Block.Drivers.Qcow2;

/// <content>
/// Internal snapshots: a second L1 that refers to the same clusters, which are counted twice from then on. No request is under way while
/// they are made, applied or deleted.
/// </content>
public sealed partial class Qcow2Driver
{
    private List<Qcow2Snapshot> _snapshots = [];

    /// <summary>The snapshots of the image, oldest first.</summary>
    public IReadOnlyList<Qcow2Snapshot> Snapshots => _snapshots;

    /// <summary>Makes a snapshot of the disk as it is. The node is drained.</summary>
    /// <param name="snapshot">Its name, times, and the size of the machine's state, which stands behind the end of the disk. The id is chosen here.</param>
    /// <exception cref="QapiException">It cannot be made; the image is as before.</exception>
    public async IoTask<Qcow2Snapshot> CreateSnapshotAsync(Qcow2Snapshot snapshot)
    {
        RefuseForDataFile();
        if (_snapshots.Count >= Qcow2Format.MaxSnapshots)
        {
            throw new QapiException("Too many snapshots");
        }

        await _lock.EnterAsync();
        try
        {
            Check(await MarkStaleAsync(), "Could not mark the image dirty");
            Check(await _metadata.WriteAsync(), "Could not write metadata");
            long bytes = _mapping.L1.Bytes;
            long place = await _metadata.Refcounts.AllocateAsync(Math.Max((bytes + Header.ClusterBytes - 1) >> Header.ClusterBits, 1));
            Check((int)Math.Min(place, 0), "Could not allocate the snapshot's L1 table");
            Qcow2Table l1 = _mapping.L1.Copy(_mapping.L1.Length, ~Qcow2Format.Copied);
            Qcow2Snapshot made = snapshot with { Id = NextId(), L1Offset = place, L1Entries = l1.Length, DiskBytes = Header.Size };
            List<Qcow2Snapshot> all = [.. _snapshots, made];
            bool isCounted = false;
            byte[] table = Qcow2SnapshotTable.Write(all);
            long tablePlace;
            try
            {
                // Counts first: more of them than needed is a leak, fewer would be a loss.
                Check(await CountTreeAsync(l1, isUp: true), "Could not count the snapshot's clusters");
                isCounted = true;
                Check(await _file.WriteTableAsync(place, l1, 0, l1.Length), "Could not write the snapshot's L1 table");
                for (int i = l1.Next(0); i < l1.Length; i = l1.Next(i + 1))
                {
                    if (_mapping.L1[i] != l1[i])
                    {
                        _mapping.SetL1(i, l1[i]);
                    }
                }

                Check(await ClearCopiedAsync(l1), "Could not update L2 tables");
                Check(await _metadata.WriteAsync(), "Could not write metadata");
                tablePlace = await PlaceSnapshotsAsync(table);
            }
            catch (QapiException)
            {
                if (isCounted && await CountTreeAsync(l1, isUp: false) >= 0)
                {
                    await FixCopiedAsync();
                }

                await _metadata.FreeNowAsync(place, Math.Max(bytes, 1));
                throw;
            }

            await SwitchSnapshotsAsync(all, tablePlace, table.Length);
            return made;
        }
        finally
        {
            _lock.Exit();
        }
    }

    /// <summary>Puts the disk back to what it was. The node is drained; its parents learn of another size.</summary>
    /// <exception cref="QapiException">It cannot be done.</exception>
    public async IoTask ApplySnapshotAsync(string idOrName)
    {
        RefuseForDataFile();
        await _lock.EnterAsync();
        try
        {
            Qcow2Snapshot snapshot = FindSnapshot(idOrName);
            Qcow2Table wanted = await ReadSnapshotL1Async(snapshot);
            bool isSizeValid = snapshot.DiskBytes >= 0 && (snapshot.DiskBytes & 511) == 0
                && Qcow2Header.L1EntriesFor(snapshot.DiskBytes, Header.ClusterBits, Header.L2Bits) <= wanted.Length;
            if (!isSizeValid)
            {
                throw new QapiException("The snapshot's disk size does not fit its L1 table");
            }

            Check(await MarkStaleAsync(), "Could not mark the image dirty");
            Check(await _metadata.WriteAsync(), "Could not write metadata");
            Check(await GrowL1Async(wanted.Length), "Failed to grow the L1 table");
            Qcow2Table old = _mapping.L1.Copy(_mapping.L1.Length);
            Check(await CountTreeAsync(wanted, isUp: true), "Could not count the snapshot's clusters");
            Check(await _metadata.WriteRefcountsAsync(), "Could not write metadata");
            Check(await _file.BarrierAsync(), "Could not write metadata");
            for (int i = 0; i < old.Length; i++)
            {
                ulong entry = i < wanted.Length ? wanted[i] & ~Qcow2Format.Copied : 0;
                if (entry != old[i])
                {
                    _mapping.SetL1(i, entry);
                }
            }

            Check(await _metadata.WriteAsync(), "Could not write metadata");
            Check(await SetSizeAsync(snapshot.DiskBytes), "Failed to update the image size");
            Check(await _file.BarrierAsync(), "Could not write metadata");

            // Only now does nothing refer to the old tree any more.
            _mapping.Slices.Clear();
            Check(await CountTreeAsync(old, isUp: false), "Could not free the old clusters");
            Check(await FixCopiedAsync(), "Could not update L2 tables");
            Check(await _metadata.WriteAsync(), "Could not write metadata");
            _metadata.FindMetadataClusters();
        }
        finally
        {
            _lock.Exit();
        }

        Node.SetLength(Header.Size);
    }

    /// <summary>Deletes a snapshot. The node is drained.</summary>
    /// <exception cref="QapiException">There is none of that name, or it cannot be deleted.</exception>
    public async IoTask DeleteSnapshotAsync(string idOrName)
    {
        RefuseForDataFile();
        await _lock.EnterAsync();
        try
        {
            Qcow2Snapshot snapshot = FindSnapshot(idOrName);
            Qcow2Table l1 = await ReadSnapshotL1Async(snapshot);
            Check(await MarkStaleAsync(), "Could not mark the image dirty");
            Check(await _metadata.WriteAsync(), "Could not write metadata");
            await StoreSnapshotsAsync(_snapshots.FindAll(s => s != snapshot));
            Check(await _file.BarrierAsync(), "Could not write metadata");
            _metadata.Reason = Qcow2FreeReason.Snapshot;
            Check(await CountTreeAsync(l1, isUp: false), "Failed to free the cluster and L1 table");
            Check(await _metadata.Refcounts.UpdateAsync(snapshot.L1Offset, l1.Bytes, isUp: false), "Failed to free the cluster and L1 table");
            await _metadata.DiscardAsync();
            Check(await FixCopiedAsync(), "Failed to update snapshot status in disk");
            Check(await _metadata.WriteAsync(), "Failed to update snapshot status in disk");
        }
        finally
        {
            _lock.Exit();
        }
    }

    private static Qcow2Snapshot? Find(List<Qcow2Snapshot> snapshots, string idOrName) =>
        snapshots.Find(s => s.Id == idOrName) ?? snapshots.Find(s => s.Name == idOrName);

    private void RefuseForDataFile()
    {
        if (_isFailed)
        {
            throw new QapiException("No medium inserted");
        }

        if (Header.HasDataFile)
        {
            throw new QapiException("Internal snapshots are not supported with an external data file");
        }
    }

    private Qcow2Snapshot FindSnapshot(string idOrName) =>
        Find(_snapshots, idOrName) ?? throw new QapiException("Can't find the snapshot");

    private string NextId()
    {
        ulong max = 0;
        foreach (Qcow2Snapshot snapshot in _snapshots)
        {
            max = ulong.TryParse(snapshot.Id, out ulong id) && id > max ? id : max;
        }

        return (max + 1).ToString(System.Globalization.CultureInfo.InvariantCulture);
    }

    private async IoTask ReadSnapshotsAsync()
    {
        if (Header.SnapshotCount == 0)
        {
            return;
        }

        // A window of the table moves over the file: what is kept is what the entries say, not what is between them.
        using NativeBuffer window = new(2 * Qcow2SnapshotTable.MaxEntryBytes);
        long windowStart = long.MinValue;
        long position = 0;
        for (int i = 0; i < Header.SnapshotCount; i++)
        {
            position = (position + 7) & ~7L;
            if (position < windowStart || position + Qcow2SnapshotTable.MaxEntryBytes > windowStart + window.Length)
            {
                windowStart = position;
                Check(await _file.ReadAsync(Header.SnapshotsOffset + position, window, 0, window.Length), "Could not read snapshots");
            }

            _snapshots.Add(Qcow2SnapshotTable.Parse(window.Span[(int)(position - windowStart)..], i, Header.Size, out int length));
            position += length;
            if (position > Qcow2Format.MaxSnapshotTableBytes)
            {
                throw new QapiException("Snapshot table is too big");
            }
        }

        _metadata.SnapshotTableBytes = position;
        _metadata.LocateTables();
    }

    /// <summary>Learns where the tables of snapshots are, as far as they are protected.</summary>
    private async IoTask MapSnapshotsAsync()
    {
        Qcow2MetadataMap map = _metadata.Map;
        map.SetSnapshots(_snapshots);
        if ((map.Protected & Qcow2Structures.InactiveL2) == 0)
        {
            return;
        }

        foreach (Qcow2Snapshot snapshot in _snapshots)
        {
            Qcow2Table l1 = await ReadSnapshotL1Async(snapshot);
            for (int i = l1.Next(0); i < l1.Length; i = l1.Next(i + 1))
            {
                map.AddInactiveTable((long)(l1[i] & Qcow2Format.OffsetMask));
            }
        }
    }

    private async IoTask<Qcow2Table> ReadSnapshotL1Async(Qcow2Snapshot snapshot)
    {
        if (snapshot.L1Entries is < 0 or > Qcow2Format.MaxL1Bytes / 8)
        {
            throw new QapiException("Snapshot L1 table too large");
        }

        if (snapshot.L1Offset < 0 || (snapshot.L1Offset & (Header.ClusterBytes - 1)) != 0)
        {
            throw new QapiException("Snapshot L1 table offset invalid");
        }

        Qcow2Table l1 = new(snapshot.L1Entries);
        Check(await _file.ReadTableAsync(snapshot.L1Offset, l1), "Failed to read the snapshot's L1 table");
        return l1;
    }

    /// <summary>Writes a table of snapshots to a new place and has the header refer to it.</summary>
    private async IoTask StoreSnapshotsAsync(List<Qcow2Snapshot> snapshots)
    {
        byte[] table = Qcow2SnapshotTable.Write(snapshots);
        await SwitchSnapshotsAsync(snapshots, await PlaceSnapshotsAsync(table), table.Length);
    }

    /// <summary>Writes a table of snapshots to a new place, to which nothing refers yet; 0 for an empty one.</summary>
    private async IoTask<long> PlaceSnapshotsAsync(byte[] table)
    {
        if (table.Length == 0)
        {
            return 0;
        }

        long place = await _metadata.Refcounts.AllocateAsync((table.Length + Header.ClusterBytes - 1) >> Header.ClusterBits);
        Check((int)Math.Min(place, 0), "Could not allocate the snapshot table");
        int result = await _file.WriteBytesAsync(place, table);
        if (result < 0)
        {
            await _metadata.FreeNowAsync(place, table.Length);
            Check(result, "Could not write the snapshot table");
        }

        return place;
    }

    private async IoTask SwitchSnapshotsAsync(List<Qcow2Snapshot> snapshots, long place, int bytes)
    {
        Check(await _metadata.WriteAsync(), "Could not write metadata");
        Check(await _metadata.WriteRefcountsAsync(), "Could not write metadata");
        Check(await _file.BarrierAsync(), "Could not write metadata");
        byte[] fields = new byte[12];
        BinaryPrimitives.WriteInt32BigEndian(fields, snapshots.Count);
        BinaryPrimitives.WriteInt64BigEndian(fields.AsSpan(4), place);
        Check(await _file.WriteBytesAsync(60, fields), "Could not update the header");
        _metadata.NeedsBarrier();
        _metadata.FreeLater(Header.SnapshotsOffset, _metadata.SnapshotTableBytes);
        _metadata.Header = Header with { SnapshotCount = snapshots.Count, SnapshotsOffset = place };
        _metadata.SnapshotTableBytes = bytes;
        _metadata.LocateTables();
        _snapshots = snapshots;
        await MapSnapshotsAsync();
    }

    /// <summary>Counts all that a tree of tables refers to once more, or once less: data and L2 tables.</summary>
    /// <returns>0; or a negative errno, with counts that were to grow as they were.</returns>
    private async IoTask<int> CountTreeAsync(Qcow2Table l1, bool isUp)
    {
        var (result, steps) = await CountTreeAsync(l1, isUp, long.MaxValue);
        if (result < 0 && isUp)
        {
            await CountTreeAsync(l1, isUp: false, steps);
        }

        return result;
    }

    /// <summary>As the other, for some entries alone; tells how many were counted.</summary>
    private async IoTask<(int Result, long Steps)> CountTreeAsync(Qcow2Table l1, bool isUp, long limit)
    {
        int result = 0;
        long steps = 0;
        using NativeBuffer table = new(Header.ClusterBytes);
        for (int i = l1.Next(0); i < l1.Length && result >= 0 && steps < limit; i = l1.Next(i + 1))
        {
            long place = (long)(l1[i] & Qcow2Format.OffsetMask);
            if (place == 0)
            {
                continue;
            }

            if ((place & (Header.ClusterBytes - 1)) != 0)
            {
                return (BlockResult.Io, steps);
            }

            result = await _file.ReadAsync(place, table, 0, table.Length);
            for (int k = 0; k < 1 << Header.L2Bits && result >= 0 && steps < limit; k++)
            {
                result = await CountEntryAsync(_mapping.Entry(table.Span, k), isUp);
                steps += result >= 0 ? 1 : 0;
            }

            if (result >= 0 && steps < limit)
            {
                result = await _metadata.Refcounts.UpdateAsync(place, Header.ClusterBytes, isUp);
                steps += result >= 0 ? 1 : 0;
            }

            // What becomes free is told to the file table by table, not kept until the last one.
            await _metadata.DiscardAsync();
        }

        return (result, steps);
    }

    private IoTask<int> CountEntryAsync(ulong entry, bool isUp)
    {
        if ((entry & Qcow2Format.Compressed) != 0)
        {
            long offset = _mapping.CompressedOffset(entry);
            return _metadata.Refcounts.UpdateAsync(offset & ~511L, (offset & 511) + _mapping.CompressedBytes(entry), isUp);
        }

        long place = (long)(entry & Qcow2Format.OffsetMask);
        return place == 0 ? new(0)
            : (place & (Header.ClusterBytes - 1)) != 0 ? new(BlockResult.Io)
            : _metadata.Refcounts.UpdateAsync(place, Header.ClusterBytes, isUp);
    }

    /// <summary>Nothing that the tables refer to is theirs alone any more.</summary>
    private async IoTask<int> ClearCopiedAsync(Qcow2Table l1)
    {
        int result = 0;
        for (int i = l1.Next(0); i < l1.Length && result >= 0; i = l1.Next(i + 1))
        {
            if ((l1[i] & Qcow2Format.OffsetMask) != 0)
            {
                result = await SetCopiedAsync(i, static _ => new((0, 2UL)));
            }
        }

        return result;
    }

    /// <summary>Marks in the active tables which clusters are theirs alone, as the counts say.</summary>
    private async IoTask<int> FixCopiedAsync()
    {
        int result = 0;
        for (int i = _mapping.L1.Next(0); i < _mapping.L1.Length && result >= 0; i = _mapping.L1.Next(i + 1))
        {
            long place = (long)(_mapping.L1[i] & Qcow2Format.OffsetMask);
            if (place == 0)
            {
                continue;
            }

            (result, ulong count) = await _metadata.Refcounts.GetAsync(place >> Header.ClusterBits);
            if (result < 0)
            {
                break;
            }

            ulong entry = count == 1 ? (ulong)place | Qcow2Format.Copied : (ulong)place;
            if (entry != _mapping.L1[i])
            {
                _mapping.SetL1(i, entry);
            }

            result = await SetCopiedAsync(i, _metadata.Refcounts.GetAsync);
        }

        return result;
    }

    // Sets the marks of the entries of one L2 table, slice by slice.
    private async IoTask<int> SetCopiedAsync(int l1Index, Func<long, IoTask<(int Result, ulong Count)>> count)
    {
        long start = (long)l1Index << (Header.ClusterBits + Header.L2Bits);
        for (long offset = start; offset < start + _mapping.TableSpan; offset += _mapping.SliceSpan)
        {
            int result = await _mapping.LoadAsync(offset);
            for (int k = 0; k < _mapping.SliceEntries && result >= 0; k++)
            {
                ulong entry = _mapping.Entry(_mapping.Slices.Find(_mapping.SliceOffset(offset))!.Span, k);
                long place = (long)(entry & Qcow2Format.OffsetMask);
                if ((entry & Qcow2Format.Compressed) != 0 || place == 0)
                {
                    continue;
                }

                (result, ulong value) = await count(place >> Header.ClusterBits);
                ulong marked = value == 1 ? entry | Qcow2Format.Copied : entry & ~Qcow2Format.Copied;
                if (result >= 0 && marked != entry)
                {
                    Qcow2Cache.Slot slot = _mapping.Slices.Find(_mapping.SliceOffset(offset))!;
                    _mapping.SetEntry(slot.Span, k, marked);
                    _mapping.Slices.MarkDirty(slot);
                }
            }

            if (result < 0)
            {
                return result;
            }
        }

        return 0;
    }
}
