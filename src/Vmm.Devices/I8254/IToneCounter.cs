namespace Vmm.Devices.I8254;

/// <summary>Counter 2 of an interval timer, as the speaker sees it. Machine lock.</summary>
public interface IToneCounter
{
    /// <summary>Levels of its gate and its output now.</summary>
    (bool Gate, bool Output) Observe();

    /// <summary>Drives its gate.</summary>
    void SetGate(bool gate);
}
