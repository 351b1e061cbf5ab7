using Vmm.Dump.Elf;
using Vmm.Dump.Guest;
using Vmm.Dump.Kdump;
using Vmm.Dump.Windows;
using Vmm.Interop;
using Vmm.ObjectModel.Accel;
using Vmm.Qapi;

namespace Vmm.Dump;

/// <summary>A dump of which all is decided but what the target says: what it contains, and where. Made where the guest stands still; written on any thread.</summary>
internal sealed class DumpPlan
{
    private readonly Action<DumpFile> _write;
    private readonly bool _namesCause;

    private DumpPlan(DumpProgress progress, bool namesCause, Action<DumpFile> write)
    {
        Progress = progress;
        _namesCause = namesCause;
        _write = write;
    }

    /// <summary>How far <see cref="Write"/> is.</summary>
    internal DumpProgress Progress { get; }

    /// <summary>Plans a dump.</summary>
    /// <param name="request">What is wanted; its target is not touched.</param>
    /// <param name="all">The guest's memory.</param>
    /// <param name="cpus">The guest's processors.</param>
    /// <param name="info">What the guest's kernel says of itself.</param>
    /// <param name="threads">Threads to write with.</param>
    /// <exception cref="QapiException">There is nothing to dump, or more than can be.</exception>
    internal static DumpPlan Of(DumpRequest request, GuestMemoryMap all, CpuArchState[] cpus, VmCoreInfo? info, int threads)
    {
        GuestMemoryMap memory = request.Window is { } window ? all.Window((ulong)window.Begin, (ulong)window.Length) : all;
        if (memory.Bytes == 0 || cpus.Length == 0)
        {
            throw new QapiException("dump: no guest memory to dump");
        }

        if (request.IsWindows)
        {
            return OfWindows(memory, cpus, info);
        }

        bool isLong = CpuNotes.IsLong(cpus[0]);
        bool isWide = isLong || all.End > uint.MaxValue;
        GuestNotes notes = GuestNotes.Of(cpus, info);
        DumpProgress progress = new(memory.Bytes);
        if (request.Compression is { } compression)
        {
            KdumpLayout layout = new(isWide, compression, memory, notes, cpus.Length);
            return new DumpPlan(
                progress, false, file => KdumpDump.Write(layout, compression, new KdumpFile(file, request.IsFlat), progress, threads));
        }

        MemoryMapping[] mappings = Mappings(request, all, cpus);
        byte[] headers = ElfHeaders.Write(isLong, isWide, memory, mappings, notes.Bytes);
        return new DumpPlan(progress, true, file => ElfDump.Write(file, headers, memory, progress, threads));
    }

    /// <summary>Writes the dump and closes the target.</summary>
    /// <returns>Why it failed; null when it is complete.</returns>
    internal string? Write(SafeFd target)
    {
        using DumpFile file = new(target, Progress) { NamesCause = _namesCause };
        try
        {
            _write(file);
            return null;
        }
        catch (QapiException exception)
        {
            return exception.Desc;
        }
        catch (OutOfMemoryException)
        {
            return "dump: out of memory";
        }
    }

    // What is wrong with the guest's header is told as the failure of a dump that had begun.
    private static DumpPlan OfWindows(GuestMemoryMap memory, CpuArchState[] cpus, VmCoreInfo? info)
    {
        try
        {
            WindowsDump dump = WindowsDump.Of(info, memory, cpus);
            DumpProgress progress = new(dump.Bytes);
            return new DumpPlan(progress, true, file => dump.Write(file, progress));
        }
        catch (QapiException exception)
        {
            return new DumpPlan(new DumpProgress(memory.Bytes), true, _ => throw exception);
        }
    }

    private static MemoryMapping[] Mappings(DumpRequest request, GuestMemoryMap all, CpuArchState[] cpus)
    {
        int firstPaging = request.IsPaging ? Array.FindIndex(cpus, static cpu => PageTables.ModeOf(cpu) != PageTables.Mode.None) : -1;
        MemoryMapping[] mappings;
        if (firstPaging < 0)
        {
            mappings = new MemoryMapping[all.Ranges.Length];
            for (int i = 0; i < mappings.Length; i++)
            {
                GuestMemoryRange range = all.Ranges[i];
                mappings[i] = new MemoryMapping(range.Start, range.Start, range.Length);
            }
        }
        else
        {
            MemoryMappings found = new();
            PageTableMappings walk = new(all, found);
            for (int i = firstPaging; i < cpus.Length; i++)
            {
                if (!walk.TryAdd(cpus[i]))
                {
                    throw new QapiException("dump: the guest's page tables are too large to be walked");
                }
            }

            mappings = found.ToSorted();
        }

        return request.Window is { } window ? Clip(mappings, (ulong)window.Begin, (ulong)window.Length) : mappings;
    }

    private static MemoryMapping[] Clip(MemoryMapping[] mappings, ulong begin, ulong length)
    {
        ulong end = begin + length < begin ? ulong.MaxValue : begin + length;
        List<MemoryMapping> inside = [];
        foreach (MemoryMapping mapping in mappings)
        {
            ulong start = Math.Max(mapping.Physical, begin);
            ulong stop = Math.Min(mapping.Physical + mapping.Length, end);
            if (start < stop)
            {
                inside.Add(new MemoryMapping(start, mapping.Linear + (start - mapping.Physical), stop - start));
            }
        }

        return [.. inside];
    }
}
