using System.IO.Pipelines;
using System.Runtime.CompilerServices;

namespace Vmm.EventLoop;

/// <content>Work from any thread: posts, bottom halves, continuations.</content>
public sealed partial class EventLoop
{
    private const int InitialQueue = 16;

    private readonly Lock _queueGate = new();
    private QueueItem[] _queue = new QueueItem[InitialQueue];
    private QueueItem[] _batch = new QueueItem[InitialQueue];
    private int _batchDone;
    private int _batchCount;
    private int _queued;

    private bool HasQueued => Volatile.Read(ref _queued) != 0 || _batchDone < _batchCount;

    /// <summary>Runs the action on the loop in its next round, in the order of posting. Any thread.</summary>
    public void Post(Action action) => Enqueue(action, null);

    /// <summary>Runs the action with its state on the loop in its next round, in the order of posting. Any thread.</summary>
    public void Post<TState>(Action<TState> action, TState state) => Enqueue(new PostedCall<TState>(action, state), null);

    /// <summary>Runs the action on the loop's thread: at once when the caller is there, else by <see cref="Post(Action)"/>. Any thread.</summary>
    public void RunOrPost(Action action)
    {
        if (IsHomeThread)
        {
            action();
        }
        else
        {
            Post(action);
        }
    }

    /// <summary>"await loop.SwitchTo()" continues on this loop, without a hop when the caller is there already. Any thread.</summary>
    public LoopAwaitable SwitchTo() => new(this);

    internal void Enqueue(object target, object? state)
    {
        lock (_queueGate)
        {
            if (_queued == _queue.Length)
            {
                Array.Resize(ref _queue, 2 * _queued);
            }

            _queue[_queued] = new QueueItem(target, state);
            Volatile.Write(ref _queued, _queued + 1);
        }

        Wake();
    }

    private bool RunQueue()
    {
        // In a round within a callback this is what the outer round has still to do: the callback may be waiting for it.
        bool progress = RunBatch();
        if (Volatile.Read(ref _queued) == 0)
        {
            return progress;
        }

        lock (_queueGate)
        {
            (_batch, _queue) = (_queue, _batch);
            _batchCount = _queued;
            _batchDone = 0;
            Volatile.Write(ref _queued, 0);
        }

        return RunBatch();
    }

    // When a callback throws and the owner goes on, what stood behind it is done in the next round.
    private bool RunBatch()
    {
        bool progress = false;
        while (_batchDone < _batchCount)
        {
            QueueItem item = _batch[_batchDone];
            _batch[_batchDone++] = default;
            progress = true;
            item.Invoke();
        }

        return progress;
    }

    private abstract class PostedCall
    {
        internal abstract void Invoke();
    }

    private sealed class PostedCall<TState>(Action<TState> action, TState state) : PostedCall
    {
        internal override void Invoke() => action(state);
    }

    private readonly struct QueueItem(object target, object? state)
    {
        internal void Invoke()
        {
            switch (target)
            {
                case BottomHalf bottomHalf:
                    bottomHalf.Run();
                    break;
                case Action action:
                    action();
                    break;
                case PostedCall call:
                    call.Invoke();
                    break;
                case SendOrPostCallback callback:
                    callback(state);
                    break;
                case Action<object?> callback:
                    callback(state);
                    break;
            }
        }
    }

    private sealed class LoopSynchronizationContext(EventLoop loop) : SynchronizationContext
    {
        public override void Post(SendOrPostCallback d, object? state) => loop.Enqueue(d, state);

        public override void Send(SendOrPostCallback d, object? state)
        {
            loop.AssertOnHomeLoop();
            d(state);
        }

        public override SynchronizationContext CreateCopy() => this;
    }

    private sealed class LoopPipeScheduler(EventLoop loop) : PipeScheduler
    {
        public override void Schedule(Action<object?> action, object? state) => loop.Enqueue(action, state);
    }
}

/// <summary>See <see cref="EventLoop.SwitchTo"/>.</summary>
/// <param name="loop">Where to continue.</param>
public readonly struct LoopAwaitable(EventLoop loop) : ICriticalNotifyCompletion
{
    /// <summary>True on the home thread.</summary>
    public bool IsCompleted => loop.IsHomeThread;

    /// <summary>Itself.</summary>
    public LoopAwaitable GetAwaiter() => this;

    /// <summary>Nothing.</summary>
    public void GetResult()
    {
    }

    /// <summary>Continues on the loop.</summary>
    public void OnCompleted(Action continuation) => loop.Post(continuation);

    /// <summary>Continues on the loop.</summary>
    public void UnsafeOnCompleted(Action continuation) => loop.Post(continuation);
}
