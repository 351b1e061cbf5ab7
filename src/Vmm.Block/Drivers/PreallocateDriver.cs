using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;

namespace Vmm.Block.Drivers;

/// <summary>
/// A filter that makes its file longer than a write needs, so that the host's file system changes the size less often. What is too long is cut
/// off when nobody may write any more, and when the node is closed.
/// </summary>
public sealed class PreallocateDriver : FilterDriver
{
    private const long DefaultAlign = 1 << 20;
    private const long DefaultBytes = 128 << 20;
    private const BlockPermissions Growing = BlockPermissions.Write | BlockPermissions.Resize;

    private long _align;
    private long _bytes;
    private readonly LoopMutex _growing = new();
    private bool _mayGrow;

    // End of what users have written; -1 while the file has no more than that.
    private long _dataEnd = -1;
    private long _fileEnd;

    /// <summary>As the options say.</summary>
    public PreallocateDriver(BlockdevOptionsPreallocate options)
    {
        _align = options.PreallocAlign ?? DefaultAlign;
        _bytes = options.PreallocSize ?? DefaultBytes;
        if (_bytes < 0)
        {
            throw new QapiException("Parameter 'prealloc-size' expects a non-negative number below 2^64");
        }
    }

    /// <inheritdoc/>
    public override string FormatName => "preallocate";

    /// <inheritdoc/>
    public override IoTask OpenAsync()
    {
        CheckAlign(_align);
        return IoTask.CompletedTask;
    }

    /// <inheritdoc/>
    public override bool IsChangeable(string option) => option is "prealloc-align" or "prealloc-size";

    /// <inheritdoc/>
    public override IoTask<ReopenStep?> PrepareReopenAsync(BlockdevOptions options, NodeOptions common)
    {
        PreallocateDriver wanted = new(options.Preallocate!);
        CheckAlign(wanted._align);
        return new(new Change(this, wanted._align, wanted._bytes));
    }

    /// <inheritdoc/>
    public override async IoTask CloseAsync()
    {
        try
        {
            await TrimAsync();
        }
        catch (QapiException)
        {
            // The file stays longer than it need be.
        }
    }

    /// <inheritdoc/>
    public override IoTask<long> GetLengthAsync() => new(_dataEnd >= 0 ? _dataEnd : Child.Length);

    /// <inheritdoc/>
    public override long LengthOver(long childLength) => _dataEnd >= 0 ? _dataEnd : childLength;

    /// <inheritdoc/>
    public override (BlockPermissions Needed, BlockPermissions Shared) ChildPermissions(
        BlockEdge child, BlockPermissions needed, BlockPermissions shared)
    {
        var (neededBelow, sharedBelow) = base.ChildPermissions(child, needed, shared);
        return (needed & Growing) == Growing || _dataEnd >= 0 ? (neededBelow | Growing, sharedBelow & ~Growing) : (neededBelow, sharedBelow);
    }

    /// <inheritdoc/>
    public override void SetPermissions(BlockPermissions needed, BlockPermissions shared)
    {
        _mayGrow = (needed & Growing) == Growing;
        if (!_mayGrow && _dataEnd >= 0)
        {
            GiveUpAsync().Forget();
        }
    }

    /// <inheritdoc/>
    public override async IoTask<int> WriteAsync(long offset, IoVectors data, BlockRequestFlags flags)
    {
        await GrowAsync(offset + data.Size);
        return await Child.WriteAsync(offset, data, flags);
    }

    /// <inheritdoc/>
    public override async IoTask<int> WriteZeroesAsync(long offset, long bytes, BlockRequestFlags flags)
    {
        await GrowAsync(offset + bytes);
        return await Child.WriteZeroesAsync(offset, bytes, flags);
    }

    /// <inheritdoc/>
    public override async IoTask TruncateAsync(long length, bool exact, PreallocMode prealloc, bool zeroed)
    {
        await TrimAsync();
        await Child.TruncateAsync(length, exact, prealloc, zeroed);
    }

    private async IoTask GrowAsync(long end)
    {
        long dataEnd = _dataEnd >= 0 ? _dataEnd : Child.Length;
        if (end <= dataEnd || !_mayGrow)
        {
            return;
        }

        await _growing.EnterAsync();
        long start = _dataEnd >= 0 ? _fileEnd : Child.Length;
        if (end > start && end < long.MaxValue - _bytes - _align)
        {
            long target = (end + _bytes + _align - 1) / _align * _align;
            const BlockRequestFlags Cheaply = BlockRequestFlags.NoFallback | BlockRequestFlags.Serialising | BlockRequestFlags.NoWait;
            long before = _dataEnd;
            _dataEnd = Math.Max(_dataEnd, dataEnd);
            int result = await Child.WriteZeroesAsync(start, target - start, Cheaply);
            (_dataEnd, _fileEnd) = result >= 0 ? (_dataEnd, target) : (before, _fileEnd);
        }

        if (_dataEnd >= 0)
        {
            _dataEnd = Math.Max(_dataEnd, end);
        }

        _growing.Exit();
    }

    private async IoTask GiveUpAsync()
    {
        BlockNode node = Node;
        await node.Loop.SwitchTo();
        try
        {
            await TrimAsync();
        }
        catch (QapiException)
        {
            _dataEnd = -1;
        }

        await node.Graph.MainLoop.SwitchTo();
        if (node.Primary is not null)
        {
            PermissionUpdate.Run(node);
        }
    }

    private async IoTask TrimAsync()
    {
        await _growing.EnterAsync();
        try
        {
            if (_dataEnd >= 0 && _fileEnd > _dataEnd)
            {
                await Child.TruncateAsync(_dataEnd);
            }

            _dataEnd = -1;
        }
        finally
        {
            _growing.Exit();
        }
    }

    private void CheckAlign(long align)
    {
        if (align <= 0 || align % 512 != 0)
        {
            throw new QapiException("prealloc-align parameter of preallocate filter is not aligned to 512");
        }

        int below = Child.Limits.RequestAlignment;
        if (align % below != 0)
        {
            throw new QapiException($"prealloc-align parameter of preallocate filter is not aligned to underlying node request alignment ({below})");
        }
    }

    private sealed class Change(PreallocateDriver driver, long align, long bytes) : ReopenStep
    {
        public override IoTask CommitAsync()
        {
            (driver._align, driver._bytes) = (align, bytes);
            return IoTask.CompletedTask;
        }
    }
}
