using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;

namespace Vmm.Block.Backend;

/// <summary>
/// The root of a tree of nodes and what its user, a device or an export, has of it: checks, holding requests back in drained sections, error
/// policy. Requests on <see cref="Loop"/>; everything else on the main loop.
/// </summary>
public sealed partial class BlockBackend : IBlockParent, IBlockBackend
{
    private readonly BlockGraph _graph;
    private readonly LoopWaitQueue _held = new();
    private BlockEdge? _root;
    private IBlockDevice? _device;
    private BlockPermissions _needed;
    private BlockPermissions _shared = BlockPermissions.All;
    private int _quiesced;
    private int _inFlight;

    /// <summary>A back end without medium.</summary>
    /// <param name="graph">The graph.</param>
    /// <param name="name">Its name; empty when it has none.</param>
    public BlockBackend(BlockGraph graph, string name)
    {
        _graph = graph;
        Name = name;
        Number = graph.NumberBackend();
        Loop = graph.MainLoop;
    }

    /// <inheritdoc/>
    public string Name { get; internal set; }

    /// <summary>Tells which of two back ends is the older one: it has the lower number.</summary>
    internal int Number { get; }

    /// <summary>The node at the top; null without medium.</summary>
    public BlockNode? Root => _root?.Node;

    /// <summary>The use of the node at the top.</summary>
    public BlockEdge? RootEdge => _root;

    /// <summary>Called on the main loop when the medium has another size: for users that are no devices.</summary>
    public Action? Resized { get; set; }

    /// <summary>The device.</summary>
    public IBlockDevice? Device => _device;

    /// <inheritdoc/>
    public bool IsInserted => _root is not null;

    /// <inheritdoc/>
    public bool IsReadOnly => _root?.Node.IsReadOnly ?? IsRootReadOnly;

    /// <summary>Asked for with -drive or the like.</summary>
    public bool IsDrive { get; init; }

    /// <summary>A medium that is put in without saying so is not written.</summary>
    public bool IsRootReadOnly { get; set; }

    /// <summary>How the host caches a medium that is put in.</summary>
    public (bool IsDirect, bool IsNoFlush) RootCache { get; set; }

    /// <summary>What becomes of writes of zeroes to a medium that is put in.</summary>
    public Options.DetectZeroesMode RootDetectZeroes { get; set; }

    /// <inheritdoc/>
    public long Length => _root?.Node.Length ?? BlockResult.NoMedium;

    /// <inheritdoc/>
    public EventLoop.EventLoop Loop { get; private set; }

    /// <inheritdoc/>
    public bool IsWriteCacheEnabled { get; set; } = true;

    /// <inheritdoc/>
    public int RequestAlignment => _root?.Node.Limits.RequestAlignment ?? 1;

    /// <inheritdoc/>
    public int MaxTransfer => _root?.Node.Limits.MaxTransfer ?? 0;

    /// <inheritdoc/>
    public int OptTransfer => _root?.Node.Limits.OptTransfer ?? 0;

    /// <summary>Writes may end behind the end of the node, which grows: exports and jobs that need it.</summary>
    public bool AllowsWritesBeyondEnd { get; set; }

    /// <inheritdoc/>
    public string Description => Name.Length > 0
        ? $"block device '{Name}'"
        : _device is { QdevName.Length: > 0 } device ? $"block device '{device.QdevName}'" : "an unnamed block device";

    /// <inheritdoc/>
    public bool IsBusy => Volatile.Read(ref _inFlight) > 0;

    /// <summary>Puts a node at the top.</summary>
    /// <exception cref="QapiException">Permissions conflict; nothing has changed.</exception>
    public void Insert(BlockNode node)
    {
        if (_root is not null)
        {
            throw new InvalidOperationException("a back end has a medium already");
        }

        _root = _graph.Attach(this, node, "root", ChildRole.Filtered | ChildRole.Primary, _needed, _shared);
        if (_device is null)
        {
            // Whoever uses the node already has it on its loop; a device says itself where it wants it.
            Loop = node.Loop;
        }

        _device?.OnResized();
    }

