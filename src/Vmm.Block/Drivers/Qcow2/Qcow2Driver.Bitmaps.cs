using System.Buffers.Binary;
using System.Numerics;
using Vmm.Block.Bitmaps;
using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Drivers.Qcow2;

/// <content>
/// Bitmaps that the image keeps: read when it is opened, marked as in use while it is writable, stored when it is closed. One that is in use
/// on disk was not stored, and tells nothing any more.
/// </content>
public sealed partial class Qcow2Driver
{
    private const int ExtensionBytes = 24;

    private List<Qcow2BitmapEntry> _bitmapEntries = [];

    /// <inheritdoc/>
    public override void CheckNewBitmap(string name)
    {
        string? reason = Header.Version < 3 ? "Cannot store dirty bitmaps in qcow2 v2 files"
            : Node.Bitmaps.Count(static b => b.IsPersistent) >= Qcow2Format.MaxBitmaps ? "Maximum number of persistent bitmaps is already reached"
            : null;
        if (reason is not null)
        {
            throw new QapiException($"Can't make bitmap '{name}' persistent in '{Node.Name}': {reason}");
        }
    }

    // As they are on disk, which is not how they are in memory.
    private void DescribeBitmaps(QDict data)
    {
        if (_bitmapEntries.Count == 0)
        {
            return;
        }

        QList list = new();
        foreach (Qcow2BitmapEntry entry in _bitmapEntries)
        {
            QList flags = new();
            if ((entry.Flags & Qcow2BitmapEntry.InUse) != 0)
            {
                flags.Add(new QString("in-use"));
            }

            if ((entry.Flags & Qcow2BitmapEntry.Auto) != 0)
            {
                flags.Add(new QString("auto"));
            }

            list.Add(new QDict
            {
                ["name"] = new QString(entry.Name),
                ["granularity"] = QNum.From(1L << entry.GranularityBits),
                ["flags"] = flags,
            });
        }

        data["bitmaps"] = list;
    }

    private async IoTask LoadBitmapsAsync()
    {
        (long start, long end) = Header.BitmapDirectory;
        if (end == start)
        {
            return;
        }

        byte[] bytes = new byte[end - start];
        Check(await _file.ReadBytesAsync(start, bytes), "Failed to read bitmap directory");
        byte[] extension = Header.Extensions.First(static e => e.Type == Qcow2Format.ExtensionBitmaps).Data;
        _bitmapEntries = Qcow2BitmapDirectory.Parse(bytes, BinaryPrimitives.ReadUInt32BigEndian(extension), Header.ClusterBits);
        foreach (Qcow2BitmapEntry entry in _bitmapEntries)
        {
            BitSet bits = new(Header.Size, 1L << entry.GranularityBits);
            if (!entry.IsInconsistent)
            {
                await LoadBitmapAsync(entry, bits);
            }

            Node.AddBitmap(new DirtyBitmap(Node, entry.Name, bits)
            {
                IsPersistent = true,
                IsInconsistent = entry.IsInconsistent,
                IsEnabled = !entry.IsInconsistent && (entry.Flags & Qcow2BitmapEntry.Auto) != 0,
            });
        }
    }

    private async IoTask LoadBitmapAsync(Qcow2BitmapEntry entry, BitSet bits)
    {
        long bitsPerCluster = Header.ClusterBytes * 8L;
        if (entry.TableEntries != (bits.Granules + bitsPerCluster - 1) / bitsPerCluster)
        {
            throw new QapiException($"Bitmap '{entry.Name}' doesn't satisfy the constraints");
        }

        ulong[] table = await ReadBitmapTableAsync(entry);
        byte[] data = new byte[Header.ClusterBytes];
        for (int i = 0; i < table.Length; i++)
        {
            long offset = (long)(table[i] & Qcow2Format.OffsetMask);
            if (offset == 0 && (table[i] & 1) == 0)
            {
                continue;
            }

            if (offset == 0)
            {
                data.AsSpan().Fill(0xFF);
            }
            else
            {
                Check(await _file.ReadBytesAsync(offset, data), $"Could not read bitmap '{entry.Name}' from image");
            }

            bits.Load(i * bitsPerCluster, data);
        }
    }

