using Vmm.Dump.Elf;
using Vmm.Dump.Guest;
using Vmm.Dump.Kdump;
using Vmm.Dump.Qmp;
using Vmm.ObjectModel.Accel;
using Vmm.ObjectModel.Devices;
using Vmm.ObjectModel.Run;
using Vmm.Qapi;
using Vmm.Qapi.Types;

namespace Vmm.Dump;

/// <summary>
/// Dumps the guest, once at a time. The machine is stopped and held for as long as it takes; threads of the dump's own read its memory, and the
/// main loop goes on. Home: main loop.
/// </summary>
/// <param name="run">Run state of the machine.</param>
/// <param name="events">Where the end of a dump is told.</param>
/// <param name="machine">The machine; null while there is none.</param>
public sealed class GuestDumper(RunControl run, IEventEmitter events, Func<IMachineServices?> machine)
{
    internal const string BusyText = "There is a dump in process, please wait.";

    private const int StackBytes = 256 << 10;

    private DumpStatus _status = DumpStatus.None;
    private DumpProgress _progress = new(0);

    /// <summary>A dump runs.</summary>
    internal bool IsActive => _status == DumpStatus.Active;

    /// <summary>The dump that runs, or the last one.</summary>
    internal DumpQueryResult Query() =>
        new() { Status = _status, Completed = (long)_progress.Completed, Total = (long)_progress.Total };

    /// <summary>Begins a dump. The task ends with it, after the event and with the machine running again when it ran.</summary>
    /// <exception cref="QapiException">There is nothing to dump, at once; the dump failed, from the task.</exception>
    internal Task Start(DumpRequest request)
    {
        bool wasRunning = run.IsRunning;
        _status = DumpStatus.Active;
        _progress = new DumpProgress(0);
        if (wasRunning)
        {
            run.Stop(RunState.SaveVm);
        }

        run.Hold(BusyText);
        Action<DumpFile> write;
        try
        {
            write = Plan(request);
        }
        catch
        {
            request.File.Dispose();
            _status = DumpStatus.Failed;
            Resume(wasRunning);
            throw;
        }

        TaskCompletionSource completion = new();
        EventLoop.EventLoop loop = machine()!.MainLoop;
        new Thread(
            () =>
            {
                string? error = Write(request, write, _progress);
                loop.Post(() => Finish(error, wasRunning, completion));
            },
            StackBytes) { IsBackground = true, Name = "dump" }.Start();
        return completion.Task;
    }

    private static string? Write(DumpRequest request, Action<DumpFile> write, DumpProgress progress)
    {
        using DumpFile file = new(request.File, progress);
        try
        {
            write(file);
            return null;
        }
        catch (QapiException exception)
        {
            return exception.Desc;
        }
    }

    private void Finish(string? error, bool wasRunning, TaskCompletionSource completion)
    {
        _status = error is null ? DumpStatus.Completed : DumpStatus.Failed;
        events.Emit(new DumpCompletedEvent(Query(), error));
        Resume(wasRunning);
        if (error is null)
        {
            completion.SetResult();
        }
        else
        {
            // Nobody waits for a dump in the background, which has told its error in the event.
            completion.SetException(new QapiException(error));
            _ = completion.Task.Exception;
        }
    }

    private void Resume(bool wasRunning)
    {
        run.Release();
        if (wasRunning && !run.IsExiting)
        {
            run.Start();
        }
    }

    // All that can be refused is refused here, before the first byte is written.
    private Action<DumpFile> Plan(DumpRequest request)
    {
        IMachineServices services = machine() ?? throw QapiException.Unsupported();
        if (request.Window is { Length: 0 })
        {
            throw QapiException.InvalidParameter("length");
        }

        if (request.Window is { Begin: < 0 })
        {
            throw QapiException.InvalidParameter("begin");
        }

        GuestMemoryMap all = GuestMemoryMap.Of(services.Memory.View);
        GuestMemoryMap memory = request.Window is { } window ? all.Window((ulong)window.Begin, (ulong)window.Length) : all;
        if (memory.Bytes == 0 || services.Accelerator.Vcpus.Count == 0)
        {
            throw new QapiException("dump: no guest memory to dump");
        }

        CpuArchState[] cpus = [.. services.Accelerator.Vcpus.Select(static cpu => cpu.GetState())];
        bool isLong = CpuNotes.IsLong(cpus[0]);
        bool isWide = isLong || all.End > uint.MaxValue;
        GuestNotes notes = new() { Bytes = CpuNotes.Write(cpus) };
        DumpProgress progress = new(memory.Bytes);
        _progress = progress;
        int threads = Environment.ProcessorCount;
        if (request.Compression is { } compression)
        {
            KdumpLayout layout = new(isWide, compression, memory, notes, cpus.Length);
            return file => KdumpDump.Write(layout, compression, new KdumpFile(file, request.IsFlat), progress, threads);
        }

        MemoryMapping[] mappings = Mappings(request, all, cpus);
        byte[] headers = ElfHeaders.Write(isLong, isWide, memory, mappings, notes.Bytes);
        return file => ElfDump.Write(file, headers, memory, progress, threads);
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
