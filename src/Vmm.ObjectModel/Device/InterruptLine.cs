namespace Vmm.ObjectModel.Devices;

/// <summary>Receives level changes of numbered input pins: an interrupt controller, or a gate in front of one.</summary>
public interface IInterruptSink
{
    /// <summary>Sets input <paramref name="pin"/> to <paramref name="level"/> (0 low, otherwise high). Under the machine lock.</summary>
    void SetLevel(int pin, int level);
}

/// <summary>A receiver whose inputs may be driven on any thread, with the machine lock or without.</summary>
public interface IFreeInterruptSink : IInterruptSink
{
    /// <summary>
    /// Input <paramref name="pin"/> is driven by a thread that has no time for calls into the accelerator: what it sends goes by signalling from now on,
    /// where the accelerator has such a way. Machine lock.
    /// </summary>
    void UseSignal(int pin)
    {
    }
}

/// <summary>
/// A wire from a device's output to one input pin of a sink. A device holds lines, never controllers. Unconnected lines swallow
/// changes. The sink can be replaced at run time (qtest interception, irq routing). Use under the machine lock.
/// </summary>
public sealed class InterruptLine
{
    private IInterruptSink? _sink;
    private int _pin;

    /// <summary>A line that leads nowhere until <see cref="Connect"/>.</summary>
    public InterruptLine()
    {
    }

    /// <summary>A line to input <paramref name="pin"/> of <paramref name="sink"/>.</summary>
    public InterruptLine(IInterruptSink sink, int pin)
    {
        _sink = sink;
        _pin = pin;
    }

    /// <summary>Receiver, null when unconnected.</summary>
    public IInterruptSink? Sink => _sink;

    /// <summary>Input number at the receiver.</summary>
    public int Pin => _pin;

    /// <summary>The line may be driven on any thread; by one at a time.</summary>
    public bool IsFree => _sink is IFreeInterruptSink;

    /// <summary>The level last driven, 0 or 1 for ordinary lines.</summary>
    public int Level { get; private set; }

    /// <summary>Leads the line to another receiver; the present level is not replayed.</summary>
    public void Connect(IInterruptSink? sink, int pin)
    {
        _sink = sink;
        _pin = pin;
    }

    /// <summary>Drives the line.</summary>
    public void Set(int level)
    {
        Level = level;
        _sink?.SetLevel(_pin, level);
    }

    /// <summary>Drives the line high or low.</summary>
    public void Set(bool high) => Set(high ? 1 : 0);

    /// <summary>Drives the line high.</summary>
    public void Raise() => Set(1);

    /// <summary>Drives the line low.</summary>
    public void Lower() => Set(0);

    /// <summary>High, then low.</summary>
    public void Pulse()
    {
        Set(1);
        Set(0);
    }
}
