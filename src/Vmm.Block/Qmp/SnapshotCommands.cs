using Vmm.Block.Drivers.Qcow2;
using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Qmp;

/// <summary>Snapshots, and several changes together. Home: main loop.</summary>
public sealed class SnapshotCommands(TransactionRunner transactions)
{
    private BlockGraph Graph => transactions.Jobs.Graph;

    /// <summary>Makes changes together or not at all.</summary>
    [QmpCommand("transaction", ArgsType = "actions:q,properties:q?", Since = "1.1")]
    public async Task Transaction(IReadOnlyList<TransactionActionOptions> actions, TransactionProperties? properties)
    {
        bool isGrouped = properties?.CompletionMode == ActionCompletionMode.Grouped;
        List<TransactionAction> made = [];
        foreach (TransactionActionOptions action in actions)
        {
            made.Add(Make(action));
            if (isGrouped && !made[^1].IsJob)
            {
                string kind = TransactionActionKindQapi.ToWire(action.Type);
                made.RemoveAt(made.Count - 1);
                made.Add(new RefusedAction($"Action '{kind}' does not support Transaction property completion-mode = grouped"));
            }
        }

        await transactions.RunAsync(made, isGrouped);
    }

    /// <summary>Puts an overlay over a node.</summary>
    [QmpCommand("blockdev-snapshot", ArgsType = "node:s,overlay:s", AllowPreconfig = true, Since = "2.5")]
    [QapiFeature("allow-write-only-overlay")]
    public async Task BlockdevSnapshot(string node, string overlay) =>
        await transactions.RunAsync(new NodeOverlayAction(Graph, new BlockdevSnapshot { Node = node, Overlay = overlay }));

    /// <summary>Puts a file as overlay over a node.</summary>
    [QmpCommand(
        "blockdev-snapshot-sync",
        ArgsType = "device:s?,node-name:s?,snapshot-file:s,snapshot-node-name:s?,format:s?,mode:s?",
        AllowPreconfig = true,
        Since = "0.14")]
    public async Task BlockdevSnapshotSync(
        string? device, string? nodeName, string snapshotFile, string? snapshotNodeName, string? format, NewImageMode? mode) =>
        await transactions.RunAsync(new FileOverlayAction(Graph, new BlockdevSnapshotSync
        {
            Device = device,
            NodeName = nodeName,
            SnapshotFile = snapshotFile,
            SnapshotNodeName = snapshotNodeName,
            Format = format,
            Mode = mode,
        }));

    /// <summary>Makes a snapshot inside an image.</summary>
    [QmpCommand("blockdev-snapshot-internal-sync", ArgsType = "device:B,name:s", AllowPreconfig = true, Since = "1.7")]
    public async Task BlockdevSnapshotInternalSync(string device, string name) =>
        await transactions.RunAsync(new InternalSnapshotAction(Graph, new BlockdevSnapshotInternal { Device = device, Name = name }));

    /// <summary>Deletes a snapshot inside an image.</summary>
    [QmpCommand("blockdev-snapshot-delete-internal-sync", ArgsType = "device:B,id:s?,name:s?", AllowPreconfig = true, Since = "1.7")]
    public async Task<SnapshotInfo> BlockdevSnapshotDeleteInternalSync(string device, string? id, string? name)
    {
        SnapshotInfo? info = null;
        await Graph.ChangeAsync(async () => info = await DeleteAsync(device, id, name));
        return info!;
    }

    private async IoTask<SnapshotInfo> DeleteAsync(string device, string? id, string? name)
    {
        BlockNode node = Graph.Lookup(device, device);
        if (!node.IsRoot)
        {
            throw new QapiException("Need a root block node");
        }

        if (id is null && name is null)
        {
            throw new QapiException("Name or id must be provided");
        }

        node.CheckNotInUse();
        node.CheckNotBacking();
        if (node.SkipFilters.Driver is not Qcow2Driver image)
        {
            throw new QapiException("Failed to get a snapshot list: Operation not supported");
        }

        Qcow2Snapshot found = image.Snapshots.FirstOrDefault(s => (id is null || s.Id == id) && (name is null || s.Name == name))
            ?? throw new QapiException($"Snapshot with id '{id ?? "null"}' and name '{name ?? "null"}' does not exist on device '{device}'");
        await node.DrainAsync();
        await node.Loop.SwitchTo();
        try
        {
            await image.DeleteSnapshotAsync(found.Id);
        }
        finally
        {
            await Graph.MainLoop.SwitchTo();
            node.DrainEnd();
        }

        return new SnapshotInfo
        {
            Id = found.Id,
            Name = found.Name,
            VmStateSize = found.StateBytes,
            DateSec = found.Seconds,
            DateNsec = found.Nanoseconds,
            VmClockSec = (long)(found.ClockNs / 1_000_000_000),
            VmClockNsec = (long)(found.ClockNs % 1_000_000_000),
            Icount = found.InstructionCount < 0 ? null : found.InstructionCount,
        };
    }

    private TransactionAction Make(TransactionActionOptions action) => action.Type switch
    {
        TransactionActionKind.Abort => new AbortAction(),
        TransactionActionKind.BlockDirtyBitmapAdd => new AddBitmapAction(Graph, action.BitmapAdd!),
        TransactionActionKind.BlockDirtyBitmapRemove => new RemoveBitmapAction(Graph, action.BitmapRemove!),
        TransactionActionKind.BlockDirtyBitmapClear => new ClearBitmapAction(Graph, action.BitmapClear!),
        TransactionActionKind.BlockDirtyBitmapEnable => new EnableBitmapAction(Graph, action.BitmapEnable!, isEnabled: true),
        TransactionActionKind.BlockDirtyBitmapDisable => new EnableBitmapAction(Graph, action.BitmapDisable!, isEnabled: false),
        TransactionActionKind.BlockDirtyBitmapMerge => new MergeBitmapAction(Graph, action.BitmapMerge!),
        TransactionActionKind.BlockdevBackup => new BackupAction(transactions.Jobs, action.Backup!),
        TransactionActionKind.BlockdevSnapshot => new NodeOverlayAction(Graph, action.Snapshot!),
        TransactionActionKind.BlockdevSnapshotInternalSync => new InternalSnapshotAction(Graph, action.SnapshotInternal!),
        TransactionActionKind.DriveBackup => new DriveBackupAction(transactions.Jobs, action.DriveBackup!),
        _ => new FileOverlayAction(Graph, action.SnapshotSync!),
    };

    /// <summary>An action that the whole of the transaction does not allow; those before it are undone.</summary>
    private sealed class RefusedAction(string message) : TransactionAction
    {
        /// <inheritdoc/>
        public override IoTask PrepareAsync(Jobs.JobTransaction? transaction) => throw new QapiException(message);
    }
}
