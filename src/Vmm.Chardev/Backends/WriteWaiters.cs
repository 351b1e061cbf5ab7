namespace Vmm.Chardevs;

/// <summary>Front ends that wait for a medium to take bytes again; each is called once. Reused, so that waiting allocates nothing.</summary>
internal sealed class WriteWaiters
{
    private List<Action> _waiting = [];
    private List<Action> _calling = [];

    /// <summary>Whether anybody waits.</summary>
    internal bool Any => _waiting.Count > 0;

    /// <summary>Adds a waiter, at most once.</summary>
    internal void Add(Action waiter)
    {
        if (!_waiting.Contains(waiter))
        {
            _waiting.Add(waiter);
        }
    }

    /// <summary>Calls all; those that still cannot write add themselves again.</summary>
    internal void Wake()
    {
        (_waiting, _calling) = (_calling, _waiting);
        foreach (Action waiter in _calling)
        {
            waiter();
        }

        _calling.Clear();
    }
}
