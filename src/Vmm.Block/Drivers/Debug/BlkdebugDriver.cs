using System.Globalization;
using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;

namespace Vmm.Block.Drivers.Debug;

/// <summary>
/// A filter for tests: requests fail as rules say, stop at breakpoints until they are told to go on, and keep to limits that a host might
/// have. The drivers above tell it what they are about to do (<see cref="BlockNode.DebugAsync"/>).
/// </summary>
public sealed class BlkdebugDriver : FilterDriver
{
    private readonly BlockdevOptionsBlkdebug _options;
    private readonly BlkdebugRules _rules = new();
    private readonly Dictionary<string, LoopWaitQueue> _stopped = [];
    private BlockPermissions _taken;
    private BlockPermissions _unshared;

    /// <summary>As the options say.</summary>
    public BlkdebugDriver(BlockdevOptionsBlkdebug options)
    {
        _options = options;
    }

    /// <inheritdoc/>
    public override string FormatName => "blkdebug";

    /// <inheritdoc/>
    public override BlockRequestFlags SupportedWriteFlags =>
        BlockRequestFlags.WriteUnchanged | (Child.Driver.SupportedWriteFlags & BlockRequestFlags.Fua);

    /// <inheritdoc/>
    public override BlockRequestFlags SupportedZeroFlags => BlockRequestFlags.WriteUnchanged
        | (Child.Driver.SupportedZeroFlags & (BlockRequestFlags.Fua | BlockRequestFlags.MayUnmap | BlockRequestFlags.NoFallback));

    /// <inheritdoc/>
    public override string? ExactFilename =>
        HasOnlyConfig && Child.Driver.ExactFilename is { } name && !name.StartsWith("json:", StringComparison.Ordinal)
            ? $"blkdebug:{_options.Config}:{name}"
            : null;

    private bool HasOnlyConfig => _options is
    {
        Align: null, MaxTransfer: null, OptWriteZero: null, MaxWriteZero: null, OptDiscard: null, MaxDiscard: null,
        InjectError: null, SetState: null, TakeChildPerms: null, UnshareChildPerms: null,
    };

    /// <summary>The debug filter through which a node's file is reached; null when there is none.</summary>
    public static BlkdebugDriver? Below(BlockNode? node)
    {
        for (; node is not null; node = node.Primary?.Node)
        {
            if (node.Driver is BlkdebugDriver driver)
            {
                return driver;
            }
        }

        return null;
    }

    /// <summary>The next request to which an event happens stops.</summary>
    /// <param name="point">Name of the event.</param>
    /// <param name="tag">Name by which it is resumed.</param>
    /// <returns>False when there is no such event.</returns>
    public bool Break(string point, string tag)
    {
        if (!BlkdebugEventQapi.TryParse(point, out BlkdebugEvent found))
        {
            return false;
        }

        _rules.AddBreakpoint(found, tag);
        return true;
    }

    /// <summary>Has a request that stopped go on; false when none did.</summary>
    public bool Resume(string tag) => _stopped.TryGetValue(tag, out LoopWaitQueue? queue) && queue.WakeOne();

    /// <summary>Takes breakpoints back and has what they stopped go on; false when there was nothing.</summary>
    public bool RemoveBreak(string tag)
    {
        bool isFound = _rules.RemoveBreakpoints(tag);
        if (_stopped.TryGetValue(tag, out LoopWaitQueue? queue))
        {
            isFound |= queue.Count > 0;
            queue.WakeAll();
        }

        return isFound;
    }

    /// <summary>True while a request is stopped.</summary>
    public bool IsStopped(string tag) => _stopped.TryGetValue(tag, out LoopWaitQueue? queue) && queue.Count > 0;

    /// <inheritdoc/>
    public override long GetAllocatedBytes() => BlockResult.NotSupported;

    /// <inheritdoc/>
    public override int ClusterBytes => 0;

    /// <inheritdoc/>
    public override void DescribeImage(ImageDescription image)
    {
        ImageDescription below = new();
        Node.Filtered!.Node.Driver.DescribeImage(below);
        image.IsDirty = below.IsDirty;
    }

