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

    /// <summary>
    /// Begins a dump, as soon as nothing writes memory any more. The task that it returns ends with the dump, after the event and with the machine
    /// running again when it ran.
    /// </summary>
    /// <exception cref="QapiException">There is nothing to dump; the dump failed, from the task that is returned.</exception>
    internal async ValueTask<Task> Start(DumpRequest request)
    {
        bool wasRunning = run.IsRunning;
        _status = DumpStatus.Active;
        _progress = new DumpProgress(0);
        if (wasRunning)
        {
            run.Stop(RunState.SaveVm);
        }

        run.Hold(BusyText);
        try
        {
            if (wasRunning)
            {
                // What the guest has asked its disks for still arrives in its memory.
                await run.Settled.ConfigureAwait(true);
            }

            DumpPlan plan = Plan(request);
            _progress = plan.Progress;
            return Run(request, plan, wasRunning);
        }
        catch
        {
            request.File.Dispose();
            _status = DumpStatus.Failed;
            Resume(wasRunning);
            throw;
        }
    }

    private Task Run(DumpRequest request, DumpPlan plan, bool wasRunning)
    {
        TaskCompletionSource completion = new();
        EventLoop.EventLoop loop = machine()!.MainLoop;
        new Thread(
            () =>
            {
                string? error = plan.Write(request.File);
                loop.Post(() => Finish(error, wasRunning, completion));
            },
            StackBytes) { IsBackground = true, Name = "dump" }.Start();
        return completion.Task;
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
    private DumpPlan Plan(DumpRequest request)
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
        CpuArchState[] cpus = [.. services.Accelerator.Vcpus.Select(static cpu => cpu.GetState())];
        var device = services.Objects.Resolve("", "vmcoreinfo", out _) as IVmCoreInfo;
        return DumpPlan.Of(request, all, cpus, VmCoreInfo.Read(device?.Note, all), Environment.ProcessorCount);
    }
}
