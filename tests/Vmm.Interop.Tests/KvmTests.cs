using System.Buffers.Binary;
using System.Text;
using Vmm.Interop.KvmApi;

namespace Vmm.Interop.Tests;

/// <summary>The wrappers against a real /dev/kvm, with guests of a few bytes in real mode.</summary>
[NonParallelizable]
public sealed class KvmTests
{
    private const ulong RamSize = 1 << 20;

    private KvmSystem _kvm = null!;
    private KvmVmFd _vm = null!;
    private KvmVcpuFd _vcpu = null!;
    private MappedMemory _ram = null!;

    [SetUp]
    public void CreateMachine()
    {
        Errno errno = KvmSystem.Open(out KvmSystem? kvm);
        if (errno != Errno.OK)
        {
            Assert.Ignore("needs /dev/kvm: " + errno.Message());
        }

        _kvm = kvm!;
        Assert.That(_kvm.CreateVm(0, out KvmVmFd? vm), Is.EqualTo(Errno.OK));
        _vm = vm!;
        int flags = Libc.MAP_PRIVATE | Libc.MAP_ANONYMOUS | Libc.MAP_NORESERVE;
        Assert.That(
            MappedMemory.Map(RamSize, Libc.PROT_READ | Libc.PROT_WRITE, flags, -1, 0, out MappedMemory? ram), Is.EqualTo(Errno.OK));
        _ram = ram!;
        Assert.That(_vm.SetTssAddr(0xFFFBD000), Is.EqualTo(Errno.OK));
    }

    [TearDown]
    public void DestroyMachine()
    {
        _vcpu?.Dispose();
        _vm?.Dispose();
        _ram?.Dispose();
        _kvm?.Dispose();
        _vcpu = null!;
    }

    [Test]
    public void System_queries()
    {
        Assert.That(_kvm.ApiVersion(), Is.EqualTo(KvmUapi.KVM_API_VERSION));
        Assert.That(_kvm.CheckExtension(KvmUapi.KVM_CAP_USER_MEMORY), Is.Positive);
        Assert.That(_kvm.GetSupportedCpuid(out KvmCpuidEntry2[] cpuid), Is.EqualTo(Errno.OK));
        Assert.That(cpuid.Select(static entry => entry.function), Contains.Item(1u).And.Contain(0x80000000u));
        Assert.That(_kvm.GetMsrIndexList(out uint[] msrs), Is.EqualTo(Errno.OK));
        Assert.That(msrs, Contains.Item(0x174u));
        Assert.That(_kvm.GetMsrFeatureIndexList(out uint[] features), Is.EqualTo(Errno.OK));
        KvmMsrEntry[] values = [.. features.Select(static index => new KvmMsrEntry(index, 0))];
        Assert.That(_kvm.GetFeatureMsrs(values), Is.EqualTo(values.Length));
    }

    [Test]
    public void Port_output_and_halt()
    {
        // mov al, 'A'; out 0xE9, al; in al, 0x10; out 0xE9, al; hlt
        Start([0xB0, 0x41, 0xE6, 0xE9, 0xE4, 0x10, 0xE6, 0xE9, 0xF4]);
        KvmRun run = _vcpu.Run;
        Assert.That(_vcpu.Enter(), Is.Zero);
        Assert.That(run.ExitReason, Is.EqualTo(KvmUapi.KVM_EXIT_IO));
        Assert.That((run.IoIsOut, run.IoPort, run.IoSize, run.IoCount), Is.EqualTo((true, (ushort)0xE9, 1, 1)));
        Assert.That(run.IoData.ToArray(), Is.EqualTo("A"u8.ToArray()));
        Assert.That(_vcpu.Enter(), Is.Zero);
        Assert.That((run.IoIsOut, run.IoPort), Is.EqualTo((false, (ushort)0x10)));
        run.IoData[0] = 0x5A;
        Assert.That(_vcpu.Enter(), Is.Zero);
        Assert.That(run.IoData[0], Is.EqualTo(0x5A));
        Assert.That(_vcpu.Enter(), Is.Zero);
        Assert.That(run.ExitReason, Is.EqualTo(KvmUapi.KVM_EXIT_HLT));
    }