    /// <inheritdoc/>
    public override void DescribeOptions(QDict options)
    {
        if (_options.Config is { } config)
        {
            options["config"] = config;
        }

        Put(options, "align", _options.Align);
        Put(options, "max-transfer", _options.MaxTransfer);
        Put(options, "opt-write-zero", _options.OptWriteZero);
        Put(options, "max-write-zero", _options.MaxWriteZero);
        Put(options, "opt-discard", _options.OptDiscard);
        Put(options, "max-discard", _options.MaxDiscard);
        Flatten(options, "inject-error", [.. (_options.InjectError ?? []).Select(static o => o.QapiToValue())]);
        Flatten(options, "set-state", [.. (_options.SetState ?? []).Select(static o => o.QapiToValue())]);
    }

    /// <inheritdoc/>
    public override async IoTask OpenAsync()
    {
        if (_options.Config is { } config)
        {
            BlkdebugConfig.ReadFile(config, _rules);
        }

        foreach (BlkdebugInjectErrorOptions rule in _options.InjectError ?? [])
        {
            _rules.Add(rule);
        }

        foreach (BlkdebugSetStateOptions rule in _options.SetState ?? [])
        {
            _rules.Add(rule);
        }

        _taken = Permissions(_options.TakeChildPerms);
        _unshared = Permissions(_options.UnshareChildPerms);
        CheckLimits();
        Node.Debugger = this;
        _rules.Happen(BlkdebugEvent.None);
        await IoTask.CompletedTask;
    }

    /// <inheritdoc/>
    public override IoTask CloseAsync()
    {
        foreach (LoopWaitQueue queue in _stopped.Values)
        {
            queue.WakeAll();
        }

        return IoTask.CompletedTask;
    }

    /// <inheritdoc/>
    public override void RefreshLimits(ref BlockLimits limits)
    {
        base.RefreshLimits(ref limits);
        limits.RequestAlignment = Math.Max(limits.RequestAlignment, (int)(_options.Align ?? 0));
        limits.MaxTransfer = Given(_options.MaxTransfer, limits.MaxTransfer);
        limits.WriteZeroesAlignment = Given(_options.OptWriteZero, limits.WriteZeroesAlignment);
        limits.MaxWriteZeroes = Given(_options.MaxWriteZero, (int)Math.Min(limits.MaxWriteZeroes, int.MaxValue));
        limits.DiscardAlignment = Given(_options.OptDiscard, limits.DiscardAlignment);
        limits.MaxDiscard = Given(_options.MaxDiscard, (int)Math.Min(limits.MaxDiscard, int.MaxValue));
    }

    /// <inheritdoc/>
    public override (BlockPermissions Needed, BlockPermissions Shared) ChildPermissions(
        BlockEdge child, BlockPermissions needed, BlockPermissions shared)
    {
        var (neededBelow, sharedBelow) = base.ChildPermissions(child, needed, shared);
        return (neededBelow | _taken, sharedBelow & ~_unshared);
    }

    /// <inheritdoc/>
    public override async IoTask<int> ReadAsync(long offset, IoVectors data, BlockRequestFlags flags)
    {
        int result = await CheckAsync(offset, data.Size, BlkdebugIoType.Read);
        return result < 0 ? result : await Child.ReadAsync(offset, data, flags);
    }

    /// <inheritdoc/>
    public override async IoTask<int> WriteAsync(long offset, IoVectors data, BlockRequestFlags flags)
    {
        int result = await CheckAsync(offset, data.Size, BlkdebugIoType.Write);
        return result < 0 ? result : await Child.WriteAsync(offset, data, flags);
    }

    /// <inheritdoc/>
    public override async IoTask<int> WriteZeroesAsync(long offset, long bytes, BlockRequestFlags flags)
    {
        // What is no whole block takes the way of a host that cannot do it.
        if (bytes < Math.Max(Node.Limits.RequestAlignment, Node.Limits.WriteZeroesAlignment))
        {
            return BlockResult.NotSupported;
        }

        int result = await CheckAsync(offset, bytes, BlkdebugIoType.WriteZeroes);
        return result < 0 ? result : await Child.WriteZeroesAsync(offset, bytes, flags);
    }

