using System.Runtime.CompilerServices;

namespace Vmm.EventLoop.Tasks;

/// <summary>What the compiler builds <c>async IoTask&lt;T&gt;</c> methods with.</summary>
public struct IoTaskMethodBuilder<T>
{
    private IoTaskBox<T>? _box;
    private T? _result;

    /// <summary>The task of the method.</summary>
    public readonly IoTask<T> Task => _box is null ? new IoTask<T>(_result!) : _box.Task;

    /// <summary>A builder for one call.</summary>
    public static IoTaskMethodBuilder<T> Create() => default;

    /// <summary>Runs the method to its first suspension.</summary>
    public readonly void Start<TStateMachine>(ref TStateMachine stateMachine)
        where TStateMachine : IAsyncStateMachine => stateMachine.MoveNext();

    /// <summary>Not used: state machines are structures in release builds and live in their box in all.</summary>
    public readonly void SetStateMachine(IAsyncStateMachine stateMachine)
    {
    }

    /// <summary>The method has returned.</summary>
    public void SetResult(T result)
    {
        if (_box is null)
        {
            _result = result;
        }
        else
        {
            _box.SetResult(result);
        }
    }

    /// <summary>The method has thrown.</summary>
    public void SetException(Exception exception) => (_box ??= new IoTaskFailure<T>()).SetException(exception);

    /// <summary>The method waits.</summary>
    public void AwaitOnCompleted<TAwaiter, TStateMachine>(ref TAwaiter awaiter, ref TStateMachine stateMachine)
        where TAwaiter : INotifyCompletion
        where TStateMachine : IAsyncStateMachine => awaiter.OnCompleted(Box(ref stateMachine));

    /// <summary>The method waits.</summary>
    public void AwaitUnsafeOnCompleted<TAwaiter, TStateMachine>(ref TAwaiter awaiter, ref TStateMachine stateMachine)
        where TAwaiter : ICriticalNotifyCompletion
        where TStateMachine : IAsyncStateMachine => awaiter.UnsafeOnCompleted(Box(ref stateMachine));

    private Action Box<TStateMachine>(ref TStateMachine stateMachine)
        where TStateMachine : IAsyncStateMachine
    {
        if (_box is null)
        {
            IoTaskBox<T, TStateMachine> box = IoTaskBox<T, TStateMachine>.Rent();

            // In this order: this builder is part of the state machine that is copied.
            _box = box;
            box.StateMachine = stateMachine;
        }

        return _box.MoveNext;
    }
}

/// <summary>What the compiler builds <c>async IoTask</c> methods with.</summary>
public struct IoTaskMethodBuilder
{
    private IoTaskMethodBuilder<bool> _builder;

    /// <summary>The task of the method.</summary>
    public readonly IoTask Task => new(_builder.Task);

    /// <summary>A builder for one call.</summary>
    public static IoTaskMethodBuilder Create() => default;

    /// <summary>Runs the method to its first suspension.</summary>
    public readonly void Start<TStateMachine>(ref TStateMachine stateMachine)
        where TStateMachine : IAsyncStateMachine => stateMachine.MoveNext();

    /// <summary>Not used.</summary>
    public readonly void SetStateMachine(IAsyncStateMachine stateMachine)
    {
    }

    /// <summary>The method has returned.</summary>
    public void SetResult() => _builder.SetResult(true);

    /// <summary>The method has thrown.</summary>
    public void SetException(Exception exception) => _builder.SetException(exception);

    /// <summary>The method waits.</summary>
    public void AwaitOnCompleted<TAwaiter, TStateMachine>(ref TAwaiter awaiter, ref TStateMachine stateMachine)
        where TAwaiter : INotifyCompletion
        where TStateMachine : IAsyncStateMachine => _builder.AwaitOnCompleted(ref awaiter, ref stateMachine);

    /// <summary>The method waits.</summary>
    public void AwaitUnsafeOnCompleted<TAwaiter, TStateMachine>(ref TAwaiter awaiter, ref TStateMachine stateMachine)
        where TAwaiter : ICriticalNotifyCompletion
        where TStateMachine : IAsyncStateMachine => _builder.AwaitUnsafeOnCompleted(ref awaiter, ref stateMachine);
}

/// <summary>The part of a suspended method that does not depend on its state machine.</summary>
internal abstract class IoTaskBox<T> : IoTaskSource<T>
{
    /// <summary>Continues the method.</summary>
    internal Action MoveNext { get; private protected init; } = static () => { };

    internal IoTask<T> Task => new(this, Version);

    internal void SetResult(T result) => Complete(result);

    internal void SetException(Exception exception) => Complete(default!, exception);
}

/// <summary>A method that threw before it ever waited.</summary>
internal sealed class IoTaskFailure<T> : IoTaskBox<T>;

/// <summary>A suspended method; kept for the next call of the same method when its result has been fetched.</summary>
internal sealed class IoTaskBox<T, TStateMachine> : IoTaskBox<T>
    where TStateMachine : IAsyncStateMachine
{
    private const int MaxKept = 1024;

    [ThreadStatic]
    private static IoTaskBox<T, TStateMachine>? s_free;

    [ThreadStatic]
    private static int s_freeCount;

    private IoTaskBox<T, TStateMachine>? _next;

    private IoTaskBox()
    {
        MoveNext = () => StateMachine!.MoveNext();
    }

    internal TStateMachine? StateMachine;

    internal static IoTaskBox<T, TStateMachine> Rent()
    {
        IoTaskBox<T, TStateMachine>? box = s_free;
        if (box is null)
        {
            return new IoTaskBox<T, TStateMachine>();
        }

        s_free = box._next;
        s_freeCount--;
        box._next = null;
        return box;
    }

    /// <inheritdoc/>
    protected override void Recycle()
    {
        StateMachine = default;
        if (s_freeCount < MaxKept)
        {
            s_freeCount++;
            _next = s_free;
            s_free = this;
        }
    }
}
