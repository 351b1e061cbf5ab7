using Vmm.EventLoop;
using Vmm.Interop;
using Vmm.Memory;
using Vmm.ObjectModel.Accel;
using Vmm.ObjectModel.Block;
using Vmm.ObjectModel.Devices;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.TestKit.Devices;

/// <summary>A machine for device tests: address spaces, 24 recorded interrupt inputs, a manual virtual clock, recorded requests.</summary>
public sealed class FakeMachineServices : IMachineServices, IDisposable
{
    private readonly List<Action> _resetHandlers = [];
    private readonly RamBlock _ram;

    /// <param name="ramSize">Bytes of RAM at address 0.</param>
    public FakeMachineServices(int ramSize = 1 << 20)
    {
        Clocks = new Clocks();
        Clocks.UseManualVirtual();
        Lock = new MachineLock();
        Lock.Enter();
        MainLoop = new EventLoop.EventLoop("main", Clocks);
        MainLoop.Bind();
        Clocks.ResumeVirtual();
        SystemMemory = MemoryRegion.Container("system", UInt128.One << 64);
        SystemIo = MemoryRegion.PortSpace();
        _ram = RamBackends.CreateAnonymous(new RamOptions("test.ram", (ulong)ramSize), out string? error)
            ?? throw new InvalidOperationException(error);
        Ram = MemoryRegion.Ram("test.ram", _ram);
        SystemMemory.AddSubregion(0, Ram);
        Memory = new AddressSpace("memory", SystemMemory);
        Ports = new AddressSpace("I/O", SystemIo);
        var types = new QomTypeRegistry();
        Objects = new QomTree(types);
        Objects.SetMachine(new Container());
        MainSystemBus = new FakeBus { BusName = "main-system-bus" };
        Devices = new DeviceFactory(Objects, Events) { Machine = this, MainSystemBus = MainSystemBus };
        Interrupts = new RecordingSink();
        var gsi = new InterruptLine[24];
        for (int i = 0; i < gsi.Length; i++)
        {
            gsi[i] = new InterruptLine(Interrupts, i);
        }

        Gsi = gsi;
    }

    /// <inheritdoc/>
    public EventLoop.EventLoop MainLoop { get; }

    /// <inheritdoc/>
    public Clocks Clocks { get; }

    /// <inheritdoc/>
    public MachineLock Lock { get; }

    /// <inheritdoc/>
    public MemoryRegion SystemMemory { get; }

    /// <inheritdoc/>
    public MemoryRegion SystemIo { get; }

    /// <summary>The RAM.</summary>
    public MemoryRegion Ram { get; }

    /// <inheritdoc/>
    public AddressSpace Memory { get; }

    /// <inheritdoc/>
    public AddressSpace Ports { get; }

    /// <inheritdoc cref="IMachineServices.Run"/>
    public FakeRunControl Run { get; } = new();

    /// <inheritdoc cref="IMachineServices.Events"/>
    public RecordingEvents Events { get; } = new();

    /// <inheritdoc/>
    public QomTree Objects { get; }

    /// <inheritdoc/>
    public DeviceFactory Devices { get; }

    /// <summary>A bus for devices that a board wires up.</summary>
    public Bus MainSystemBus { get; }

    /// <inheritdoc/>
    public IAccelerator Accelerator => throw new NotSupportedException("no accelerator in device tests");

    /// <inheritdoc/>
    public IBlockBackends Blocks { get; set; } = new NoBackends();

    /// <inheritdoc/>
    public IReadOnlyList<InterruptLine> Gsi { get; }

    /// <summary>Levels of the interrupt inputs.</summary>
    public RecordingSink Interrupts { get; }

    /// <inheritdoc/>
    ObjectModel.Run.IRunControl IMachineServices.Run => Run;

    /// <inheritdoc/>
    IEventEmitter IMachineServices.Events => Events;

    /// <inheritdoc/>
    public void AddResetHandler(Action reset) => _resetHandlers.Add(reset);

    /// <summary>Runs the reset handlers.</summary>
    public void RunResetHandlers()
    {
        foreach (Action reset in _resetHandlers)
        {
            reset();
        }
    }

    /// <summary>Reads a port.</summary>
    public ulong In(ulong port, int size = 1) => Ports.ReadValue(port, size) & Mask(size);

    /// <summary>Writes a port.</summary>
    public void Out(ulong port, ulong value, int size = 1) => Ports.WriteValue(port, value & Mask(size), size);

    /// <summary>Moves the virtual clock, running the timers that become due.</summary>
    public void Step(long ns) => Clocks.StepVirtual(ns);

    /// <inheritdoc/>
    public void Dispose()
    {
        Memory.Dispose();
        Ports.Dispose();
        MainLoop.Dispose();
        _ram.Mapping.Dispose();
    }

    private sealed class NoBackends : IBlockBackends
    {
        public IBlockBackend? Take(string name) => null;

        public void Return(IBlockBackend backend)
        {
        }
    }

    private static ulong Mask(int size) => size >= 8 ? ulong.MaxValue : (1ul << (size * 8)) - 1;
}

/// <summary>A bus without rules.</summary>
public sealed class FakeBus : Bus
{
    private static readonly QomTypeInfo s_type = new() { Name = "fake-bus", Parent = "bus", Factory = static () => new FakeBus() };

    /// <inheritdoc/>
    public override QomTypeInfo Type => s_type;
}

/// <summary>Interrupt inputs that remember.</summary>
public sealed class RecordingSink : IInterruptSink
{
    private readonly int[] _levels = new int[256];
    private readonly int[] _rises = new int[256];

    /// <inheritdoc/>
    public void SetLevel(int pin, int level)
    {
        if (level != 0 && _levels[pin] == 0)
        {
            _rises[pin]++;
        }

        _levels[pin] = level;
    }

    /// <summary>Present level of an input.</summary>
    public bool IsHigh(int pin) => _levels[pin] != 0;

    /// <summary>Number of rising edges seen.</summary>
    public int Rises(int pin) => _rises[pin];
}

/// <summary>Collects events.</summary>
public sealed class RecordingEvents : IEventEmitter
{
    /// <summary>Events in order.</summary>
    public List<IQmpEvent> All { get; } = [];

    /// <summary>Names in order.</summary>
    public IEnumerable<string> Names => All.Select(e => e.Info.Name);

    /// <inheritdoc/>
    public void Emit(IQmpEvent qmpEvent) => All.Add(qmpEvent);
}
