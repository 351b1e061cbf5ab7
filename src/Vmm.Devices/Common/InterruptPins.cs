using Vmm.ObjectModel.Devices;

namespace Vmm.Devices;

/// <summary>A device with numbered interrupt inputs, as test tools see it.</summary>
public interface IInterruptInputs : IInterruptSink
{
    /// <summary>Told of each level that arrives (pin, level), before the device takes it; null for nobody.</summary>
    Action<int, int>? InputWatcher { get; set; }
}

/// <summary>A device with interrupt outputs, as test tools see it.</summary>
public interface IInterruptOutputs
{
    /// <summary>The outputs by number. Lines of a shared interrupt carry the levels of all devices on it.</summary>
    IReadOnlyList<InterruptLine> Outputs { get; }
}
