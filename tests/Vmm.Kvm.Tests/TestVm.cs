using System.Collections.Concurrent;
using Vmm.Interop;
using Vmm.Interop.KvmApi;
using Vmm.Memory;
using Vmm.ObjectModel.Accel;

namespace Vmm.Kvm.Tests;

/// <summary>
/// A machine of 1 MiB RAM at 0, a log of port writes, and vCPUs that run a few hand-assembled real-mode bytes from 0x1000.
/// </summary>
internal sealed class TestVm : IDisposable
{
    public const int CodeAddress = 0x1000;

    public TestVm(byte[] code, int cpus = 1, KernelIrqchipMode irqchip = KernelIrqchipMode.On, KvmOptions? options = null)
    {
        Accelerator = KvmAccelerator.TryCreate(options ?? new KvmOptions(), Lock, Events, out KvmInitError? error)!;
        if (Accelerator is null)
        {
            Assert.Ignore("needs /dev/kvm: " + string.Join("; ", error!.Lines));
        }

        RamBlock? ram = RamBackends.CreateAnonymous(new RamOptions("ram", 1 << 20), out _);
        Ram = ram!;
        RamRegion = MemoryRegion.Ram("ram", Ram);
        Root.AddSubregion(0, RamRegion);
        Ports.AddSubregion(0x10, MemoryRegion.Io("log", 0x10, Log, IoConstraints.Exact(4)));
        Memory = new AddressSpace("memory", Root, Lock);
        PortSpace = new AddressSpace("I/O", Ports, Lock);
        Accelerator!.AttachMemory(Memory, PortSpace);
        Accelerator.CreateIrqchip(irqchip);
        code.CopyTo(Ram.Span(CodeAddress, code.Length));
        var model = new HostModel(Accelerator.System);
        for (int i = 0; i < cpus; i++)
        {
            Accelerator.CreateVcpu(new VcpuSetup(i, (uint)i, model));
        }

        Place(0, CodeAddress);
    }

    public TestLock Lock { get; } = new();

    public TestEvents Events { get; } = new();

    public KvmAccelerator Accelerator { get; }

    public RamBlock Ram { get; }

    public MemoryRegion Root { get; } = MemoryRegion.Container("system", UInt128.One << 64);

    public MemoryRegion RamRegion { get; }

    public MemoryRegion Ports { get; } = MemoryRegion.PortSpace();

    public AddressSpace Memory { get; }

    public AddressSpace PortSpace { get; }

    public PortLog Log { get; } = new();

    public KvmVcpu Cpu => Accelerator.KvmVcpus[0];

    /// <summary>Sets a CPU to real mode at the address, with a stack and data segments at 0.</summary>
    public void Place(int cpu, ulong rip)
    {
        IVcpu vcpu = Accelerator.Vcpus[cpu];
        CpuArchState state = vcpu.GetState();
        for (int i = 0; i < 6; i++)
        {
            state.Segments[i] = new SegmentState(0, 0, 0xffff, i == 1 ? (byte)11 : (byte)3, true, 0, false, true, false, false);
        }

        state.Rip = rip;
        state.Gpr[4] = 0x8000;
        vcpu.SetState(state);
    }

    public void Locked(Action action)
    {
        Lock.Enter();
        try
        {
            action();
        }
        finally
        {
            Lock.Exit();
        }
    }

    public void Run() => Locked(Accelerator.ResumeAll);

    public void Stop() => Locked(Accelerator.PauseAll);

    public void Dispose()
    {
        Accelerator.Dispose();
        Memory.Dispose();
        PortSpace.Dispose();
    }
}

internal sealed class HostModel(KvmSystem system) : ICpuModel
{
    public IReadOnlyList<CpuidLeaf> GetCpuid()
    {
        system.GetSupportedCpuid(out KvmCpuidEntry2[] entries);
        return Array.ConvertAll(entries, e => new CpuidLeaf(e.function, e.index, (e.flags & 1) != 0, e.eax, e.ebx, e.ecx, e.edx));
    }
}

/// <summary>Remembers port accesses and lets a test wait for them; reads return a counter.</summary>
internal sealed class PortLog : IIoHandler
{
    private readonly BlockingCollection<(ulong Offset, int Size, ulong Value)> _writes = [];
    private ulong _counter;

    public (ulong Offset, int Size, ulong Value) Next()
    {
        Assert.That(_writes.TryTake(out var write, 20_000), Is.True, "the guest did not write to the port");
        return write;
    }

    public int Count => _writes.Count;

    public ulong Read(ulong offset, int size) => ++_counter;

    public void Write(ulong offset, ulong value, int size) => _writes.Add((offset, size, value));
}

internal sealed class TestEvents : IKvmEvents
{
    public BlockingCollection<string> Happened { get; } = [];

    public string Text { get; private set; } = "";

    public string Next()
    {
        Assert.That(Happened.TryTake(out string? what, 20_000), Is.True, "nothing was reported");
        return what!;
    }

    public void GuestReset() => Happened.Add("reset");

    public void GuestShutdown() => Happened.Add("shutdown");

    public void GuestPanicked() => Happened.Add("panic");

    public void InternalError() => Happened.Add("internal-error");

    public void Warn(string text) => Text += text;

    public void Report(string text) => Text += text;
}

internal sealed class TestLock : IIoLock
{
    private readonly object _gate = new();

    public bool IsHeldByCurrentThread => Monitor.IsEntered(_gate);

    public void Enter()
    {
        if (IsHeldByCurrentThread)
        {
            throw new InvalidOperationException("the machine lock is not recursive");
        }

        Monitor.Enter(_gate);
    }

    public void Exit() => Monitor.Exit(_gate);
}