    private async IoTask<ulong[]> ReadBitmapTableAsync(Qcow2BitmapEntry entry)
    {
        byte[] bytes = new byte[entry.TableEntries * sizeof(ulong)];
        Check(
            await _file.ReadBytesAsync(entry.TableOffset, bytes),
            $"Could not read bitmap_table table from image for bitmap '{entry.Name}'");
        ulong[] table = new ulong[entry.TableEntries];
        for (int i = 0; i < table.Length; i++)
        {
            table[i] = BinaryPrimitives.ReadUInt64BigEndian(bytes.AsSpan(i * sizeof(ulong)));
        }

        return table;
    }

    /// <summary>From now on the directory says of all bitmaps that they are not stored.</summary>
    private async IoTask MarkBitmapsInUseAsync()
    {
        if (_bitmapEntries.TrueForAll(static e => (e.Flags & Qcow2BitmapEntry.InUse) != 0))
        {
            return;
        }

        _bitmapEntries = _bitmapEntries.ConvertAll(static entry => entry with { Flags = entry.Flags | Qcow2BitmapEntry.InUse });
        Check(await _file.WriteBytesAsync(Header.BitmapDirectory.Start, Qcow2BitmapDirectory.Write(_bitmapEntries)), "Can't update bitmap directory");
        Check(await _file.BarrierAsync(), "Can't update bitmap directory");
    }

    /// <summary>Stores all bitmaps that are to be kept. With the image's lock.</summary>
    private async IoTask StoreBitmapsAsync()
    {
        // Those that the image has keep their places; of new ones the newest comes first, as in images of QEMU.
        List<DirtyBitmap> kept = [.. Node.Bitmaps.Where(static b => b.IsPersistent).Reverse().OrderBy(b => PlaceOf(b.Name!))];
        if (kept.Count == 0 && _bitmapEntries.Count == 0)
        {
            return;
        }

        await ReplaceBitmapsAsync(async taken =>
        {
            List<Qcow2BitmapEntry> stored = [];
            foreach (DirtyBitmap bitmap in kept)
            {
                // What tells nothing stays as it is.
                stored.Add(bitmap.IsInconsistent ? _bitmapEntries.First(e => e.Name == bitmap.Name) : await StoreBitmapAsync(bitmap, taken));
            }

            return stored;
        });
    }

    private int PlaceOf(string name) => _bitmapEntries.FindIndex(e => e.Name == name) is >= 0 and int place ? place : int.MaxValue;

    /// <inheritdoc/>
    public override async IoTask ForgetBitmapAsync(string name)
    {
        if (Node.IsReadOnly || _isFailed || !_bitmapEntries.Exists(e => e.Name == name))
        {
            return;
        }

        await _lock.EnterAsync();
        try
        {
            List<Qcow2BitmapEntry> left = _bitmapEntries.FindAll(e => e.Name != name);
            await ReplaceBitmapsAsync(_ => new IoTask<List<Qcow2BitmapEntry>>(left));
        }
        finally
        {
            _lock.Exit();
        }
    }

    // The new directory is complete before the header knows it. With the image's lock.
    private async IoTask ReplaceBitmapsAsync(Func<List<(long Offset, long Bytes)>, IoTask<List<Qcow2BitmapEntry>>> write)
    {
        Check(await MarkStaleAsync(), "Could not mark the image dirty");
        (long oldStart, long oldEnd) = Header.BitmapDirectory;
        List<Qcow2BitmapEntry> old = _bitmapEntries;
        List<Qcow2BitmapEntry> stored;
        List<(long Offset, long Bytes)> taken = [];
        Qcow2Header header;
        try
        {
            stored = await write(taken);
            byte[] directory = Qcow2BitmapDirectory.Write(stored);
            long place = directory.Length == 0 ? 0 : await WriteNewAsync(directory, taken);
            header = WithDirectory(stored.Count, place, directory.Length);
            Check(header.TryWrite() is null ? BlockResult.NoSpace : 0, "Can't update bitmap directory");
            Check(await _metadata.WriteAsync(), "Could not write metadata");
            Check(await _metadata.WriteRefcountsAsync(), "Could not write metadata");
            Check(await _file.BarrierAsync(), "Could not write metadata");
        }
        catch (QapiException)
        {
            foreach ((long offset, long bytes) in taken)
            {
                await _metadata.FreeNowAsync(offset, bytes);
            }

            throw;
        }

        Check(await _metadata.WriteHeaderAsync(header), "Can't update bitmap directory");
        Check(await _file.BarrierAsync(), "Can't update bitmap directory");
        _bitmapEntries = stored;
        _metadata.LocateTables();
        foreach (Qcow2BitmapEntry entry in old)
        {
            if (!stored.Exists(e => e.TableOffset == entry.TableOffset))
            {
                await FreeBitmapAsync(entry);
            }
        }

        if (oldEnd > oldStart)
        {
            _metadata.FreeLater(oldStart, RoundUp(oldEnd - oldStart));
        }
    }