    /// <summary>Takes the node at the top out; the caller closes it if nobody else uses it.</summary>
    public BlockNode? Remove()
    {
        BlockNode? node = _root?.Node;
        if (_root is not null)
        {
            _graph.Detach(_root);
            _root = null;
            _graph.LeaveLoop(Loop);
        }

        return node;
    }

    /// <summary>Sets what the user needs and shares.</summary>
    /// <exception cref="QapiException">Permissions conflict; nothing has changed.</exception>
    public void SetPermissions(BlockPermissions needed, BlockPermissions shared)
    {
        if (_root is not null)
        {
            _graph.SetPermissions(_root, needed, shared);
        }

        (_needed, _shared) = (needed, shared);
    }

    /// <summary>Has the user do more with the medium, which stays so.</summary>
    /// <exception cref="QapiException">Permissions conflict; nothing has changed.</exception>
    public void AddPermissions(BlockPermissions more)
    {
        if ((more & ~_needed) != 0)
        {
            SetPermissions(_needed | more, _shared);
        }
    }

    /// <inheritdoc/>
    public void Attach(IBlockDevice device, bool isReadOnly, bool shareWrites)
    {
        if (_device is not null)
        {
            throw new QapiException($"Drive '{Name}' is already in use by another device");
        }

        BlockPermissions needed = BlockPermissions.ConsistentRead | (isReadOnly ? 0 : BlockPermissions.Write);
        BlockPermissions shared = BlockPermissions.ConsistentRead | BlockPermissions.WriteUnchanged | BlockPermissions.Resize
            | (shareWrites ? BlockPermissions.Write : 0);

        // Conflicts name the device.
        _device = device;
        try
        {
            SetPermissions(needed, shared);
        }
        catch (QapiException)
        {
            _device = null;
            throw;
        }

        for (int i = 0; i < _quiesced; i++)
        {
            device.DrainBegin();
        }
    }

    /// <inheritdoc/>
    public void Detach(IBlockDevice device)
    {
        if (_device != device)
        {
            return;
        }

        for (int i = 0; i < _quiesced; i++)
        {
            device.DrainEnd();
        }

        _device = null;
        SetPermissions(BlockPermissions.None, BlockPermissions.All);
    }

    /// <inheritdoc/>
    public void DrainBegin()
    {
        Volatile.Write(ref _quiesced, _quiesced + 1);

        // What waits for its limits would make the section last as long.
        _throttle?.Disable();
        _device?.DrainBegin();
    }

    /// <inheritdoc/>
    public void DrainEnd()
    {
        Volatile.Write(ref _quiesced, _quiesced - 1);
        _throttle?.Enable();
        _device?.DrainEnd();
        if (_quiesced == 0)
        {
            Loop.RunOrPost(_held.WakeAll);
        }
    }

    /// <inheritdoc/>
    public void OnResized(BlockEdge edge) => _graph.MainLoop.RunOrPost(() =>
    {
        _device?.OnResized();
        Resized?.Invoke();
    });

    /// <inheritdoc/>
    public async Task SetLoopAsync(EventLoop.EventLoop loop)
    {
        if (loop == Loop)
        {
            return;
        }

        if (_root is { } root && root.Node.Loop != loop)
        {
            await root.Node.DrainAsync();
            try
            {
                _graph.MoveToLoop(root.Node, this, loop);
            }
            finally
            {
                root.Node.DrainEnd();
            }
        }

        EventLoop.EventLoop old = Loop;
        OnLoopChanged(loop);
        _graph.LeaveLoop(old);
    }

    /// <inheritdoc/>
    public void OnLoopChanged(EventLoop.EventLoop loop)
    {
        Loop = loop;
        _throttle?.MoveTo(loop);
    }

