namespace Vmm.System;

/// <summary>Everything has been said; the process is to end with this status.</summary>
internal sealed class ProcessExitException(int status) : Exception
{
    /// <summary>Exit status.</summary>
    public int Status { get; } = status;
}
