using Vmm.Interop;

namespace Vmm.EventLoop;

/// <summary>Which clock a time is on.</summary>
public enum ClockType
{
    /// <summary>Host time that never jumps (CLOCK_MONOTONIC); goes on while the VM is stopped.</summary>
    Realtime,

    /// <summary>Host time of day since 1970, UTC; may jump.</summary>
    Host,

    /// <summary>Time of the machine: stands still while the VM is stopped, and is moved by hand in manual mode.</summary>
    Virtual,
}

/// <summary>
/// The clocks of the process, in nanoseconds. The virtual clock starts at 0, standing still. Reading is allowed on any thread; starting,
/// stopping and stepping belong to the main loop.
/// </summary>
public sealed class Clocks
{
    private const int ClockCount = 3;

    private readonly Lock _gate = new();

    // Replaced as a whole under the gate, so that those who walk it need neither the gate nor a copy.
    private volatile EventLoop[] _loops = [];

    // While the virtual clock runs: the value to add to the monotonic time. While it stands: its value.
    private long _virtualBase;
    private int _sequence;
    private volatile bool _isVirtualRunning;

    /// <summary>True when the virtual clock moves by Step and Set alone. Timers on it fire while <see cref="IsVirtualRunning"/>.</summary>
    public bool IsManual { get; private set; }

    /// <summary>False while the VM is stopped: timers on the virtual clock do not fire.</summary>
    public bool IsVirtualRunning => _isVirtualRunning;

    /// <summary>Number of clocks, for tables indexed by <see cref="ClockType"/>.</summary>
    internal static int Count => ClockCount;

    /// <summary>The time on a clock.</summary>
    public long NowNs(ClockType clock) => clock switch
    {
        ClockType.Realtime => Libc.ClockNs(Libc.CLOCK_MONOTONIC),
        ClockType.Host => Libc.ClockNs(Libc.CLOCK_REALTIME),
        _ => VirtualNs(),
    };

    /// <summary>Makes the virtual clock manual (the qtest accelerator). Once, before it runs.</summary>
    public void UseManualVirtual()
    {
        if (_isVirtualRunning)
        {
            throw new InvalidOperationException("the virtual clock runs already");
        }

        IsManual = true;
    }

    /// <summary>Lets the virtual clock go on from where it stands, and its timers fire. Nothing when it does already.</summary>
    public void ResumeVirtual()
    {
        lock (_gate)
        {
            if (_isVirtualRunning)
            {
                return;
            }

            Publish(IsManual ? _virtualBase : _virtualBase - Libc.ClockNs(Libc.CLOCK_MONOTONIC), running: true);
        }

        WakeAll();
    }

    /// <summary>Stops the virtual clock at its present value. Nothing when it stands already.</summary>
    public void PauseVirtual()
    {
        lock (_gate)
        {
            if (_isVirtualRunning)
            {
                Publish(VirtualNs(), running: false);
            }
        }
    }

    /// <summary>Sets the standing virtual clock, as loading a saved machine does. It must not be running, unless it is manual.</summary>
    public void LoadVirtual(long ns)
    {
        lock (_gate)
        {
            if (_isVirtualRunning && !IsManual)
            {
                throw new InvalidOperationException("the virtual clock is running");
            }

            Publish(ns, _isVirtualRunning);
        }

        WakeAll();
    }

    /// <summary>The nearest deadline on the virtual clock over all loops; null when there is none or the clock stands.</summary>
    public long? NextVirtualDeadlineNs()
    {
        if (!_isVirtualRunning)
        {
            return null;
        }

        long nearest = long.MaxValue;
        foreach (EventLoop loop in _loops)
        {
            nearest = Math.Min(nearest, loop.IsAlive ? loop.DeadlineNs(ClockType.Virtual) : long.MaxValue);
        }

        return nearest == long.MaxValue ? null : nearest;
    }

    /// <summary>Manual mode: advances to the nearest deadline and runs what is due; stays put when there is none. Returns the new time.</summary>
    public long StepVirtualToDeadline() => NextVirtualDeadlineNs() is long deadline ? SetVirtual(deadline) : NowNs(ClockType.Virtual);

    /// <summary>Manual mode: advances by <paramref name="ns"/>, deadline by deadline. Returns the new time.</summary>
    public long StepVirtual(long ns)
    {
        long now = NowNs(ClockType.Virtual);
        long target = ns > 0 && now > long.MaxValue - ns ? long.MaxValue : now + ns;
        return SetVirtual(target);
    }

    /// <summary>
    /// Manual mode: advances to <paramref name="targetNs"/>; nothing when that is past. The clock goes from deadline to deadline, and at
    /// each all due timers run, with those they arm: the timers of the caller's loop on the spot, those of other loops on their threads,
    /// waited for without the machine lock. Returns the new time.
    /// </summary>
    public long SetVirtual(long targetNs)
    {
        if (!IsManual)
        {
            throw new InvalidOperationException("the virtual clock is not manual");
        }

        long now = NowNs(ClockType.Virtual);
        while (now < targetNs)
        {
            long deadline = NextVirtualDeadlineNs() ?? targetNs;
            now = Math.Clamp(deadline, now, targetNs);
            lock (_gate)
            {
                Publish(now, _isVirtualRunning);
            }

            RunDueVirtual();
            now = NowNs(ClockType.Virtual);
        }

        return now;
    }

    internal void Register(EventLoop loop)
    {
        lock (_gate)
        {
            _loops = [.. _loops, loop];
        }
    }

    internal void Unregister(EventLoop loop)
    {
        lock (_gate)
        {
            _loops = Array.FindAll(_loops, other => other != loop);
        }
    }

    private void RunDueVirtual()
    {
        if (!_isVirtualRunning)
        {
            return;
        }

        bool again = true;
        while (again)
        {
            again = false;
            long now = NowNs(ClockType.Virtual);
            foreach (EventLoop loop in _loops)
            {
                // The greatest time stands for "never".
                long deadline = loop.DeadlineNs(ClockType.Virtual);
                if (loop.IsAlive && deadline <= now && deadline != long.MaxValue)
                {
                    again = true;
                    loop.RunVirtualTimersNow();
                }
            }
        }
    }

    private void WakeAll()
    {
        foreach (EventLoop loop in _loops)
        {
            loop.Wake();
        }
    }

    // A sequence lock: value and running flag change together, and readers must see a pair.
    private void Publish(long value, bool running)
    {
        Interlocked.Increment(ref _sequence);
        Volatile.Write(ref _virtualBase, value);
        _isVirtualRunning = running;
        Interlocked.Increment(ref _sequence);
    }

    private long VirtualNs()
    {
        while (true)
        {
            int before = Volatile.Read(ref _sequence);
            long value = Volatile.Read(ref _virtualBase);
            bool running = _isVirtualRunning;
            if ((before & 1) == 0 && before == Volatile.Read(ref _sequence))
            {
                return running && !IsManual ? value + Libc.ClockNs(Libc.CLOCK_MONOTONIC) : value;
            }
        }
    }
}
