using Vmm.ObjectModel.Devices;

namespace Vmm.Devices.I8259;

/// <summary>The two cascaded 8259s of a PC as one sink of 16 lines with one output. Use under the machine lock.</summary>
public sealed class I8259Pair : IInterruptSink
{
    private const int CascadeLine = 2;

    /// <param name="output">The CPU's INTR.</param>
    public I8259Pair(InterruptLine output)
    {
        Master = new I8259Chip { IoBase = 0x20, ElcrPort = 0x4d0, ElcrMask = 0xf8, IsMaster = true, Output = output };
        Slave = new I8259Chip { IoBase = 0xa0, ElcrPort = 0x4d1, ElcrMask = 0xde, Output = new InterruptLine(Master, CascadeLine), Statistics = Master.Statistics };
    }

    /// <summary>Lines 0 to 7.</summary>
    public I8259Chip Master { get; }

    /// <summary>Lines 8 to 15.</summary>
    public I8259Chip Slave { get; }

    /// <summary>True while INTR is asserted.</summary>
    public bool IsPending => Master.IsAsserted;

    /// <summary>Realizes both chips on an ISA bus, the slave last.</summary>
    public void Realize(Bus isaBus, IMachineServices machine)
    {
        machine.Devices.Realize(Master, isaBus);
        machine.Devices.Realize(Slave, isaBus);
    }

    /// <inheritdoc/>
    public void SetLevel(int pin, int level) => (pin < 8 ? Master : Slave).SetLevel(pin & 7, level);

    /// <summary>The interrupt acknowledge cycle: serves the most urgent line and returns its vector.</summary>
    public byte Acknowledge()
    {
        int line = Master.AcknowledgeLine();
        return line == CascadeLine ? Slave.VectorOf(Slave.AcknowledgeLine()) : Master.VectorOf(line);
    }
}
