using Vmm.ObjectModel.Accel;

namespace Vmm.Kvm;

/// <summary>What to do when a guest runs too long without an event window (<c>notify-vmexit</c>).</summary>
public enum NotifyVmExit
{
    /// <summary>Let the guest run; a notification exit is ignored.</summary>
    Run,

    /// <summary>Stop the machine with an internal error.</summary>
    InternalError,

    /// <summary>Do not ask the kernel for such exits.</summary>
    Disable,
}

/// <summary>Properties of <c>-accel kvm</c>.</summary>
public sealed record KvmOptions
{
    /// <summary>In-kernel interrupt controllers; null for the machine's default.</summary>
    public KernelIrqchipMode? KernelIrqchip { get; init; }

    /// <summary>Pages for shadow page tables as bytes; -1 for the kernel's choice.</summary>
    public long ShadowMem { get; init; } = -1;

    /// <summary>Entries of each vCPU's dirty ring, a power of two; 0 for bitmaps.</summary>
    public uint DirtyRingSize { get; init; }

    /// <summary>Reaction to a guest without event windows.</summary>
    public NotifyVmExit NotifyVmExit { get; init; } = NotifyVmExit.Run;

    /// <summary>Let the guest use MWAIT, HLT and PAUSE without leaving to the host, which then sees vCPUs as always busy.</summary>
    public bool GuestPowerManagement { get; init; }

    /// <summary>Clock cycles without an event window after which the notification comes.</summary>
    public uint NotifyWindow { get; init; }
}

/// <summary>Why KVM could not be set up: lines for stderr as they are, and the error that the option reports.</summary>
/// <param name="Lines">Lines to print, without a program name.</param>
/// <param name="Error">Goes into "failed to initialize kvm: ...".</param>
public sealed record KvmInitError(IReadOnlyList<string> Lines, Vmm.Interop.Errno Error);

/// <summary>What vCPUs report to the run control of the machine. Called on vCPU threads.</summary>
public interface IKvmEvents
{
    /// <summary>A triple fault: the guest resets itself.</summary>
    void GuestReset();

    /// <summary>The guest asked the hypervisor to power it off.</summary>
    void GuestShutdown();

    /// <summary>The guest told the hypervisor that it crashed.</summary>
    void GuestPanicked();

    /// <summary>A vCPU cannot go on: enter the run state internal-error.</summary>
    void InternalError();

    /// <summary>A warning for the operator, without the word itself and without a line end. Main loop.</summary>
    void Warn(string text);

    /// <summary>Text for stderr, with line ends.</summary>
    void Report(string text);
}
