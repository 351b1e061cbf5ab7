using Vmm.Block.Throttling;
using Vmm.EventLoop.Tasks;

namespace Vmm.Block.Backend;

/// <content>Limits of a back end's own, and what it counts.</content>
public sealed partial class BlockBackend
{
    private ThrottleMember? _throttle;

    /// <inheritdoc/>
    public IDisposable? SuspendLimits() => _throttle is { } member ? new LimitsPause(member) : null;

    /// <summary>What the device's requests amount to.</summary>
    public BlockAccounting Accounting { get; } = new();

    /// <summary>The limits of the back end; null when it has none.</summary>
    public ThrottleConfig? Limits => _throttle?.Group.Config;

    /// <summary>The throttle group; null without limits.</summary>
    public string? ThrottleGroupName => _throttle?.Group.Name;

    /// <summary>Sets limits for the back end's group, which it joins. Drained.</summary>
    /// <param name="groups">The groups.</param>
    /// <param name="group">Name of a group; null for the present one, or one of its own.</param>
    /// <param name="own">Name of its own group.</param>
    /// <param name="config">The limits; when none is enabled, the back end leaves its group.</param>
    public void SetLimits(ThrottleGroups groups, string? group, string own, ThrottleConfig config)
    {
        if (!config.IsEnabled)
        {
            LeaveGroup(groups);
            return;
        }

        if (_throttle is not null && group is not null && group != _throttle.Group.Name)
        {
            LeaveGroup(groups);
        }

        if (_throttle is null)
        {
            _throttle = new ThrottleMember(groups.Take(group ?? own), Loop);
            for (int i = 0; i < _quiesced; i++)
            {
                _throttle.Disable();
            }
        }

        _throttle.Group.Configure(config);
    }

    /// <summary>Ends all limits. Drained.</summary>
    public void LeaveGroup(ThrottleGroups groups)
    {
        if (_throttle is { } member)
        {
            _throttle = null;
            member.Dispose();
            groups.Release(member.Group);
        }
    }

    /// <inheritdoc/>
    public void CountInvalid(bool isRead) => Accounting.Refused(isRead ? AccountedKind.Read : AccountedKind.Write);

    private IoTask ThrottleAsync(bool isWrite, long bytes) => _throttle?.PassAsync(isWrite, bytes) ?? IoTask.CompletedTask;
}
