using System.Runtime.InteropServices;

namespace Vmm.Interop;

/// <summary>A 32-bit word in native memory, on a cache line of its own, that threads of this process can wait on (futex(2), private).</summary>
public sealed unsafe class FutexWord : IDisposable
{
    private const nint SYS_futex = 202;
    private const nint FUTEX_WAIT_PRIVATE = 128;
    private const nint FUTEX_WAKE_PRIVATE = 129;
    private const nuint CacheLine = 64;

    private int* _word;

    /// <summary>A word with the value 0.</summary>
    public FutexWord()
    {
        _word = (int*)NativeMemory.AlignedAlloc(CacheLine, CacheLine);
        *_word = 0;
    }

    /// <summary>Frees the word if its owner forgot.</summary>
    ~FutexWord()
    {
        NativeMemory.AlignedFree(_word);
    }

    /// <summary>The word itself, for Interlocked and Volatile; not to be used after <see cref="Dispose"/>.</summary>
    public ref int Value => ref *_word;

    /// <summary>Sleeps while the word is <paramref name="expected"/>, until <see cref="Wake"/>; may return for no reason.</summary>
    public void Wait(int expected) => _ = Native.syscall(SYS_futex, (nint)_word, FUTEX_WAIT_PRIVATE, expected, 0, 0, 0);

    /// <summary>As <see cref="Wait(int)"/>, for <paramref name="timeoutNs"/> at the longest: false when that has passed.</summary>
    public bool Wait(int expected, long timeoutNs)
    {
        TimeSpec timeout = TimeSpec.FromNs(timeoutNs);
        nint result = Native.syscall(SYS_futex, (nint)_word, FUTEX_WAIT_PRIVATE, expected, (nint)(&timeout), 0, 0);
        return result >= 0 || Native.LastError != Errno.ETIMEDOUT;
    }

    /// <summary>Wakes up to <paramref name="count"/> sleeping threads.</summary>
    public void Wake(int count) => _ = Native.syscall(SYS_futex, (nint)_word, FUTEX_WAKE_PRIVATE, count, 0, 0, 0);

    /// <summary>Frees the word; no thread may be waiting.</summary>
    public void Dispose()
    {
        NativeMemory.AlignedFree(_word);
        _word = null;
        GC.SuppressFinalize(this);
    }
}
