using Vmm.Interop;

namespace Vmm.EventLoop;

/// <summary>A thread with an event loop of its own, without the machine lock; named "IO id". Made and stopped on the main loop.</summary>
public sealed class IOThread : IDisposable
{
    /// <summary>Default of <see cref="EventLoop.PollMaxNs"/> for I/O threads.</summary>
    public const long DefaultPollMaxNs = 32768;

    private const int StackBytes = 1 << 20;

    private readonly Thread _thread;
    private readonly ManualResetEventSlim _started = new(false);
    private int _threadId;
    private bool _isStopped;

    /// <summary>Starts the thread and returns when its loop serves.</summary>
    public IOThread(string id, Clocks clocks)
    {
        Id = id;
        Loop = new EventLoop(id, clocks) { PollMaxNs = DefaultPollMaxNs };
        _thread = new Thread(Main, StackBytes) { IsBackground = true, Name = "IO " + id };
        _thread.Start();
        _started.Wait();
    }

    /// <summary>The id given.</summary>
    public string Id { get; }

    /// <summary>The loop, alive until <see cref="Stop"/>.</summary>
    public EventLoop Loop { get; }

    /// <summary>Kernel id of the thread.</summary>
    public int ThreadId => _threadId;

    /// <summary>Ends the loop after what is queued, waits for the thread. Not from the thread itself.</summary>
    public void Stop()
    {
        if (_isStopped)
        {
            return;
        }

        if (Loop.IsHomeThread)
        {
            throw new InvalidOperationException("an I/O thread cannot wait for itself");
        }

        _isStopped = true;
        Loop.Stop();
        _thread.Join();
        Loop.Dispose();
        _started.Dispose();
    }

    /// <summary>As <see cref="Stop"/>.</summary>
    public void Dispose() => Stop();

    private void Main()
    {
        Threads.SetDebugName("IO " + Id);
        _threadId = Threads.Gettid();
        Loop.Bind();
        _started.Set();
        Loop.Run();
        Loop.Unbind();
    }
}
