using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.Block.Throttling;
using Vmm.EventLoop.Tasks;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;

namespace Vmm.Block.Drivers;

/// <summary>A filter whose requests a throttle group limits.</summary>
public sealed class ThrottleDriver(BlockdevOptionsThrottle options, ThrottleGroups groups) : FilterDriver
{
    private readonly ThrottleGroups _groups = groups;
    private ThrottleGroup? _group;
    private ThrottleMember? _member;
    private int _drained;

    /// <inheritdoc/>
    public override string FormatName => "throttle";

    /// <inheritdoc/>
    public override void DescribeOptions(QDict options) => options["throttle-group"] = _group!.Name;

    /// <inheritdoc/>
    public override IoTask OpenAsync()
    {
        if (_groups.Find(options.ThrottleGroup) is null)
        {
            throw new QapiException($"Throttle group '{options.ThrottleGroup}' does not exist");
        }

        _group = _groups.Take(options.ThrottleGroup);
        _member = new ThrottleMember(_group, Node.Loop);
        return IoTask.CompletedTask;
    }

    /// <inheritdoc/>
    public override IoTask CloseAsync()
    {
        _member!.Dispose();
        _groups.Release(_group!);
        return IoTask.CompletedTask;
    }

    /// <inheritdoc/>
    public override async IoTask<int> ReadAsync(long offset, IoVectors data, BlockRequestFlags flags)
    {
        await _member!.PassAsync(isWrite: false, data.Size);
        return await Child.ReadAsync(offset, data, flags);
    }

    /// <inheritdoc/>
    public override async IoTask<int> WriteAsync(long offset, IoVectors data, BlockRequestFlags flags)
    {
        await _member!.PassAsync(isWrite: true, data.Size);
        return await Child.WriteAsync(offset, data, flags);
    }

    /// <inheritdoc/>
    public override async IoTask<int> WriteZeroesAsync(long offset, long bytes, BlockRequestFlags flags)
    {
        await _member!.PassAsync(isWrite: true, bytes);
        return await Child.WriteZeroesAsync(offset, bytes, flags);
    }

    /// <inheritdoc/>
    public override async IoTask<int> DiscardAsync(long offset, long bytes)
    {
        await _member!.PassAsync(isWrite: true, bytes);
        return await Child.DiscardAsync(offset, bytes);
    }

    /// <inheritdoc/>
    public override bool IsChangeable(string option) => option == "throttle-group";

    /// <inheritdoc/>
    public override IoTask<ReopenStep?> PrepareReopenAsync(BlockdevOptions options, NodeOptions common)
    {
        string name = options.Throttle!.ThrottleGroup;
        if (_groups.Find(name) is null)
        {
            throw new QapiException($"Throttle group '{name}' does not exist");
        }

        return new(name == _group!.Name ? null : new Change(this, _groups.Take(name)));
    }

    /// <inheritdoc/>
    public override void DrainBegin()
    {
        _drained++;
        _member!.Disable();
    }

    /// <inheritdoc/>
    public override void DrainEnd()
    {
        _drained--;
        _member!.Enable();
    }

    /// <inheritdoc/>
    public override void OnLoopChanged() => _member!.MoveTo(Node.Loop);

    private sealed class Change(ThrottleDriver driver, ThrottleGroup group) : ReopenStep
    {
        public override IoTask CommitAsync()
        {
            // Nothing waits in a drained node.
            driver._member!.Dispose();
            driver._groups.Release(driver._group!);
            driver._group = group;
            driver._member = new ThrottleMember(group, driver.Node.Loop);
            for (int i = 0; i < driver._drained; i++)
            {
                driver._member.Disable();
            }

            return IoTask.CompletedTask;
        }

        public override IoTask AbortAsync()
        {
            driver._groups.Release(group);
            return IoTask.CompletedTask;
        }
    }
}