    private Qcow2Header WithDirectory(int count, long offset, long bytes)
    {
        List<Qcow2Extension> extensions = [.. Header.Extensions.Where(static e => e.Type != Qcow2Format.ExtensionBitmaps)];
        if (count == 0)
        {
            return Header with { Extensions = extensions, Autoclear = Header.Autoclear & ~Qcow2Autoclear.Bitmaps };
        }

        byte[] data = new byte[ExtensionBytes];
        BinaryPrimitives.WriteInt32BigEndian(data, count);
        BinaryPrimitives.WriteInt64BigEndian(data.AsSpan(8), bytes);
        BinaryPrimitives.WriteInt64BigEndian(data.AsSpan(16), offset);
        extensions.Add(new Qcow2Extension(Qcow2Format.ExtensionBitmaps, data));
        return Header with { Extensions = extensions, Autoclear = Header.Autoclear | Qcow2Autoclear.Bitmaps };
    }

    private async IoTask<Qcow2BitmapEntry> StoreBitmapAsync(DirtyBitmap bitmap, List<(long Offset, long Bytes)> taken)
    {
        long bitsPerCluster = Header.ClusterBytes * 8L;
        int clusters = (int)((bitmap.Bits.Granules + bitsPerCluster - 1) / bitsPerCluster);
        byte[] table = new byte[clusters * sizeof(ulong)];
        byte[] data = new byte[Header.ClusterBytes];
        for (int i = 0; i < clusters; i++)
        {
            if (bitmap.Bits.Store(i * bitsPerCluster, data))
            {
                long offset = await WriteNewAsync(data, taken);
                BinaryPrimitives.WriteInt64BigEndian(table.AsSpan(i * sizeof(ulong)), offset);
            }
        }

        // A table of an empty disk has no entries, but a place.
        long place = await WriteNewAsync(table.Length == 0 ? new byte[sizeof(ulong)] : table, taken);
        uint flags = bitmap.IsEnabled ? Qcow2BitmapEntry.Auto : 0;
        return new Qcow2BitmapEntry(place, clusters, flags, BitOperations.Log2((ulong)bitmap.Bits.Granularity), bitmap.Name!, []);
    }

    private async IoTask<long> WriteNewAsync(byte[] bytes, List<(long Offset, long Bytes)> taken)
    {
        long place = await _metadata.Refcounts.AllocateAsync(RoundUp(bytes.Length) >> Header.ClusterBits);
        Check((int)Math.Min(place, 0), "Failed to allocate clusters for bitmaps");
        taken.Add((place, bytes.Length));
        Check(await _file.WriteBytesAsync(place, bytes), "Failed to write bitmaps to file");
        return place;
    }

    private async IoTask FreeBitmapAsync(Qcow2BitmapEntry entry)
    {
        foreach (ulong cluster in await ReadBitmapTableAsync(entry))
        {
            if ((cluster & Qcow2Format.OffsetMask) != 0)
            {
                _metadata.FreeLater((long)(cluster & Qcow2Format.OffsetMask), Header.ClusterBytes);
            }
        }

        _metadata.FreeLater(entry.TableOffset, RoundUp(Math.Max(entry.TableEntries, 1) * sizeof(ulong)));
    }

    private long RoundUp(long bytes) => (bytes + Header.ClusterBytes - 1) & ~(Header.ClusterBytes - 1L);
}
