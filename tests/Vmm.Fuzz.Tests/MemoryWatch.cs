using Vmm.Interop;

namespace Vmm.Fuzz.Tests;

/// <summary>
/// The most memory that an execution holds at a time, above what was held before: managed memory that a collection leaves, and native buffers.
/// What is allocated in sum says little where debug builds make every state machine an object. Sampled where the code under test calls out.
/// </summary>
internal sealed class MemoryWatch
{
    private const int ExecutionsPerBaseline = 64;
    private const long BytesPerSample = 8 << 20;

    private int _executions;
    private long _managedBefore;
    private long _nativeBefore;
    private long _allocated;

    /// <summary>Managed bytes.</summary>
    public long PeakManaged { get; private set; }

    /// <summary>Native bytes.</summary>
    public long PeakNative { get; private set; }

    /// <summary>An execution begins.</summary>
    public void Begin()
    {
        if (_executions++ % ExecutionsPerBaseline == 0)
        {
            _managedBefore = GC.GetTotalMemory(forceFullCollection: true);
        }

        (PeakManaged, PeakNative) = (0, 0);
        _nativeBefore = NativeBuffer.LiveBytes;
        _allocated = GC.GetAllocatedBytesForCurrentThread();
    }

    /// <summary>Looks. Collects only after much has been allocated.</summary>
    public void Sample()
    {
        PeakNative = Math.Max(PeakNative, NativeBuffer.LiveBytes - _nativeBefore);
        long allocated = GC.GetAllocatedBytesForCurrentThread();
        if (allocated - _allocated > BytesPerSample)
        {
            _allocated = allocated;
            GC.Collect();
            PeakManaged = Math.Max(PeakManaged, GC.GetTotalMemory(forceFullCollection: false) - _managedBefore);
        }
    }
}