    [Test]
    public void Mmio_both_ways()
    {
        // mov ax, 0xF000; mov ds, ax; mov byte [0], 7; mov al, [1]; mov [2], al; hlt
        Start([0xB8, 0x00, 0xF0, 0x8E, 0xD8, 0xC6, 0x06, 0, 0, 7, 0xA0, 1, 0, 0xA2, 2, 0, 0xF4], ramSize: 0x80000);
        KvmRun run = _vcpu.Run;
        Assert.That(_vcpu.Enter(), Is.Zero);
        Assert.That(run.ExitReason, Is.EqualTo(KvmUapi.KVM_EXIT_MMIO));
        Assert.That((run.MmioIsWrite, run.MmioAddress, run.MmioLength), Is.EqualTo((true, 0xF0000ul, 1)));
        Assert.That(run.MmioData[0], Is.EqualTo(7));
        Assert.That(_vcpu.Enter(), Is.Zero);
        Assert.That((run.MmioIsWrite, run.MmioAddress), Is.EqualTo((false, 0xF0001ul)));
        run.MmioValue = 0x99;
        Assert.That(_vcpu.Enter(), Is.Zero);
        Assert.That((run.MmioIsWrite, run.MmioAddress), Is.EqualTo((true, 0xF0002ul)));
        Assert.That(run.MmioData[0], Is.EqualTo(0x99));
    }

    [Test]
    public void A_kick_stops_a_spinning_vcpu_without_allocation_and_loses_nothing()
    {
        Assert.That(Signals.InstallKick(), Is.EqualTo(Errno.OK));

        // inc ax; jmp -3
        Start([0x40, 0xEB, 0xFD]);
        int tid = 0;
        long allocated = -1;
        int wrong = 0;
        const int rounds = 20;
        using SemaphoreSlim entered = new(0);
        using SemaphoreSlim seen = new(0);
        Thread thread = new(() =>
        {
            Volatile.Write(ref tid, Threads.Gettid());
            _ = _vcpu.Run.ExitReason;
            for (int i = 0; i <= rounds; i++)
            {
                entered.Release();
                long before = GC.GetAllocatedBytesForCurrentThread();
                int result = _vcpu.Enter();
                allocated = i == 0 ? 0 : allocated + GC.GetAllocatedBytesForCurrentThread() - before;
                wrong += result == -(int)Errno.EINTR && _vcpu.Run.ImmediateExit ? 0 : 1;
                _vcpu.Run.ImmediateExit = false;
                seen.Release();
            }
        });
        thread.Start();
        for (int i = 0; i <= rounds; i++)
        {
            entered.Wait();
            Assert.That(_vcpu.Run.RequestImmediateExit(Volatile.Read(ref tid)), Is.EqualTo(Errno.OK));
            seen.Wait();
        }

        thread.Join();
        Assert.That(wrong, Is.Zero);
        Assert.That(allocated, Is.Zero);
    }

    [Test]
    public void Register_state_round_trips()
    {
        Start([0xF4]);
        Assert.That(_vcpu.GetRegs(out KvmRegs regs), Is.EqualTo(Errno.OK));
        regs.rax = 0x1122334455667788;
        regs.r15 = 42;
        Assert.That(_vcpu.SetRegs(regs), Is.EqualTo(Errno.OK));
        Assert.That(_vcpu.GetRegs(out KvmRegs again), Is.EqualTo(Errno.OK));
        Assert.That(again, Is.EqualTo(regs));
        Assert.That(_vcpu.GetFpu(out KvmFpu fpu), Is.EqualTo(Errno.OK));
        fpu.xmm[17] = 0xAB;
        Assert.That(_vcpu.SetFpu(fpu), Is.EqualTo(Errno.OK));
        Assert.That(_vcpu.GetFpu(out fpu), Is.EqualTo(Errno.OK));
        Assert.That(fpu.xmm[17], Is.EqualTo(0xAB));
        KvmMsrEntry[] msrs = [new(0x174, 0x10), new(0x175, 0xFFFF880000001000)];
        Assert.That(_vcpu.SetMsrs(msrs), Is.EqualTo(2));
        KvmMsrEntry[] read = [new(0x174, 0), new(0x175, 0)];
        Assert.That(_vcpu.GetMsrs(read), Is.EqualTo(2));
        Assert.That(read, Is.EqualTo(msrs));
        Assert.That(_vcpu.GetMpState(out KvmMpState state), Is.EqualTo(Errno.OK));
        Assert.That(state.mp_state, Is.EqualTo(KvmUapi.KVM_MP_STATE_RUNNABLE));
        Assert.That(_vcpu.GetVcpuEvents(out KvmVcpuEvents events), Is.EqualTo(Errno.OK));
        Assert.That(_vcpu.SetVcpuEvents(events), Is.EqualTo(Errno.OK));
        Assert.That(_vcpu.GetDebugRegs(out KvmDebugRegs debug), Is.EqualTo(Errno.OK));
        Assert.That(debug.dr6, Is.EqualTo(0xFFFF0FF0));
        Assert.That(_vcpu.GetXsave(out KvmXsave xsave), Is.EqualTo(Errno.OK));
        Assert.That(_vcpu.SetXsave(xsave), Is.EqualTo(Errno.OK));
        Assert.That(_kvm.GetSupportedCpuid(out KvmCpuidEntry2[] cpuid), Is.EqualTo(Errno.OK));
        Assert.That(_vcpu.SetCpuid2(cpuid), Is.EqualTo(Errno.OK));
        Assert.That(_vcpu.GetCpuid2(new KvmCpuidEntry2[1]), Is.EqualTo(-(int)Errno.E2BIG));
        Assert.That(_vcpu.GetCpuid2(new KvmCpuidEntry2[256]), Is.EqualTo(cpuid.Length));
        Assert.That(_vcpu.Translate(0x1234, out KvmTranslation translation), Is.EqualTo(Errno.OK));
        Assert.That((translation.valid, translation.physical_address), Is.EqualTo(((byte)1, 0x1234ul)));
    }

