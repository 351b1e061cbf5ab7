using Vmm.EventLoop;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.ObjectModel.Objects;

/// <summary>
/// A thread that serves block nodes and virtqueues (QOM <c>iothread</c>). The poll limits act on its loop at once; batch and pool
/// limits are read by those who use the thread. Home: main loop.
/// </summary>
public sealed class IOThreadObject : QomObject, IUserCreatable
{
    private const int DefaultPoolMax = 64;

    private static QomTypeInfo? s_typeInfo;
    private static QomTypeInfo? s_baseInfo;

    private long _pollMaxNs = IOThread.DefaultPollMaxNs;
    private long _pollGrow;
    private long _pollShrink;
    private IOThread? _thread;
    private WorkerPool? _workers;

    /// <summary>Type "event-loop-base".</summary>
    public static QomTypeInfo BaseTypeInfo => s_baseInfo ??= new QomTypeInfo
    {
        Name = "event-loop-base",
        Parent = "object",
        IsAbstract = true,
        Interfaces = ["user-creatable"],
        Properties = static () =>
        [
            Number("aio-max-batch", static t => t.AioMaxBatch, static (t, v) => t.AioMaxBatch = v),
            Number("thread-pool-min", static t => t.ThreadPoolMin, static (t, v) => t.SetPool(v, t.ThreadPoolMax)),
            Number("thread-pool-max", static t => t.ThreadPoolMax, static (t, v) => t.SetPool(t.ThreadPoolMin, v)),
        ],
    };

    /// <summary>Type "iothread".</summary>
    public static new QomTypeInfo TypeInfo => s_typeInfo ??= new QomTypeInfo
    {
        Name = "iothread",
        Parent = "event-loop-base",
        Factory = static () => new IOThreadObject(),
        Properties = static () =>
        [
            Number("poll-max-ns", static t => t._pollMaxNs, static (t, v) => t._pollMaxNs = v),
            Number("poll-grow", static t => t._pollGrow, static (t, v) => t._pollGrow = v),
            Number("poll-shrink", static t => t._pollShrink, static (t, v) => t._pollShrink = v),
        ],
    };

    /// <inheritdoc/>
    public override QomTypeInfo Type => TypeInfo;

    /// <summary>The running thread.</summary>
    public IOThread Thread => _thread ?? throw new InvalidOperationException("I/O thread used before it was completed");

    /// <summary>Workers for calls that must block, made when first used.</summary>
    public WorkerPool Workers => _workers ??= new WorkerPool((int)Math.Min(ThreadPoolMax, int.MaxValue));

    /// <summary>Kernel id of the thread.</summary>
    public int ThreadId => _thread?.ThreadId ?? -1;

    /// <summary>Longest time to poll before sleeping, ns; 0 for no polling.</summary>
    public long PollMaxNs => _pollMaxNs;

    /// <summary>Factor by which polling time grows; 0 for the default.</summary>
    public long PollGrow => _pollGrow;

    /// <summary>Divisor by which polling time shrinks; 0 for reset to none.</summary>
    public long PollShrink => _pollShrink;

    /// <summary>Most requests submitted together; 0 for the engine's default.</summary>
    public long AioMaxBatch { get; private set; }

    /// <summary>Workers kept ready.</summary>
    public long ThreadPoolMin { get; private set; }

    /// <summary>Most workers.</summary>
    public long ThreadPoolMax { get; private set; } = DefaultPoolMax;

    /// <summary>Number of users (devices, nodes); the object cannot be deleted while there are some.</summary>
    public int Users { get; set; }

    /// <inheritdoc/>
    public bool CanBeDeleted => Users == 0;

    /// <inheritdoc/>
    public void Complete(ObjectContext context)
    {
        if (ThreadPoolMax == 0 || ThreadPoolMin > ThreadPoolMax)
        {
            throw BadPool();
        }

        _thread = new IOThread(Name!, context.Clocks);
        ApplyPolling();
    }

    /// <inheritdoc/>
    protected override void OnUnparent()
    {
        _thread?.Stop();
        _thread = null;
        _workers?.Dispose();
        _workers = null;
    }

    private static QomPropertyInfo Number(string name, Func<IOThreadObject, long> get, Action<IOThreadObject, long> set) =>
        new(name, "int", o => get((IOThreadObject)o), (o, input) => SetNumber((IOThreadObject)o, input, set));

    private static void SetNumber(IOThreadObject thread, PropertyInput input, Action<IOThreadObject, long> set)
    {
        long value = input.ReadInt64();
        if (value < 0)
        {
            throw new QapiException($"{input.Name} value must be in range [0, {long.MaxValue}]");
        }

        set(thread, value);
        thread.ApplyPolling();
    }

    private void SetPool(long min, long max)
    {
        // The two may come in any order: they are checked against each other once the object is complete.
        if (_thread is not null && (max == 0 || min > max))
        {
            throw BadPool();
        }

        ThreadPoolMin = min;
        ThreadPoolMax = max;
    }

    private static QapiException BadPool() => new("bad thread-pool-min/thread-pool-max values");

    private void ApplyPolling()
    {
        if (_thread is null)
        {
            return;
        }

        _thread.Loop.PollMaxNs = _pollMaxNs;
        _thread.Loop.PollGrow = _pollGrow;
        _thread.Loop.PollShrink = _pollShrink;
    }
}
