using Vmm.Memory;

namespace Vmm.Devices;

/// <summary>Register handler made of two methods, for devices that answer at several places.</summary>
/// <param name="read">Reads (offset, size).</param>
/// <param name="write">Writes (offset, value, size).</param>
public sealed class IoWindow(Func<ulong, int, ulong> read, Action<ulong, ulong, int> write) : IIoHandler
{
    /// <inheritdoc/>
    public ulong Read(ulong offset, int size) => read(offset, size);

    /// <inheritdoc/>
    public void Write(ulong offset, ulong value, int size) => write(offset, value, size);
}