    [Test]
    public void Irqchip_pit_clock_and_routing()
    {
        Assert.That(_vm.CreateIrqchip(), Is.EqualTo(Errno.OK));
        Assert.That(_vm.CreatePit2(KvmUapi.KVM_PIT_SPEAKER_DUMMY), Is.EqualTo(Errno.OK));
        Start([0xF4]);
        Assert.That(_vm.GetIrqchip(KvmUapi.KVM_IRQCHIP_IOAPIC, out KvmIrqchip ioapic), Is.EqualTo(Errno.OK));
        Assert.That(ioapic.ioapic.base_address, Is.EqualTo(0xFEC00000));
        Assert.That(ioapic.ioapic.redirtbl[0] & 0x10000, Is.Not.Zero);
        Assert.That(_vm.SetIrqchip(ioapic), Is.EqualTo(Errno.OK));
        Assert.That(_vm.GetPit2(out KvmPitState2 pit), Is.EqualTo(Errno.OK));
        Assert.That(_vm.SetPit2(pit), Is.EqualTo(Errno.OK));
        Assert.That(_vm.SetPitReinject(false), Is.EqualTo(Errno.OK));
        Assert.That(_vm.GetClock(out KvmClockData clock), Is.EqualTo(Errno.OK));
        Assert.That(_vm.SetClock(new KvmClockData { clock = clock.clock }), Is.EqualTo(Errno.OK));
        Assert.That(
            _vm.SetGsiRouting(
            [
                KvmIrqRoutingEntry.ToIrqchip(4, KvmUapi.KVM_IRQCHIP_IOAPIC, 4),
                KvmIrqRoutingEntry.ToMsi(24, 0xFEE00000, 0x41),
            ]),
            Is.EqualTo(Errno.OK));
        using EventFd irq = EventFd.Create();
        Assert.That(_vm.AssignIrqfd(irq.Fd, 24), Is.EqualTo(Errno.OK));
        Assert.That(_vm.AssignIrqfd(irq.Fd, 24), Is.EqualTo(Errno.EBUSY));
        Assert.That(_vm.DeassignIrqfd(irq.Fd, 24), Is.EqualTo(Errno.OK));
        Assert.That(_vm.IrqLineStatus(4, true, out int status), Is.EqualTo(Errno.OK));
        Assert.That(status, Is.LessThanOrEqualTo(0));
        Assert.That(_vm.IrqLine(4, false), Is.EqualTo(Errno.OK));
        Assert.That(_vcpu.GetLapic(out KvmLapicState lapic), Is.EqualTo(Errno.OK));
        Assert.That(_vcpu.SetLapic(lapic), Is.EqualTo(Errno.OK));
    }

    [Test]
    public void Ioeventfd_swallows_the_matching_write()
    {
        // mov al, 1; out 0x20, al; mov al, 2; out 0x20, al
        Start([0xB0, 1, 0xE6, 0x20, 0xB0, 2, 0xE6, 0x20, 0xF4]);
        using EventFd doorbell = EventFd.Create();
        Assert.That(_vm.AssignIoeventfd(doorbell.Fd, 0x20, 1, 1, pio: true), Is.EqualTo(Errno.OK));
        Assert.That(_vcpu.Enter(), Is.Zero);
        Assert.That(doorbell.Drain(), Is.EqualTo(1));
        Assert.That(_vcpu.Run.IoData[0], Is.EqualTo(2));
        Assert.That(_vm.DeassignIoeventfd(doorbell.Fd, 0x20, 1, 1, pio: true), Is.EqualTo(Errno.OK));
        Assert.That(_vm.DeassignIoeventfd(doorbell.Fd, 0x20, 1, 1, pio: true), Is.EqualTo(Errno.ENOENT));
    }

