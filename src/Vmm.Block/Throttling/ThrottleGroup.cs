using Vmm.EventLoop;
using Vmm.EventLoop.Tasks;

namespace Vmm.Block.Throttling;

/// <summary>
/// Limits that several members share. Of the members that wait one has the turn, and after each request the next one, round robin; reads
/// and writes have turns of their own. Members may live on different loops; a timer on the loop of the member in turn lets its request go.
/// Any thread.
/// </summary>
public sealed class ThrottleGroup
{
    private readonly Lock _gate = new();
    private readonly Clocks _clocks;
    private readonly ClockType _clock;
    private readonly ThrottleState _state = new();
    private readonly List<ThrottleMember> _members = [];
    private readonly ThrottleMember?[] _turn = new ThrottleMember?[2];
    private readonly bool[] _isArmed = new bool[2];

    /// <summary>A group without limits.</summary>
    public ThrottleGroup(string name, Clocks clocks)
    {
        Name = name;
        _clocks = clocks;
        _clock = clocks.IsManual ? ClockType.Virtual : ClockType.Realtime;
    }

    /// <summary>Its name.</summary>
    public string Name { get; }

    /// <summary>The limits.</summary>
    public ThrottleConfig Config
    {
        get
        {
            lock (_gate)
            {
                return _state.Config;
            }
        }
    }

    /// <summary>Number of members.</summary>
    public int Count
    {
        get
        {
            lock (_gate)
            {
                return _members.Count;
            }
        }
    }

    internal ClockType Clock => _clock;

    /// <summary>Sets other limits. Requests that wait are weighed again.</summary>
    public void Configure(ThrottleConfig config)
    {
        lock (_gate)
        {
            _state.Configure(config, _clocks.NowNs(_clock));
            foreach (ThrottleMember member in _members)
            {
                member.Restart();
            }
        }
    }

    internal void Add(ThrottleMember member)
    {
        lock (_gate)
        {
            _members.Add(member);
            _turn[0] ??= member;
            _turn[1] ??= member;
        }
    }

    internal void Remove(ThrottleMember member)
    {
        lock (_gate)
        {
            for (int direction = 0; direction < 2; direction++)
            {
                if (_turn[direction] == member)
                {
                    ThrottleMember next = Next(member);
                    _turn[direction] = next == member ? null : next;
                }

                if (member.Disarm(direction))
                {
                    _isArmed[direction] = false;
                }
            }

            _members.Remove(member);
            Resume();
        }
    }

    /// <summary>True when the request may go at once and has been counted; else it waits in the member's queue.</summary>
    internal bool TryPass(ThrottleMember member, bool isWrite, long bytes)
    {
        int direction = isWrite ? 1 : 0;
        lock (_gate)
        {
            if (member.IsDisabled)
            {
                return true;
            }

            bool mustWait = Schedule(InTurn(member, direction), direction);
            if (mustWait || member.Waiting(direction) > 0)
            {
                member.AddWaiting(direction);
                return false;
            }

            _state.Account(isWrite, bytes);
            ScheduleNext(member, direction);
            return true;
        }
    }

    /// <summary>A request that waited goes: it is counted and the next one is chosen.</summary>
    internal void Passed(ThrottleMember member, bool isWrite, long bytes)
    {
        int direction = isWrite ? 1 : 0;
        lock (_gate)
        {
            member.RemoveWaiting(direction);
            _state.Account(isWrite, bytes);
            ScheduleNext(member, direction);
        }
    }

    /// <summary>The timer of a member has run out. Its loop.</summary>
    internal void TimerFired(ThrottleMember member, int direction)
    {
        lock (_gate)
        {
            if (!member.IsDisabled || _turn[direction] == member)
            {
                _isArmed[direction] = false;
            }

            bool isAny = member.WakeOne(direction);

            // Without limits nothing waits, and least of all for the turns of others.
            for (bool isMore = isAny && member.IsDisabled; isMore;)
            {
                isMore = member.WakeOne(direction);
            }

            if (!isAny)
            {
                ScheduleNext(member, direction);
            }
        }
    }

    private void Resume()
    {
        for (int direction = 0; direction < 2; direction++)
        {
            if (!_isArmed[direction] && _turn[direction] is { } member)
            {
                ScheduleNext(member, direction);
            }
        }
    }

