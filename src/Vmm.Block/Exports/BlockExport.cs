using Vmm.Block.Backend;
using Vmm.Block.Graph;
using Vmm.Block.Qmp;

namespace Vmm.Block.Exports;

/// <summary>A node that others than the guest use. Home: main loop.</summary>
public abstract class BlockExport
{
    /// <summary>An export.</summary>
    protected BlockExport(string id, BlockExportType type, BlockBackend backend)
    {
        Id = id;
        Type = type;
        Backend = backend;
    }

    /// <summary>Unique among exports.</summary>
    public string Id { get; }

    /// <summary>How the node is exported.</summary>
    public BlockExportType Type { get; }

    /// <summary>What is exported.</summary>
    public BlockBackend Backend { get; }

    /// <summary>It ends when the last user has gone.</summary>
    public bool IsShuttingDown { get; private set; }

    /// <summary>Somebody is connected.</summary>
    public abstract bool IsUsed { get; }

    /// <summary>Ends only by force while it is used.</summary>
    public virtual bool NeedsForce => IsUsed;

    internal BlockExports? Owner { get; set; }

    /// <summary>Turns all users away; the export ends with the last of them.</summary>
    public void ShutDown()
    {
        if (IsShuttingDown)
        {
            return;
        }

        IsShuttingDown = true;
        OnShutDown();
        EndIfUnused();
    }

    /// <summary>Turns all users away.</summary>
    protected abstract void OnShutDown();

    /// <summary>The export is gone.</summary>
    protected abstract void OnEnded();

    internal void End() => OnEnded();

    /// <summary>To be called when a user has gone.</summary>
    protected void EndIfUnused()
    {
        if (IsShuttingDown && !IsUsed)
        {
            Owner?.Remove(this);
        }
    }
}

/// <summary>The exports of the process. Home: main loop.</summary>
public sealed class BlockExports
{
    private readonly BlockGraph _graph;
    private readonly List<BlockExport> _all = [];
    private readonly EventLoop.Tasks.LoopWaitQueue _ended = new();

    /// <summary>None.</summary>
    public BlockExports(BlockGraph graph)
    {
        _graph = graph;
    }

    /// <summary>Called when an export has ended, with its id.</summary>
    public Action<string>? OnDeleted { get; set; }

    /// <summary>All, oldest first.</summary>
    public IReadOnlyList<BlockExport> All => _all;

    /// <summary>The export with that id; null when there is none.</summary>
    public BlockExport? Find(string id) => _all.Find(e => e.Id == id);

    /// <summary>Adds one.</summary>
    public void Add(BlockExport export)
    {
        export.Owner = this;
        _all.Add(export);
    }

    /// <summary>Ends all exports, or those of a type, and waits until they have ended.</summary>
    public async EventLoop.Tasks.IoTask CloseAllAsync(BlockExportType? type = null)
    {
        foreach (BlockExport export in _all.ToArray())
        {
            if (type is null || export.Type == type)
            {
                export.ShutDown();
            }
        }

        if (type is null && _all.Count > 0)
        {
            // The process ends: requests that wait for their limits do not hold it up.
            await _graph.SettleAsync();
        }

        while (_all.Exists(e => type is null || e.Type == type))
        {
            await _ended.WaitAsync();
        }
    }

    internal void Remove(BlockExport export)
    {
        if (!_all.Remove(export))
        {
            return;
        }

        if (export.Backend.Remove() is { } node)
        {
            _graph.CloseIfUnusedAsync(node).Forget();
        }

        export.End();
        OnDeleted?.Invoke(export.Id);
        _ended.WakeAll();
    }
}