    [Test]
    public void Dirty_log_tells_written_pages()
    {
        // mov byte [0x3000], 1; hlt
        Start([0xC6, 0x06, 0x00, 0x30, 1, 0xF4], flags: KvmUapi.KVM_MEM_LOG_DIRTY_PAGES);
        ulong[] bitmap = new ulong[4];
        Assert.That(_vcpu.Enter(), Is.Zero);
        Assert.That(_vcpu.Run.ExitReason, Is.EqualTo(KvmUapi.KVM_EXIT_HLT));
        Assert.That(_vm.GetDirtyLog(0, bitmap), Is.EqualTo(Errno.OK));
        Assert.That(bitmap[0] & 8, Is.EqualTo(8));
        Assert.That(_vm.GetDirtyLog(0, bitmap), Is.EqualTo(Errno.OK));
        Assert.That(bitmap[0] & 8, Is.Zero);
        Assert.That(() => _vm.GetDirtyLog(0, new ulong[3]), Throws.TypeOf<ArgumentOutOfRangeException>());
        Assert.That(_vm.GetDirtyLog(9, bitmap), Is.EqualTo(Errno.ENOENT));
    }

    [Test]
    public void Binary_statistics_name_and_count_exits()
    {
        if (_vm.CheckExtension(KvmUapi.KVM_CAP_BINARY_STATS_FD) == 0)
        {
            Assert.Ignore("needs KVM_CAP_BINARY_STATS_FD");
        }

        Start([0xF4]);
        Assert.That(_vcpu.Enter(), Is.Zero);
        Assert.That(_vcpu.OpenStats(out KvmStats? stats), Is.EqualTo(Errno.OK));
        using (stats)
        {
            ulong[] values = new ulong[stats!.ValueCount];
            Assert.That(stats.Read(values), Is.EqualTo(Errno.OK));
            Assert.That(stats.Read(new ulong[1]), Is.EqualTo(Errno.EINVAL));
            KvmStatDescriptor exits = stats.Descriptors.Single(static d => d.Name == "exits");
            Assert.That(exits.Flags & KvmUapi.KVM_STATS_TYPE_MASK, Is.EqualTo(KvmUapi.KVM_STATS_TYPE_CUMULATIVE));
            Assert.That(values[exits.Offset / 8], Is.Positive);
            Assert.That(stats.Id, Does.StartWith("kvm-"));
        }

        Assert.That(_vm.OpenStats(out KvmStats? vmStats), Is.EqualTo(Errno.OK));
        vmStats!.Dispose();
    }

    [Test]
    public void Broken_statistics_tables_are_refused()
    {
        byte[] table = new byte[2 * 24];
        for (int i = 0; i < 2; i++)
        {
            BinaryPrimitives.WriteUInt16LittleEndian(table.AsSpan(i * 24 + 6), 1);
            BinaryPrimitives.WriteUInt32LittleEndian(table.AsSpan(i * 24 + 8), (uint)i * 8);
            Encoding.UTF8.GetBytes("exits" + i).CopyTo(table, i * 24 + 16);
        }

        Assert.That(KvmStats.TryParse(table, 2, 8, out KvmStatDescriptor[] descriptors));
        Assert.That(descriptors[1].Name, Is.EqualTo("exits1"));
        Assert.That(KvmStats.TryParse(table, 3, 8, out _), Is.False);
        Assert.That(KvmStats.TryParse(table, -1, 8, out _), Is.False);
        Assert.That(KvmStats.TryParse(table, int.MaxValue, int.MaxValue, out _), Is.False);
        BinaryPrimitives.WriteUInt32LittleEndian(table.AsSpan(8), uint.MaxValue - 7);
        Assert.That(KvmStats.TryParse(table, 2, 8, out _), Is.False);
    }

    private void Start(ReadOnlySpan<byte> code, ulong ramSize = RamSize, uint flags = 0)
    {
        code.CopyTo(_ram.AsSpan(0x1000, code.Length));
        Assert.That(
            _vm.SetUserMemoryRegion(new KvmUserspaceMemoryRegion
            {
                flags = flags,
                memory_size = ramSize,
                userspace_addr = (ulong)_ram.Address,
            }),
            Is.EqualTo(Errno.OK));
        Assert.That(_vm.CreateVcpu(0, out KvmVcpuFd? vcpu), Is.EqualTo(Errno.OK));
        _vcpu = vcpu!;
        Assert.That(_vcpu.GetSregs(out KvmSregs sregs), Is.EqualTo(Errno.OK));
        sregs.cs.@base = 0;
        sregs.cs.selector = 0;
        Assert.That(_vcpu.SetSregs(sregs), Is.EqualTo(Errno.OK));
        Assert.That(_vcpu.SetRegs(new KvmRegs { rip = 0x1000, rflags = 2, rsp = 0x800 }), Is.EqualTo(Errno.OK));
    }
}
