namespace Vmm.Block.Drivers.Qcow2;

/// <summary>
/// Places that metadata no longer refers to, but which a request that has looked them up before may still read or write. They may be used
/// again when all requests that were under way at the time have ended. Requests say when they begin and end: each counts for one of two
/// phases, and when places wait, the phase changes and the old one is waited for. Home: the node's loop.
/// </summary>
internal sealed class Qcow2Limbo
{
    private readonly int[] _active = new int[2];
    private readonly HashSet<long> _waiting = [];
    private readonly HashSet<long> _leaving = [];
    private int _phase;

    /// <summary>Called with the lowest of the clusters that may be used again.</summary>
    internal Action<long>? OnReleased { get; set; }

    /// <summary>Nothing is held back.</summary>
    internal bool IsEmpty => _waiting.Count == 0 && _leaving.Count == 0;

    /// <summary>True when the cluster may not be used again yet.</summary>
    internal bool Holds(long cluster) => _waiting.Contains(cluster) || _leaving.Contains(cluster);

    /// <summary>A request looks up places. Returns what <see cref="Leave"/> takes.</summary>
    internal int Enter()
    {
        _active[_phase]++;
        return _phase;
    }

    /// <summary>It uses them no longer.</summary>
    internal void Leave(int phase)
    {
        if (--_active[phase] == 0 && _leaving.Count > 0 && phase != _phase)
        {
            Release(_leaving);
            Turn();
        }
    }

    /// <summary>A cluster is referred to no longer.</summary>
    internal void Add(long cluster)
    {
        if (_active[0] + _active[1] > 0)
        {
            _waiting.Add(cluster);
            Turn();
        }
    }

    // While nothing leaves, no request of the other phase is under way.
    private void Turn()
    {
        if (_leaving.Count > 0 || _waiting.Count == 0)
        {
            return;
        }

        if (_active[_phase] == 0)
        {
            Release(_waiting);
            return;
        }

        _leaving.UnionWith(_waiting);
        _waiting.Clear();
        _phase = 1 - _phase;
    }

    private void Release(HashSet<long> clusters)
    {
        long first = long.MaxValue;
        foreach (long cluster in clusters)
        {
            first = Math.Min(first, cluster);
        }

        clusters.Clear();
        OnReleased?.Invoke(first);
    }
}
