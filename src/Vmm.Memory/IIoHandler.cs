namespace Vmm.Memory;

/// <summary>
/// The registers behind an I/O region, memory mapped or port mapped. Handlers see offsets into their region, never absolute
/// addresses, and never throw for what a guest does.
/// </summary>
/// <remarks>Called on a vCPU thread under the machine lock, unless the region was declared thread-safe.</remarks>
public interface IIoHandler
{
    /// <summary>Reads <paramref name="size"/> bytes (1, 2, 4 or 8) at <paramref name="offset"/>; the value is in the low bytes.</summary>
    ulong Read(ulong offset, int size);

    /// <summary>
    /// Writes the low <paramref name="size"/> bytes (1, 2, 4 or 8) of <paramref name="value"/> at <paramref name="offset"/>.
    /// </summary>
    void Write(ulong offset, ulong value, int size);
}

/// <summary>
/// Which accesses a region accepts from the guest (<see cref="ValidMin"/>..<see cref="ValidMax"/> bytes) and which its handler
/// implements (<see cref="ImplMin"/>..<see cref="ImplMax"/>): the bus splits or widens accesses between the two.
/// Accesses outside the valid range read as zero and are not written. An access to an odd address comes in aligned pieces, each of which goes to
/// the region that is there, unless the handler takes it whole (<see cref="Unaligned"/>).
/// </summary>
public readonly record struct IoConstraints(byte ValidMin, byte ValidMax, byte ImplMin, byte ImplMax, bool Unaligned = false)
{
    /// <summary>1 to 8 bytes accepted, 1 to 4 bytes implemented, aligned: what a device gets that says nothing.</summary>
    public static IoConstraints Default => new(1, 8, 1, 4);

    /// <summary>Byte registers; wider accesses are split into bytes.</summary>
    public static IoConstraints Bytes => new(1, 8, 1, 1);

    /// <summary>The handler gets the access that the guest made, 1 to <paramref name="max"/> bytes, if it is aligned.</summary>
    public static IoConstraints Exact(byte max) => new(1, max, 1, max);
}
