using Vmm.Block.Backend;
using Vmm.Block.Qmp;
using Vmm.Interop;
using Vmm.ObjectModel.Block;
using Vmm.ObjectModel.Run;
using Vmm.Qapi;
using Vmm.Qapi.Types;

namespace Vmm.System.Wiring;

/// <summary>The host's part of a failed request: first the event, then the machine stops. Any thread.</summary>
internal sealed class BlockErrorReports(EventLoop.EventLoop mainLoop, RunControl run, IEventEmitter events)
{
    /// <summary>Reports an error of a device's back end; see <see cref="BlockBackend.ErrorSink"/>.</summary>
    public void Report(BlockBackend backend, bool isRead, BlockErrorAction action, int error) =>
        mainLoop.RunOrPost(() => ReportHere(backend, isRead, action, (Errno)(-error)));

    private void ReportHere(BlockBackend backend, bool isRead, BlockErrorAction action, Errno error)
    {
        events.Emit(new BlockIoErrorEvent(
            backend.Name,
            backend.Root?.Name,
            isRead ? IoOperationType.Read : IoOperationType.Write,
            action switch
            {
                BlockErrorAction.Stop => ReportedErrorAction.Stop,
                BlockErrorAction.Report => ReportedErrorAction.Report,
                _ => ReportedErrorAction.Ignore,
            },
            backend.IoStatus is null ? null : error == Errno.ENOSPC,
            error.Message()));
        if (action == BlockErrorAction.Stop)
        {
            run.RequestVmStop(RunState.IoError);
        }
    }
}