    /// <inheritdoc/>
    public async IoTask<int> ReadAsync(long offset, IoVectors data)
    {
        long start = BlockAccounting.Start();
        await EnterAsync();
        int result = Check(offset, data.Size, isWrite: false);
        if (result >= 0)
        {
            await ThrottleAsync(isWrite: false, data.Size);
            result = await _root!.Node.ReadAsync(offset, data);
        }

        Accounting.Done(AccountedKind.Read, start, data.Size, result);
        Leave();
        return result;
    }

    /// <inheritdoc/>
    public IoTask<int> WriteAsync(long offset, IoVectors data) => WriteAsync(offset, data, BlockRequestFlags.None);

    /// <summary>Writes.</summary>
    public async IoTask<int> WriteAsync(long offset, IoVectors data, BlockRequestFlags flags)
    {
        long start = BlockAccounting.Start();
        await EnterAsync();
        int result = Check(offset, data.Size, isWrite: true);
        if (result >= 0)
        {
            await ThrottleAsync(isWrite: true, data.Size);
            result = await _root!.Node.WriteAsync(offset, data, IsWriteCacheEnabled ? flags : flags | BlockRequestFlags.Fua);
        }

        Accounting.Done(AccountedKind.Write, start, data.Size, result);
        Leave();
        return result;
    }

    /// <inheritdoc/>
    public IoTask<int> WriteZeroesAsync(long offset, long bytes, bool mayUnmap) =>
        WriteZeroesAsync(offset, bytes, mayUnmap ? BlockRequestFlags.MayUnmap : BlockRequestFlags.None);

    /// <summary>Makes a range read as zeroes.</summary>
    public async IoTask<int> WriteZeroesAsync(long offset, long bytes, BlockRequestFlags flags)
    {
        long start = BlockAccounting.Start();
        await EnterAsync();
        int result = Check(offset, bytes, isWrite: true);
        if (result >= 0)
        {
            await ThrottleAsync(isWrite: true, bytes);
            result = await _root!.Node.WriteZeroesAsync(offset, bytes, IsWriteCacheEnabled ? flags : flags | BlockRequestFlags.Fua);
        }

        Accounting.Done(AccountedKind.Write, start, bytes, result);
        Leave();
        return result;
    }

    /// <inheritdoc/>
    public async IoTask<int> DiscardAsync(long offset, long bytes)
    {
        long start = BlockAccounting.Start();
        await EnterAsync();
        int result = Check(offset, bytes, isWrite: true);
        if (result >= 0)
        {
            await ThrottleAsync(isWrite: true, bytes);
            result = await _root!.Node.DiscardAsync(offset, bytes);
        }

        Accounting.Done(AccountedKind.Unmap, start, bytes, result);
        Leave();
        return result;
    }

    /// <inheritdoc/>
    public async IoTask<int> FlushAsync()
    {
        long start = BlockAccounting.Start();
        await EnterAsync();
        int result = _root is null ? BlockResult.NoMedium : await _root.Node.FlushAsync();
        Accounting.Done(AccountedKind.Flush, start, 0, result);
        Leave();
        return result;
    }

    // Requests that come in a drained section wait for its end; those that went on are what the section waits for.
    private async IoTask EnterAsync()
    {
        Interlocked.Increment(ref _inFlight);
        while (Volatile.Read(ref _quiesced) > 0)
        {
            Leave();
            await _held.WaitAsync();
            Interlocked.Increment(ref _inFlight);
        }
    }

    private void Leave()
    {
        if (Interlocked.Decrement(ref _inFlight) == 0)
        {
            _graph.NotifyProgress();
        }
    }

    private int Check(long offset, long bytes, bool isWrite)
    {
        if (_root is not { } root)
        {
            return BlockResult.NoMedium;
        }

        if (isWrite && root.Node.IsReadOnly)
        {
            return -(int)Errno.EPERM;
        }

        return offset < 0 || bytes < 0 || (!AllowsWritesBeyondEnd && (offset > root.Node.Length || bytes > root.Node.Length - offset))
            ? BlockResult.Io
            : 0;
    }
}