    /// <inheritdoc/>
    public override async IoTask<int> DiscardAsync(long offset, long bytes)
    {
        if (bytes < Node.Limits.DiscardAlignment)
        {
            return BlockResult.NotSupported;
        }

        int result = await CheckAsync(offset, bytes, BlkdebugIoType.Discard);
        return result < 0 ? result : await Child.DiscardAsync(offset, bytes);
    }

    /// <inheritdoc/>
    public override IoTask<int> FlushToDiskAsync() => CheckAsync(0, 0, BlkdebugIoType.Flush);

    /// <inheritdoc/>
    public override async IoTask<BlockStatus> StatusAsync(long offset, long bytes, bool wantZero)
    {
        int result = await CheckAsync(offset, bytes, BlkdebugIoType.BlockStatus);
        return result < 0 ? BlockStatus.Error(result) : await base.StatusAsync(offset, bytes, wantZero);
    }

    /// <summary>An event happens to a request, which waits where a breakpoint is set. Home loop.</summary>
    internal async IoTask HappenAsync(BlkdebugEvent point)
    {
        foreach (string tag in _rules.Happen(point))
        {
            if (!_stopped.TryGetValue(tag, out LoopWaitQueue? queue))
            {
                _stopped.Add(tag, queue = new LoopWaitQueue());
            }

            await queue.WaitAsync();
        }
    }

    private static int Given(int? option, int otherwise) => option is > 0 and { } given ? given : otherwise;

    private static void Put(QDict options, string name, long? value)
    {
        if (value is { } number)
        {
            options[name] = number;
        }
    }

    private static void Flatten(QDict options, string name, IReadOnlyList<QDict> rules)
    {
        for (int i = 0; i < rules.Count; i++)
        {
            foreach ((string member, QValue? value) in rules[i])
            {
                options[string.Create(CultureInfo.InvariantCulture, $"{name}.{i}.{member}")] = value;
            }
        }
    }

    private static BlockPermissions Permissions(IReadOnlyList<BlkdebugPermission>? names)
    {
        BlockPermissions all = BlockPermissions.None;
        foreach (BlkdebugPermission name in names ?? [])
        {
            all |= name switch
            {
                BlkdebugPermission.ConsistentRead => BlockPermissions.ConsistentRead,
                BlkdebugPermission.Write => BlockPermissions.Write,
                BlkdebugPermission.WriteUnchanged => BlockPermissions.WriteUnchanged,
                _ => BlockPermissions.Resize,
            };
        }

        return all;
    }

    private static void CheckLimit(string name, long? value, long multiple)
    {
        if (value is { } given && given != 0 && (given is < 0 or >= int.MaxValue || given % Math.Max(multiple, 1) != 0))
        {
            throw new QapiException($"Cannot meet constraints with {name} {unchecked((ulong)given)}");
        }
    }

    private void CheckLimits()
    {
        long own = _options.Align ?? 0;
        if (own is < 0 or >= int.MaxValue || (own != 0 && !long.IsPow2(own)))
        {
            throw new QapiException($"Cannot meet constraints with align {unchecked((ulong)own)}");
        }

        long align = Math.Max(own, Child.Limits.RequestAlignment);
        CheckLimit("max-transfer", _options.MaxTransfer, align);
        CheckLimit("opt-write-zero", _options.OptWriteZero, align);
        CheckLimit("max-write-zero", _options.MaxWriteZero, Math.Max(_options.OptWriteZero ?? 0, align));
        CheckLimit("opt-discard", _options.OptDiscard, align);
        CheckLimit("max-discard", _options.MaxDiscard, Math.Max(_options.OptDiscard ?? 0, align));
    }

    private async IoTask<int> CheckAsync(long offset, long bytes, BlkdebugIoType type)
    {
        int result = _rules.Check(offset, bytes, type, out bool isImmediate);
        if (result < 0 && !isImmediate)
        {
            IoCompletion<bool> later = new();
            Node.Loop.Post(() => later.SetResult(true));
            await later.Task;
        }

        return result;
    }
}