    // Whose request is weighed when one of a member comes: that of the next member that waits, else its own.
    private ThrottleMember InTurn(ThrottleMember member, int direction)
    {
        ThrottleMember start = _turn[direction] ?? member;
        ThrottleMember next = Next(start);
        while (next != start && next.Waiting(direction) == 0)
        {
            next = Next(next);
        }

        return next == start && next.Waiting(direction) == 0 ? member : next;
    }

    private ThrottleMember Next(ThrottleMember member)
    {
        int index = _members.IndexOf(member);
        return _members[(index + 1) % _members.Count];
    }

    // True when the next request has to wait; a timer runs then.
    private bool Schedule(ThrottleMember member, int direction)
    {
        if (_isArmed[direction])
        {
            return true;
        }

        long wait = member.IsDisabled ? 0 : _state.WaitNs(direction == 1, _clocks.NowNs(_clock));
        if (wait == 0)
        {
            return false;
        }

        member.Arm(direction, wait);
        _turn[direction] = member;
        _isArmed[direction] = true;
        return true;
    }

    private void ScheduleNext(ThrottleMember member, int direction)
    {
        ThrottleMember next = InTurn(member, direction);
        if (next.Waiting(direction) == 0 || Schedule(next, direction))
        {
            return;
        }

        // It may go now: on its own loop.
        next.Arm(direction, 0);
        _turn[direction] = next;
        _isArmed[direction] = true;
    }
}

/// <summary>A back end or filter whose requests a group limits. Requests: its loop.</summary>
public sealed class ThrottleMember : IDisposable
{
    private readonly ThrottleGroup _group;
    private readonly LoopWaitQueue[] _queues = [new(), new()];
    private readonly int[] _waiting = new int[2];
    private LoopTimer[] _timers;
    private int _disabled;

    /// <summary>A member of the group whose requests come on the loop.</summary>
    public ThrottleMember(ThrottleGroup group, EventLoop.EventLoop loop)
    {
        _group = group;
        _timers = MakeTimers(loop);
        group.Add(this);
    }

    /// <summary>The group.</summary>
    public ThrottleGroup Group => _group;

    /// <summary>True while requests pass without limits, as in drained sections.</summary>
    public bool IsDisabled => Volatile.Read(ref _disabled) > 0;

    /// <summary>Waits until the request may go, and counts it.</summary>
    public IoTask PassAsync(bool isWrite, long bytes) =>
        _group.TryPass(this, isWrite, bytes) ? IoTask.CompletedTask : WaitAsync(isWrite, bytes);

    /// <summary>Lets what waits and what comes go without limits; calls nest. Main loop.</summary>
    public void Disable()
    {
        if (Interlocked.Increment(ref _disabled) == 1)
        {
            Restart();
        }
    }

    /// <summary>Ends one <see cref="Disable"/>.</summary>
    public void Enable() => Interlocked.Decrement(ref _disabled);

    /// <summary>Goes to another loop. Nothing waits.</summary>
    public void MoveTo(EventLoop.EventLoop loop)
    {
        Array.ForEach(_timers, static timer => timer.Cancel());
        _timers = MakeTimers(loop);
    }

    /// <summary>Leaves the group. Nothing waits.</summary>
    public void Dispose() => _group.Remove(this);

    internal int Waiting(int direction) => _waiting[direction];

    internal void AddWaiting(int direction) => _waiting[direction]++;

    internal void RemoveWaiting(int direction) => _waiting[direction]--;

    internal void Arm(int direction, long ns) => _timers[direction].ArmAfter(ns);

    internal bool Disarm(int direction)
    {
        bool isArmed = _timers[direction].IsArmed;
        _timers[direction].Cancel();
        return isArmed;
    }

    internal bool WakeOne(int direction) => _queues[direction].WakeOne();

    /// <summary>Weighs what waits again, on its loop.</summary>
    internal void Restart()
    {
        for (int direction = 0; direction < 2; direction++)
        {
            if (_waiting[direction] > 0)
            {
                _timers[direction].ArmAfter(0);
            }
        }
    }

    private async IoTask WaitAsync(bool isWrite, long bytes)
    {
        await _queues[isWrite ? 1 : 0].WaitAsync();
        _group.Passed(this, isWrite, bytes);
    }

    private LoopTimer[] MakeTimers(EventLoop.EventLoop loop) =>
    [
        loop.CreateTimer(_group.Clock, () => _group.TimerFired(this, 0)),
        loop.CreateTimer(_group.Clock, () => _group.TimerFired(this, 1)),
    ];
}
