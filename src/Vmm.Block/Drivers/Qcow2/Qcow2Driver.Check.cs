using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Drivers.Qcow2;

/// <content>Checks and repairs; what queries show.</content>
public sealed partial class Qcow2Driver
{
    /// <summary>Checks the image, and repairs what is asked for. The node is drained and, to be repaired, writable.</summary>
    /// <exception cref="QapiException">Metadata in memory cannot be written.</exception>
    public async IoTask<Qcow2CheckResult> CheckAsync(Qcow2Repair repair)
    {
        await _lock.EnterAsync();
        try
        {
            if (!Node.IsReadOnly)
            {
                Check(await _metadata.WriteAsync(), "Could not write metadata");
                Check(await _metadata.WriteRefcountsAsync(), "Could not write metadata");
            }

            Qcow2Checker checker = new(_metadata, repair);
            _metadata.Refcounts.RestartSearch((_file.Length + Header.ClusterBytes - 1) >> Header.ClusterBits);
            await checker.RunAsync(_snapshots);
            _metadata.Refcounts.RestartSearch(0);
            if (repair != Qcow2Repair.None)
            {
                Check(await _metadata.WriteRefcountsAsync(), "Could not write metadata");
                Check(await _metadata.WriteAsync(), "Could not write metadata");
                if (repair == (Qcow2Repair.Leaks | Qcow2Repair.Errors) && checker.Result is { Corruptions: 0, CheckErrors: 0 })
                {
                    Check(await _metadata.ForgetDamageAsync(), "Could not update the header");
                }
            }

            return checker.Result;
        }
        finally
        {
            _lock.Exit();
        }
    }

    /// <inheritdoc/>
    public override async IoTask<int> ChangeBackingFileAsync(string? name, string? format)
    {
        if (name?.Length > 1023 || format?.Length > 15 || (name is not null && Header.IsDataFileRaw))
        {
            return BlockResult.Invalid;
        }

        await _lock.EnterAsync();
        int result = await _metadata.WriteHeaderAsync(Header with { BackingFile = name, BackingFormat = name is null ? null : format });
        _autoBacking = null;
        _lock.Exit();
        return result;
    }

    /// <inheritdoc/>
    public override int ClusterBytes => Header.ClusterBytes;

    /// <inheritdoc/>
    public override long VmStateOffset
    {
        get
        {
            // Behind the contents, where the next table of L2 begins.
            long covered = (long)Header.ClusterBytes * (Header.ClusterBytes / (Header.HasExtendedL2 ? 16 : 8));
            return (Node.Length + covered - 1) / covered * covered;
        }
    }

    /// <inheritdoc/>
    public override void DescribeImage(ImageDescription image)
    {
        Qcow2Header header = Header;
        image.IsDirty = _metadata.IsMarkedDirty;
        image.BackingFile = string.IsNullOrEmpty(header.BackingFile) ? null : header.BackingFile;
        image.FullBackingFile = string.IsNullOrEmpty(header.BackingFile) ? null : ImageNames.TryResolve(header.BackingFile, FileName);
        image.BackingFormat = header.BackingFormat;
        QDict data = new()
        {
            ["compat"] = new QString(header.Version >= 3 ? "1.1" : "0.10"),
            ["compression-type"] = new QString(header.Compression == Qcow2Compression.Zstd ? "zstd" : "zlib"),
            ["refcount-bits"] = QNum.From(1L << header.RefcountOrder),
        };
        DescribeCrypto(data);
        if (header.Version >= 3)
        {
            data["lazy-refcounts"] = QBool.From((header.Compatible & Qcow2Compatible.LazyRefcounts) != 0);
            data["corrupt"] = QBool.From((header.Incompatible & Qcow2Incompatible.Corrupt) != 0);
            data["extended-l2"] = QBool.From(header.HasExtendedL2);
            if (header.HasDataFile)
            {
                data["data-file-raw"] = QBool.From(header.IsDataFileRaw);
                if (header.DataFile is { } name)
                {
                    data["data-file"] = new QString(name);
                }
            }
        }

        DescribeBitmaps(data);
        image.FormatSpecific = new QDict { ["type"] = new QString("qcow2"), ["data"] = data };
        if (_snapshots.Count > 0)
        {
            QList list = new();
            foreach (Qcow2Snapshot snapshot in _snapshots)
            {
                list.Add(Describe(snapshot));
            }

            image.Snapshots = list;
        }
    }

    private static QDict Describe(Qcow2Snapshot snapshot)
    {
        QDict entry = new()
        {
            ["id"] = new QString(snapshot.Id),
            ["name"] = new QString(snapshot.Name),
            ["vm-state-size"] = QNum.From(snapshot.StateBytes),
            ["date-sec"] = QNum.From((long)snapshot.Seconds),
            ["date-nsec"] = QNum.From((long)snapshot.Nanoseconds),
            ["vm-clock-sec"] = QNum.From((long)(snapshot.ClockNs / 1_000_000_000)),
            ["vm-clock-nsec"] = QNum.From((long)(snapshot.ClockNs % 1_000_000_000)),
        };
        if (snapshot.InstructionCount != -1)
        {
            entry["icount"] = QNum.From(snapshot.InstructionCount);
        }

        return entry;
    }

    /// <summary>Refcounts that were not written in time are counted anew.</summary>
    private async IoTask RepairDirtyAsync()
    {
        Qcow2Checker checker = new(_metadata, Qcow2Repair.Leaks | Qcow2Repair.Errors);
        _metadata.Refcounts.RestartSearch((_file.Length + Header.ClusterBytes - 1) >> Header.ClusterBits);
        await checker.RunAsync(_snapshots);
        _metadata.Refcounts.RestartSearch(0);
        int result = checker.Result is { Corruptions: 0, CheckErrors: 0 } ? await _metadata.CleanAsync() : BlockResult.Io;
        Check(result, "Could not repair dirty image");
    }
}
