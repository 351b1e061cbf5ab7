namespace Vmm.Machines.Loading;

/// <summary>The kernel, its initial RAM disk or the firmware could not be loaded: an operator mistake, reported before the machine starts.</summary>
/// <remarks>
/// QEMU prints some of these with the program name in front ("qemu-system-x86_64: Error while loading elf kernel") and some with a literal
/// "qemu: " that belongs to the text. <see cref="IsComplete"/> tells them apart, so that standard error shows the same line.
/// </remarks>
public sealed class BootLoadException : Exception
{
    public BootLoadException(string message, bool isComplete = false) : base(message)
    {
        IsComplete = isComplete;
    }

    /// <summary>True when the message is printed as it is, without the program name in front.</summary>
    public bool IsComplete { get; }

    internal static BootLoadException Complete(string message) => new(message, isComplete: true);
}
