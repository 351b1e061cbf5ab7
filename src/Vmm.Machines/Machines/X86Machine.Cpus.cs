using Vmm.Devices.FwCfg;
using Vmm.Kvm.CpuModels;
using Vmm.ObjectModel.Devices;
using Vmm.Qapi;

namespace Vmm.Machines;

/// <content>vCPUs: those of the start, and those that are plugged in later.</content>
public abstract partial class X86Machine : ICpuTopology, IHotplugHandler
{
    private readonly List<X86Cpu> _plugged = [];
    private X86Cpu?[] _slots = [];

    /// <inheritdoc/>
    public CpuTopology Topology => new(Parameters.Smp.Sockets, Parameters.Smp.Dies, Parameters.Smp.Cores, Parameters.Smp.Threads);

    /// <inheritdoc/>
    public string CpuType => Parameters.CpuType ?? "";

    /// <inheritdoc/>
    public IReadOnlyList<X86Cpu?> Slots => _slots.Length > 0 ? _slots : _slots = new X86Cpu?[Parameters.Smp.MaxCpus];

    /// <inheritdoc/>
    public IReadOnlyList<X86Cpu> Plugged => _plugged;

    /// <inheritdoc/>
    public bool HasDies => MachineType.HasDies;

    /// <inheritdoc/>
    public bool SupportsHotpluggableQuery => MachineType.HotpluggableCpus;

    /// <summary>APIC ids of the vCPUs that are there, in order of their indices.</summary>
    protected List<uint> ApicIds { get; } = [];

    /// <summary>APIC id of a vCPU.</summary>
    public uint ApicIdOf(int index) => Topology.ApicId(index);

    /// <inheritdoc/>
    public void AddCpu(long index)
    {
        if (!SupportsHotpluggableQuery)
        {
            throw new QapiException("Not supported");
        }

        if (index < 0)
        {
            throw new QapiException($"Invalid CPU id: {index}");
        }

        if (index < _slots.Length && _slots[index] is not null)
        {
            throw new QapiException($"Unable to add CPU: {index}, it already exists");
        }

        if (index >= _slots.Length)
        {
            throw new QapiException($"Unable to add CPU: {index}, max allowed: {_slots.Length - 1}");
        }

        Parameters.CreateCpu!(this, (int)index, ApicIdOf((int)index));
    }

    void IHotplugHandler.PrePlug(Device device)
    {
        var cpu = (X86Cpu)device;
        if (_plugged.Count > 0 && cpu.Type.Name != CpuType)
        {
            throw new QapiException($"Invalid CPU type, expected cpu type: '{CpuType}'");
        }

        CpuTopology topology = Topology;
        if (cpu.DieId < 0 && topology.Dies == 1)
        {
            // There is one die to choose from: clients older than dies do not name it.
            cpu.DieId = 0;
        }

        if (cpu.ApicId == uint.MaxValue)
        {
            CheckId("socket-id", cpu.SocketId, topology.Sockets);
            CheckId("die-id", cpu.DieId, topology.Dies);
            CheckId("core-id", cpu.CoreId, topology.Cores);
            CheckId("thread-id", cpu.HwThreadId, topology.Threads);
            cpu.ApicId = topology.ApicId(new CpuPlace(cpu.SocketId, cpu.DieId, cpu.CoreId, cpu.HwThreadId));
        }

        CpuPlace place = topology.PlaceOf(cpu.ApicId);
        int index = FindSlot(topology, cpu.ApicId);
        if (index < 0)
        {
            throw new QapiException(
                $"Invalid CPU [socket: {place.Socket}, die: {place.Die}, core: {place.Core}, thread: {place.Thread}]"
                + $" with APIC ID {cpu.ApicId}, valid index range 0:{_slots.Length - 1}");
        }

        if (_slots[index] is not null)
        {
            throw new QapiException($"CPU[{index}] with APIC ID {cpu.ApicId} exists");
        }

        cpu.SocketId = Match(cpu, "socket-id", cpu.SocketId, place.Socket);
        cpu.DieId = Match(cpu, "die-id", cpu.DieId, place.Die);
        cpu.CoreId = Match(cpu, "core-id", cpu.CoreId, place.Core);
        cpu.HwThreadId = Match(cpu, "thread-id", cpu.HwThreadId, place.Thread);
        cpu.Topology = topology;
        cpu.CpuIndex = index;
    }

    void IHotplugHandler.Plug(Device device)
    {
        var cpu = (X86Cpu)device;
        CheckPlug(cpu);
        _slots[cpu.CpuIndex] = cpu;
        _plugged.Add(cpu);
        ApicIds.Clear();
        foreach (X86Cpu? present in _slots)
        {
            if (present is not null)
            {
                ApicIds.Add(present.ApicId);
            }
        }

        // Firmware counts the vCPUs when the machine starts anew.
        FwCfg?.AddInt16(FwCfgKeys.NbCpus, (ushort)_plugged.Count);
        CpuCountChanged(_plugged.Count);
    }

    void IHotplugHandler.RequestUnplug(Device device, Action complete)
    {
        if (!SupportsHotpluggableQuery)
        {
            throw new QapiException($"unplug not supported by {MachineType.Name}");
        }

        if (device == _slots[0])
        {
            throw new QapiException("Boot CPU is unpluggable");
        }

        // No operating system has asked for the interface through which it would let a vCPU go.
        throw new QapiException($"acpi: device unplug request for not supported device type: {device.Type.Name}");
    }

    /// <summary>Creates the vCPUs of the start.</summary>
    protected void CreateVcpus()
    {
        CpuFactory factory = Parameters.CreateCpu ?? throw new InvalidOperationException("no CPU factory");
        _slots = new X86Cpu?[Parameters.Smp.MaxCpus];
        Devices.MachineHotplugHandler = device => device is X86Cpu ? this : null;
        for (int i = 0; i < Parameters.Smp.Cpus; i++)
        {
            factory(this, i, ApicIdOf(i));
        }
    }

    /// <summary>Refuses a vCPU that is beyond those of the start, where the machine cannot have it.</summary>
    protected virtual void CheckPlug(X86Cpu cpu)
    {
    }

    /// <summary>Tells that the number of vCPUs is another one.</summary>
    protected virtual void CpuCountChanged(int count)
    {
    }

    private static void CheckId(string name, int value, int count)
    {
        if (value < 0)
        {
            throw new QapiException($"CPU {name} is not set");
        }

        if (value >= count)
        {
            throw new QapiException($"Invalid CPU {name}: {value} must be in range 0:{count - 1}");
        }
    }

    private static int Match(X86Cpu cpu, string name, int given, int actual) => given < 0 || given == actual
        ? actual
        : throw new QapiException($"property {name}: {given} doesn't match set apic-id: 0x{cpu.ApicId:x} ({name}: {actual})");

    private int FindSlot(CpuTopology topology, uint apicId)
    {
        for (int i = 0; i < _slots.Length; i++)
        {
            if (topology.ApicId(i) == apicId)
            {
                return i;
            }
        }

        return -1;
    }
}
