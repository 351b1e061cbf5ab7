namespace Vmm.Block.Throttling;

/// <summary>While it exists a member of a group has no limits.</summary>
internal sealed class LimitsPause : IDisposable
{
    private readonly ThrottleMember _member;
    private bool _isOver;

    /// <summary>Lets go what waits.</summary>
    internal LimitsPause(ThrottleMember member)
    {
        _member = member;
        member.Disable();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (!_isOver)
        {
            _isOver = true;
            _member.Enable();
        }
    }
}
