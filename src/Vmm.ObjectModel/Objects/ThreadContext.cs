using System.Globalization;
using System.Text;
using Vmm.Interop;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.ObjectModel.Objects;

/// <summary>
/// A thread from which others are started, so that they inherit the host CPUs on which it may run (QOM <c>thread-context</c>): whoever may set
/// that of the thread need not be this process. Home: main loop.
/// </summary>
public sealed class ThreadContext : QomObject, IUserCreatable
{
    private const int StackBytes = 256 * 1024;

    private static QomTypeInfo? s_typeInfo;

    private readonly object _gate = new();
    private List<ushort>? _cpus;
    private List<ushort>? _nodes;
    private Thread? _thread;
    private Action? _job;
    private bool _isStopping;
    private bool _isGone;

    /// <summary>Type "thread-context".</summary>
    public static new QomTypeInfo TypeInfo => s_typeInfo ??= new QomTypeInfo
    {
        Name = "thread-context",
        Parent = "object",
        Interfaces = ["user-creatable"],
        Factory = static () => new ThreadContext(),
        Properties = static () =>
        [
            new QomPropertyInfo("thread-id", "int", static o => ((ThreadContext)o).ThreadId, null),
            new QomPropertyInfo(
                "cpu-affinity",
                "int",
                static o => ((ThreadContext)o).Affinity(),
                static (o, input) => ((ThreadContext)o).SetCpus(input.ReadUInt16List())),
            new QomPropertyInfo(
                "node-affinity",
                "int",
                null,
                static (o, input) => ((ThreadContext)o).SetNodes(input.ReadUInt16List())),
        ],
    };

    /// <inheritdoc/>
    public override QomTypeInfo Type => TypeInfo;

    /// <summary>Kernel id of the thread; 0 before completion.</summary>
    public int ThreadId { get; private set; }

    /// <summary>Those that start threads here; the thread outlives the object as long as there are some.</summary>
    public int Users
    {
        get;
        set
        {
            field = value;
            StopIfUnused();
        }
    }

    /// <inheritdoc/>
    public bool CanBeDeleted => true;

    /// <inheritdoc/>
    public void Complete(ObjectContext context)
    {
        string name = "TC " + Name;
        _thread = new Thread(() => Main(name), StackBytes) { IsBackground = true, Name = name };
        lock (_gate)
        {
            _thread.Start();
            while (ThreadId == 0)
            {
                Monitor.Wait(_gate);
            }
        }

        List<ushort>? cpus = _nodes is null ? _cpus : CpusOf(_nodes);
        if (cpus is not null)
        {
            Apply(cpus);
        }
    }

    /// <summary>Runs a job on the thread and waits for its end. One at a time.</summary>
    public void Run(Action job)
    {
        lock (_gate)
        {
            _job = job;
            Monitor.PulseAll(_gate);
            while (_job is not null)
            {
                Monitor.Wait(_gate);
            }
        }
    }

    /// <inheritdoc/>
    protected override void OnUnparent()
    {
        _isGone = true;
        StopIfUnused();
    }

    /// <summary>The host CPUs of a list such as "0-3,8".</summary>
    internal static void ReadCpuList(ReadOnlySpan<char> text, List<ushort> cpus)
    {
        foreach (Range range in text.Split(','))
        {
            ReadOnlySpan<char> item = text[range].Trim();
            int dash = item.IndexOf('-');
            if (ushort.TryParse(dash < 0 ? item : item[..dash], NumberStyles.None, CultureInfo.InvariantCulture, out ushort first)
                && ushort.TryParse(item[(dash + 1)..], NumberStyles.None, CultureInfo.InvariantCulture, out ushort last))
            {
                for (int cpu = first; cpu <= last; cpu++)
                {
                    cpus.Add((ushort)cpu);
                }
            }
        }
    }

    // Nodes that do not exist have no CPUs.
    private static List<ushort> CpusOf(List<ushort> nodes)
    {
        const int MaxListBytes = 64 << 10;
        var cpus = new List<ushort>();
        foreach (ushort node in nodes)
        {
            if (Libc.ReadFile($"/sys/devices/system/node/node{node}/cpulist", MaxListBytes, out byte[] text) == Errno.OK)
            {
                ReadCpuList(Encoding.ASCII.GetString(text), cpus);
            }
        }

        return cpus.Count > 0 ? cpus : throw new QapiException("The nodes select no CPUs");
    }

    private void SetCpus(List<ushort> cpus)
    {
        if (cpus.Count == 0)
        {
            throw new QapiException("CPU list is empty");
        }

        RefuseMix(_nodes);
        if (_thread is null)
        {
            _cpus = cpus;
        }
        else
        {
            Apply(cpus);
        }
    }

    private void SetNodes(List<ushort> nodes)
    {
        if (nodes.Count == 0)
        {
            throw new QapiException("Node list is empty");
        }

        RefuseMix(_cpus);
        if (_thread is null)
        {
            // Complaints come with the property, as for the CPUs; the CPUs of the nodes are looked up again when the thread is there.
            _ = CpusOf(nodes);
            _nodes = nodes;
        }
        else
        {
            Apply(CpusOf(nodes));
        }
    }

    private void RefuseMix(List<ushort>? other)
    {
        if (_thread is null && other is not null)
        {
            throw new QapiException("Mixing CPU and node affinity not supported");
        }
    }

    private void Apply(List<ushort> cpus)
    {
        var numbers = new int[cpus.Count];
        for (int i = 0; i < numbers.Length; i++)
        {
            numbers[i] = cpus[i];
        }

        Errno errno = Threads.SetAffinity(ThreadId, numbers);
        if (errno != Errno.OK)
        {
            throw new QapiException($"Setting CPU affinity failed: {errno.Message()}");
        }
    }

    private QValue Affinity()
    {
        var cpus = new List<int>();
        Errno errno = Threads.GetAffinity(ThreadId, cpus);
        if (errno != Errno.OK)
        {
            throw new QapiException($"Getting CPU affinity failed: {errno.Message()}");
        }

        var list = new QList();
        foreach (int cpu in cpus)
        {
            list.Add(cpu);
        }

        return list;
    }

    private void StopIfUnused()
    {
        if (_thread is not null && _isGone && Users == 0)
        {
            lock (_gate)
            {
                _isStopping = true;
                Monitor.PulseAll(_gate);
            }

            _thread.Join();
            _thread = null;
        }
    }

    private void Main(string name)
    {
        Threads.SetDebugName(name);
        lock (_gate)
        {
            ThreadId = Threads.Gettid();
            Monitor.PulseAll(_gate);
            while (!_isStopping)
            {
                if (_job is { } job)
                {
                    // Whoever waits holds no lock, and nobody else gives work.
                    job();
                    _job = null;
                    Monitor.PulseAll(_gate);
                }
                else
                {
                    Monitor.Wait(_gate);
                }
            }
        }
    }
}
