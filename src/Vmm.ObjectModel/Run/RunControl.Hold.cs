using Vmm.Qapi;

namespace Vmm.ObjectModel.Run;

public sealed partial class RunControl
{
    private string? _holdReason;
    private int _heldWakeup = NoRequest;

    /// <summary>
    /// Keeps vCPUs and memory as they are, while somebody reads them: operators may neither start nor stop the machine, and requests for resets,
    /// suspension, waking and the power button wait. The end of the process does not. Main loop.
    /// </summary>
    /// <param name="reason">What an operator is told.</param>
    /// <exception cref="InvalidOperationException">The machine is held already.</exception>
    public void Hold(string reason)
    {
        _mainLoop.AssertOnHomeLoop();
        if (_holdReason is not null)
        {
            throw new InvalidOperationException("the machine is held already");
        }

        _holdReason = reason;
    }

    /// <summary>Ends <see cref="Hold"/>: what has waited is carried out by the main loop. Main loop.</summary>
    public void Release()
    {
        _mainLoop.AssertOnHomeLoop();
        _holdReason = null;
        int wakeup = _heldWakeup;
        _heldWakeup = NoRequest;
        if (wakeup != NoRequest)
        {
            RequestWakeup((WakeupReason)wakeup);
        }

        _service.Schedule();
    }

    /// <summary>Refuses what an operator may not do while the machine is held.</summary>
    /// <exception cref="QapiException">It is, with the reason.</exception>
    public void ThrowIfHeld()
    {
        if (_holdReason is { } reason)
        {
            throw new QapiException(reason);
        }
    }
}
