namespace Vmm.Memory;

/// <summary>Memory of a guest that is accessed in place by system calls and rings. Nothing here throws for what a guest asks.</summary>
public interface IDmaMemory
{
    /// <summary>What keeps addresses that were found valid as long as it is referred to; null where they stay valid anyway.</summary>
    object? Current { get; }

    /// <summary>
    /// Host address of guest memory; <paramref name="length"/> is cut to what is contiguous. False for what is not plain memory. After it was
    /// written there, <see cref="MarkDirty"/> is due.
    /// </summary>
    bool TryMapHost(ulong address, ref ulong length, bool forWrite, out nint host);

    /// <summary>Logs that a range was written.</summary>
    void MarkDirty(ulong address, ulong length);
}
