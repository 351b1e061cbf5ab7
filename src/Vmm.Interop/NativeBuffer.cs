using System.Runtime.InteropServices;

namespace Vmm.Interop;

/// <summary>
/// Native memory that the kernel reads and writes by address: bounce buffers, tables of an image. Freed on disposal or by the finalizer.
/// Contents are undefined until written, unless asked for zeroed.
/// </summary>
public sealed unsafe class NativeBuffer : SafeHandle
{
    private static long s_liveBytes;

    /// <summary>Allocates; throws OutOfMemoryException.</summary>
    /// <param name="length">Bytes, at least 1.</param>
    /// <param name="alignment">A power of two.</param>
    /// <param name="zeroed">Clear it.</param>
    public NativeBuffer(int length, int alignment = 4096, bool zeroed = false)
        : base(0, ownsHandle: true)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(length, 1);
        Length = length;
        SetHandle((nint)NativeMemory.AlignedAlloc((nuint)length, (nuint)alignment));
        Interlocked.Add(ref s_liveBytes, length);
        if (zeroed)
        {
            Span.Clear();
        }
    }

    /// <summary>Bytes of all buffers of the process that are not freed.</summary>
    public static long LiveBytes => Volatile.Read(ref s_liveBytes);

    /// <summary>Bytes.</summary>
    public int Length { get; }

    /// <summary>First byte.</summary>
    public nint Address => handle;

    /// <inheritdoc/>
    public override bool IsInvalid => handle == 0;

    /// <summary>The memory. The span must not outlive the buffer.</summary>
    public Span<byte> Span => IsClosed ? throw new ObjectDisposedException(nameof(NativeBuffer)) : new Span<byte>((void*)handle, Length);

    /// <summary>A part as one vector.</summary>
    public IoVec Vector(int offset, int length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        ArgumentOutOfRangeException.ThrowIfGreaterThan((long)offset + length, Length);
        return new IoVec(handle + offset, (nuint)length);
    }

    /// <inheritdoc/>
    protected override bool ReleaseHandle()
    {
        NativeMemory.AlignedFree((void*)handle);
        Interlocked.Add(ref s_liveBytes, -Length);
        return true;
    }
}
