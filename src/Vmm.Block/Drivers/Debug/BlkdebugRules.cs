using Vmm.Block.Graph;
using Vmm.Block.Options;

namespace Vmm.Block.Drivers.Debug;

/// <summary>
/// The rules of a blkdebug node and its state, a number that events change. An event brings the errors of its rules into force in place of
/// those that were; an error in force fails the requests that it is meant for.
/// </summary>
internal sealed class BlkdebugRules
{
    private readonly List<Rule> _rules = [];
    private readonly List<Rule> _active = [];
    private long _state = 1;

    /// <summary>Breakpoints that are set.</summary>
    internal int Breakpoints => _rules.Count(static rule => rule.Tag is not null);

    /// <summary>An error.</summary>
    internal void Add(BlkdebugInjectErrorOptions options) => _rules.Insert(0, new Rule
    {
        Event = options.Event,
        State = options.State ?? 0,
        Error = (int)(options.Errno ?? (long)Interop.Errno.EIO),
        Types = options.Iotype is { } type ? 1 << (int)type : (1 << (int)BlkdebugIoType.BlockStatus) - 1,
        Offset = (options.Sector ?? -1) is >= 0 and var sector ? sector * 512 : -1,
        IsOnce = options.Once ?? false,
        IsImmediate = options.Immediately ?? false,
        IsInjection = true,
    });

    /// <summary>A change of the state.</summary>
    internal void Add(BlkdebugSetStateOptions options) =>
        _rules.Insert(0, new Rule { Event = options.Event, State = options.State ?? 0, NewState = options.NewState });

    /// <summary>The next request to which the event happens stops.</summary>
    internal void AddBreakpoint(BlkdebugEvent point, string tag) => _rules.Insert(0, new Rule { Event = point, Tag = tag });

    /// <summary>Takes back the breakpoints of a name that have stopped nothing; false when there are none.</summary>
    internal bool RemoveBreakpoints(string tag) => _rules.RemoveAll(rule => rule.Tag == tag) > 0;

    /// <summary>An event happens. Returns the names of the breakpoints that it meets, which are gone then.</summary>
    internal IReadOnlyList<string> Happen(BlkdebugEvent point)
    {
        long state = _state;
        bool isFresh = true;
        List<string>? stops = null;
        for (int i = 0; i < _rules.Count; i++)
        {
            Rule rule = _rules[i];
            if (rule.Event != point || (rule.State != 0 && rule.State != _state))
            {
                continue;
            }

            if (rule.Tag is { } tag)
            {
                (stops ??= []).Add(tag);
                _rules.RemoveAt(i--);
            }
            else if (rule.IsInjection)
            {
                if (isFresh)
                {
                    _active.Clear();
                    isFresh = false;
                }

                _active.Insert(0, rule);
            }
            else
            {
                state = rule.NewState;
            }
        }

        _state = state;
        return stops ?? (IReadOnlyList<string>)[];
    }

    /// <summary>The result of a request: 0, or the negative errno of an error in force.</summary>
    /// <param name="offset">Its first byte.</param>
    /// <param name="bytes">Its length; 0 for a flush.</param>
    /// <param name="type">Its kind.</param>
    /// <param name="isImmediate">The request fails before it returns to its caller's loop.</param>
    internal int Check(long offset, long bytes, BlkdebugIoType type, out bool isImmediate)
    {
        isImmediate = false;
        Rule? rule = _active.Find(r => (r.Types >> (int)type & 1) != 0
            && (r.Offset < 0 || (r.Offset >= offset && r.Offset - offset < bytes)));
        if (rule is null || rule.Error == 0)
        {
            return 0;
        }

        if (rule.IsOnce)
        {
            _active.Remove(rule);
            _rules.Remove(rule);
        }

        isImmediate = rule.IsImmediate;
        return -rule.Error;
    }

    private sealed class Rule
    {
        internal required BlkdebugEvent Event { get; init; }

        internal long State { get; init; }

        internal bool IsInjection { get; init; }

        internal int Error { get; init; }

        internal int Types { get; init; }

        internal long Offset { get; init; }

        internal bool IsOnce { get; init; }

        internal bool IsImmediate { get; init; }

        internal long NewState { get; init; }

        internal string? Tag { get; init; }
    }
}
