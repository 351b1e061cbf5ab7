namespace Vmm.EventLoop;

/// <content>
/// Lingering: a short look for the next event before the thread goes to sleep. Going to sleep and being woken may cost both sides more time
/// than a peer takes that only waits for an answer to ask again, and on a virtual host many times as much.
/// </content>
public sealed partial class EventLoop
{
    private const long LingerNs = 200_000;

    private readonly LingerChoice _linger = new();
    private bool _expectsSoon;

    /// <summary>
    /// A peer was served that is likely to go on within microseconds: the next wait may look for it for up to 200 us before the thread sleeps,
    /// where that has been the faster way lately. Home thread.
    /// </summary>
    public void ExpectSoon() => _expectsSoon = true;

    /// <summary>Waits, as somebody expects an event soon. Without the machine lock.</summary>
    private int WaitExpecting()
    {
        _expectsSoon = false;
        bool awake = _linger.Next();
        long start = Clocks.NowNs(ClockType.Realtime);
        int ready = awake ? Linger(start) : 0;
        if (ready == 0 && !HasQueued && !_stop)
        {
            ready = Sleep();
        }

        _linger.Observe(awake, Clocks.NowNs(ClockType.Realtime) - start);
        return ready;
    }

    private int Linger(long start)
    {
        long timeout = TimeoutNs();
        long end = start + (timeout >= 0 ? Math.Min(timeout, LingerNs) : LingerNs);
        int ready;
        do
        {
            ready = _epoll.Wait(0);
        }
        while (ready == 0 && !HasQueued && !_stop && Clocks.NowNs(ClockType.Realtime) < end);
        return ready;
    }
}
