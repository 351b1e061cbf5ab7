using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;

namespace Vmm.EventLoop.Tasks;

/// <summary>
/// The result of an <c>async</c> method on a request path, to be awaited once. It differs from ValueTask in three ways that such paths
/// need: the continuation runs inline on the thread that completes it, which is the home thread of the loop, without a post and without a
/// context captured; state machines come from a pool that holds as many as there were requests in flight, so that a steady state of any
/// depth allocates nothing; the execution context does not flow.
/// </summary>
[AsyncMethodBuilder(typeof(IoTaskMethodBuilder<>))]
public readonly struct IoTask<T>
{
    private readonly IoTaskSource<T>? _source;
    private readonly int _version;
    private readonly T? _result;

    /// <summary>A completed task.</summary>
    public IoTask(T result)
    {
        _result = result;
    }

    internal IoTask(IoTaskSource<T> source, int version)
    {
        _source = source;
        _version = version;
    }

    /// <summary>True when the result is there: an await does not suspend.</summary>
    public bool IsCompleted => _source is null || _source.IsCompleted(_version);

    /// <summary>For <c>await</c>.</summary>
    public Awaiter GetAwaiter() => new(this);

    /// <summary>As a Task, for callers that combine several.</summary>
    public async Task<T> AsTask() => await this;

    /// <summary>
    /// Lets the method go on by itself. An exception that it lets escape ends the process through the loop on which it completes: who forgets
    /// a task has no use for its failure, so it may have none.
    /// </summary>
    public void Forget() => _source?.Forget(_version);

    /// <summary>Awaits a task.</summary>
    public readonly struct Awaiter(IoTask<T> task) : ICriticalNotifyCompletion
    {
        private readonly IoTask<T> _task = task;

        /// <summary>True when the result is there.</summary>
        public bool IsCompleted => _task.IsCompleted;

        /// <summary>The result, once; throws what the method threw.</summary>
        public T GetResult() => _task._source is null ? _task._result! : _task._source.GetResult(_task._version);

        /// <summary>Runs the action on completion, inline.</summary>
        public void OnCompleted(Action continuation) => UnsafeOnCompleted(continuation);

        /// <summary>Runs the action on completion, inline.</summary>
        public void UnsafeOnCompleted(Action continuation) => _task._source!.OnCompleted(continuation, _task._version);
    }
}

/// <summary>An <see cref="IoTask{T}"/> without result.</summary>
[AsyncMethodBuilder(typeof(IoTaskMethodBuilder))]
public readonly struct IoTask
{
    private readonly IoTask<bool> _task;

    internal IoTask(IoTask<bool> task)
    {
        _task = task;
    }

    /// <summary>A completed task.</summary>
    public static IoTask CompletedTask => default;

    /// <summary>True when an await does not suspend.</summary>
    public bool IsCompleted => _task.IsCompleted;

    /// <summary>For <c>await</c>.</summary>
    public Awaiter GetAwaiter() => new(_task);

    /// <summary>As a Task, for callers that combine several.</summary>
    public async Task AsTask() => await this;

    /// <summary>Lets the method go on by itself; see <see cref="IoTask{T}.Forget"/>.</summary>
    public void Forget() => _task.Forget();

    /// <summary>Awaits a task.</summary>
    public readonly struct Awaiter : ICriticalNotifyCompletion
    {
        private readonly IoTask<bool>.Awaiter _awaiter;

        internal Awaiter(IoTask<bool> task)
        {
            _awaiter = task.GetAwaiter();
        }

        /// <summary>True when an await does not suspend.</summary>
        public bool IsCompleted => _awaiter.IsCompleted;

        /// <summary>Ends the await; throws what the method threw.</summary>
        public void GetResult() => _awaiter.GetResult();

        /// <summary>Runs the action on completion, inline.</summary>
        public void OnCompleted(Action continuation) => _awaiter.UnsafeOnCompleted(continuation);

        /// <summary>Runs the action on completion, inline.</summary>
        public void UnsafeOnCompleted(Action continuation) => _awaiter.UnsafeOnCompleted(continuation);
    }
}

/// <summary>What completes an <see cref="IoTask{T}"/>. One await at a time; the version finds those who await a task twice.</summary>
public abstract class IoTaskSource<T>
{
    private static readonly Action s_done = static () => { };
    private static readonly Action s_forgotten = static () => throw new InvalidOperationException("nobody awaits the task");

    private Action? _continuation;
    private Exception? _exception;
    private T? _result;
    private int _version;

    /// <summary>The number of the present use.</summary>
    protected int Version => _version;

    internal bool IsCompleted(int version)
    {
        Check(version);
        return ReferenceEquals(_continuation, s_done);
    }

    internal void OnCompleted(Action continuation, int version)
    {
        Check(version);
        if (_continuation is not null)
        {
            throw new InvalidOperationException("a task is awaited by two");
        }

        _continuation = continuation;
    }

    /// <summary>Nobody awaits the present use: it ends when it is complete. What it throws then comes out where it is completed.</summary>
    internal void Forget(int version)
    {
        if (IsCompleted(version))
        {
            GetResult(version);
        }
        else
        {
            OnCompleted(s_forgotten, version);
        }
    }

    internal T GetResult(int version)
    {
        Check(version);
        if (!ReferenceEquals(_continuation, s_done))
        {
            throw new InvalidOperationException("the result of a task that is not complete");
        }

        T result = _result!;
        Exception? exception = _exception;
        _version++;
        _continuation = null;
        _exception = null;
        _result = default;
        Recycle();
        if (exception is not null)
        {
            System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(exception);
        }

        return result;
    }

    /// <summary>Ends the present use and runs who awaits it.</summary>
    protected void Complete(T result, Exception? exception = null)
    {
        Action? continuation = _continuation;
        if (ReferenceEquals(continuation, s_done))
        {
            throw new InvalidOperationException("a task is completed twice");
        }

        _result = result;
        _exception = exception;
        _continuation = s_done;
        if (ReferenceEquals(continuation, s_forgotten))
        {
            GetResult(_version);
        }
        else
        {
            continuation?.Invoke();
        }
    }

    /// <summary>The result has been fetched: the object may be used again.</summary>
    protected virtual void Recycle()
    {
    }

    private void Check(int version)
    {
        if (version != _version)
        {
            Throw();
        }

        [DoesNotReturn]
        static void Throw() => throw new InvalidOperationException("a task is awaited again after its end");
    }
}

/// <summary>
/// A reusable completion: <see cref="Task"/> is awaited by one, then <see cref="SetResult"/> is called on the home thread and runs it
/// inline. It is ready for its next use when the awaiter has fetched the result.
/// </summary>
public sealed class IoCompletion<T> : IoTaskSource<T>
{
    /// <summary>The task of the present use.</summary>
    public IoTask<T> Task => new(this, Version);

    /// <summary>Completes the present use.</summary>
    public void SetResult(T result) => Complete(result);

    /// <summary>Fails the present use.</summary>
    public void SetException(Exception exception) => Complete(default!, exception);
}
