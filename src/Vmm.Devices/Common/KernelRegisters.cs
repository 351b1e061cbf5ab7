using Vmm.Memory;

namespace Vmm.Devices;

/// <summary>Registers that the kernel answers: guests never get here, and nobody else sees anything.</summary>
internal sealed class KernelRegisters : IIoHandler
{
    /// <summary>The one.</summary>
    public static KernelRegisters Instance { get; } = new();

    /// <inheritdoc/>
    public ulong Read(ulong offset, int size) => 0;

    /// <inheritdoc/>
    public void Write(ulong offset, ulong value, int size)
    {
        // The kernel has the registers.
    }
}
