using Vmm.Devices.SystemBus;
using Vmm.EventLoop;
using Vmm.Memory;
using Vmm.ObjectModel.Accel;
using Vmm.ObjectModel.Block;
using Vmm.ObjectModel.Devices;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.Run;
using Vmm.Qapi;
using Vmm.Qapi.Types;

namespace Vmm.Machines;

/// <summary>
/// A machine: address spaces, RAM, vCPUs, and the devices that its type wires up. Life: created, properties set, <see cref="Build"/>,
/// then resets until the process ends. Home: the main loop under the machine lock.
/// </summary>
[QomType("machine", Parent = "object")]
public abstract partial class Machine : QomObject, IMachineServices, IDisposable
{
    private static readonly MachineParameters s_nothing = new() { RamSize = 0, Smp = new SmpTopology(1, 1, 1, 1, 1, 1) };

    private readonly List<Action> _resetHandlers = [];
    private readonly InterruptLine[] _gsi = new InterruptLine[24];
    private readonly MainSystemBus _systemBus = new() { BusName = "main-system-bus" };
    private MachineEnvironment? _environment;

    /// <summary>The type's entry in the list of machine types.</summary>
    public abstract MachineType MachineType { get; }

    /// <summary>What the command line asked for; set before <see cref="Build"/>.</summary>
    public MachineParameters Parameters { get; set; } = s_nothing;

    /// <inheritdoc/>
    public EventLoop.EventLoop MainLoop => Environment.MainLoop;

    /// <inheritdoc/>
    public Clocks Clocks => Environment.Clocks;

    /// <inheritdoc/>
    public MachineLock Lock => Environment.Lock;

    /// <inheritdoc/>
    public MemoryRegion SystemMemory { get; private set; } = null!;

    /// <inheritdoc/>
    public MemoryRegion SystemIo { get; private set; } = null!;

    /// <inheritdoc/>
    public AddressSpace Memory { get; private set; } = null!;

    /// <inheritdoc/>
    public AddressSpace Ports { get; private set; } = null!;

    /// <inheritdoc/>
    public IRunControl Run => Environment.Run;

    /// <inheritdoc/>
    public IEventEmitter Events => Environment.Events;

    /// <inheritdoc/>
    public QomTree Objects => Environment.Objects;

    /// <inheritdoc/>
    public IAccelerator Accelerator => Environment.Accelerator;

    /// <inheritdoc/>
    public IBlockBackends Blocks => Environment.Blocks;

    /// <inheritdoc/>
    public IReadOnlyList<InterruptLine> Gsi => _gsi;

    /// <summary>RAM below the hole under 4 GiB and above it; null for a machine without RAM.</summary>
    public RamBlock? Ram => Parameters.RamBackend?.Block;

    /// <summary>Where the process is.</summary>
    protected MachineEnvironment Environment => _environment ?? throw new InvalidOperationException("the machine is not built");

    /// <summary>The bus of devices that the board wires up.</summary>
    protected MainSystemBus SystemBus => _systemBus;

    /// <summary>Makes devices and realizes them.</summary>
    public DeviceFactory Devices => Environment.Devices;

    /// <summary>
    /// Builds the machine: spaces, RAM, interrupt controllers, vCPUs, devices, boot image. Throws <see cref="QapiException"/> in QEMU's words.
    /// </summary>
    public void Build(MachineEnvironment environment)
    {
        _environment = environment;
        for (int i = 0; i < _gsi.Length; i++)
        {
            _gsi[i] = new InterruptLine();
        }

        SystemMemory = MemoryRegion.Container("system", (UInt128)1 << 64, this);
        SystemIo = MemoryRegion.PortSpace(this);
        Memory = new AddressSpace("memory", SystemMemory, environment.IoLock);
        Ports = new AddressSpace("I/O", SystemIo, environment.IoLock);
        environment.Objects.Unattached.AddChild("sysbus", _systemBus);
        environment.Devices.Machine = this;
        environment.Devices.MainSystemBus = _systemBus;
        environment.Run.MachineReset = ResetAll;
        environment.Accelerator.AttachMemory(Memory, Ports);
        BuildBoard();
    }

    /// <summary>Everything is there, users' devices included: loads what boots, and brings the machine to its power-on state.</summary>
    public void Complete()
    {
        Environment.Devices.IsMachineReady = true;
        PrepareBoot();
        Reset();
    }

    /// <inheritdoc/>
    public void AddResetHandler(Action reset) => _resetHandlers.Add(reset);

    /// <inheritdoc/>
    public void Dispose()
    {
        DisposeBoot();
        Memory?.Dispose();
        Ports?.Dispose();
    }

    /// <summary>Tells the firmware which devices to boot from, letters a to p, first choice first.</summary>
    /// <exception cref="QapiException">The machine has no such list, or the list is not one that it can keep.</exception>
    public virtual void SetBootOrder(string order) =>
        throw new QapiException("no function defined to set boot device list for this architecture");

    /// <summary>The region of main memory, the whole of it.</summary>
    /// <exception cref="InvalidOperationException">The machine was given no memory.</exception>
    protected MemoryRegion RamRegion =>
        Parameters.RamBackend?.Region ?? throw new InvalidOperationException("a machine without main memory");

    /// <summary>Makes a block of RAM or ROM that is the machine's own and migrates with it.</summary>
    /// <exception cref="QapiException">No memory.</exception>
    protected RamBlock CreateBlock(string name, ulong size)
    {
        RamBlock block = RamBackends.CreateAnonymous(new RamOptions(name, size), out string? error) ?? throw new QapiException(error!);
        Environment.Ram.Add(block);
        return block;
    }

    /// <summary>Wires up the board.</summary>
    protected abstract void BuildBoard();

    /// <summary>Loads kernel or firmware; called once, after all devices exist.</summary>
    protected virtual void PrepareBoot()
    {
    }

    /// <summary>Places the boot image and sets the vCPUs' first state; called at every reset, last.</summary>
    protected virtual void ApplyBoot()
    {
    }

    /// <summary>Does what firmware does when it finds that the machine has slept; called last when it wakes.</summary>
    protected virtual void ApplyWakeup()
    {
    }

    /// <summary>Brings a machine that slept with its RAM alive (ACPI S3) through a reset of everything but RAM.</summary>
    protected void WakeUp()
    {
        ResetDevices();
        ApplyWakeup();
    }

    /// <summary>Lets go of files that the boot image holds.</summary>
    protected virtual void DisposeBoot()
    {
    }

    /// <summary>Creates a device of a type with globals applied, sets properties through <paramref name="configure"/> and realizes it.</summary>
    protected T Plug<T>(string typeName, Bus? bus, Action<T>? configure = null)
        where T : Device
    {
        T device = (T)Devices.Create(typeName);
        configure?.Invoke(device);
        Devices.Realize(device, bus);
        return device;
    }

    private void ResetAll(ShutdownCause cause) => Reset();

    private void Reset()
    {
        ResetDevices();
        ApplyBoot();
    }

    private void ResetDevices()
    {
        DeviceFactory.ResetTree(_systemBus);
        foreach (Action handler in _resetHandlers)
        {
            handler();
        }

        Accelerator.ResetVcpus();
    }
}
