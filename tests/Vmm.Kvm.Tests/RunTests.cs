using Vmm.Interop;
using Vmm.Memory;
using Vmm.ObjectModel.Accel;
using Vmm.Qapi;

namespace Vmm.Kvm.Tests;

public sealed class RunTests
{
    [Test]
    public void PortWritesAndReadsOfAllSizes()
    {
        // mov al,42h; out 10h,al; mov ax,1234h; out 12h,ax; mov eax,89abcdefh; out 14h,eax; in al,10h; out 11h,al; hlt
        using var vm = new TestVm(
        [
            0xb0, 0x42, 0xe6, 0x10, 0xb8, 0x34, 0x12, 0xe7, 0x12, 0x66, 0xb8, 0xef, 0xcd, 0xab, 0x89, 0x66, 0xe7, 0x14,
            0xe4, 0x10, 0xe6, 0x11, 0xf4,
        ]);
        vm.Run();
        Assert.That(vm.Log.Next(), Is.EqualTo((0UL, 1, 0x42UL)));
        Assert.That(vm.Log.Next(), Is.EqualTo((2UL, 2, 0x1234UL)));
        Assert.That(vm.Log.Next(), Is.EqualTo((4UL, 4, 0x89abcdefUL)));
        Assert.That(vm.Log.Next(), Is.EqualTo((1UL, 1, 1UL)));
        vm.Stop();
    }

    [Test]
    public void CpuComesAndGoesWhileOthersRun()
    {
        // again: out 10h,al; jmp again
        using var vm = new TestVm([0xe6, 0x10, 0xeb, 0xfc], cpus: 2);
        vm.Run();
        for (int round = 0; round < 3; round++)
        {
            vm.Locked(() => vm.Accelerator.DestroyVcpu(vm.Accelerator.Vcpus[1]));
            vm.Log.Next();
            Assert.That(vm.Accelerator.Vcpus, Has.Count.EqualTo(1));
            vm.Locked(() => vm.Accelerator.CreateVcpu(new VcpuSetup(1, 1, new HostModel(vm.Accelerator.System))));
            Assert.That(vm.Accelerator.Vcpus[1].ThreadId, Is.Positive);
            Assert.That(vm.Accelerator.Vcpus[1].IsHalted, Is.True);
        }

        vm.Stop();
    }

    [Test]
    public void StringIo()
    {
        // cld; mov si,2000h; mov cx,5; mov dx,10h; rep outsb; mov di,3000h; mov cx,4; rep insb; out 11h,al; hlt
        using var vm = new TestVm(
        [
            0xfc, 0xbe, 0x00, 0x20, 0xb9, 0x05, 0x00, 0xba, 0x10, 0x00, 0xf3, 0x6e, 0xbf, 0x00, 0x30, 0xb9, 0x04, 0x00, 0xf3, 0x6c,
            0xe6, 0x11, 0xf4,
        ]);
        "HELLO"u8.CopyTo(vm.Ram.Span(0x2000, 5));
        vm.Run();
        foreach (byte letter in "HELLO"u8.ToArray())
        {
            Assert.That(vm.Log.Next(), Is.EqualTo((0UL, 1, (ulong)letter)));
        }

        Assert.That(vm.Log.Next().Offset, Is.EqualTo(1));
        Assert.That(vm.Ram.Span(0x3000, 4).ToArray(), Is.EqualTo(new byte[] { 1, 2, 3, 4 }));
        vm.Stop();
    }

    [Test]
    public void MmioReadsAndWrites()
    {
        // mov ax,0f000h; mov ds,ax; mov word [0],5566h; mov eax,[4]; out 10h,eax; hlt      (0xf0000 is I/O here)
        using var vm = new TestVm(
        [
            0xb8, 0x00, 0xf0, 0x8e, 0xd8, 0xc7, 0x06, 0x00, 0x00, 0x66, 0x55, 0x66, 0xa1, 0x04, 0x00, 0x66, 0xe7, 0x10, 0xf4,
        ]);
        var io = new PortLog();
        vm.Locked(() => vm.Root.AddSubregion(0xf0000, MemoryRegion.Io("mmio", 0x1000, io, IoConstraints.Exact(8)), 1));
        vm.Run();
        Assert.That(io.Next(), Is.EqualTo((0UL, 2, 0x5566UL)));
        Assert.That(vm.Log.Next(), Is.EqualTo((0UL, 4, 1UL)));
        vm.Stop();
    }

    [Test]
    public void TripleFaultAsksForReset()
    {
        // lidt [2000h] (limit 0); mov eax,cr0; or al,1; mov cr0,eax; ud2
        using var vm = new TestVm([0x0f, 0x01, 0x1e, 0x00, 0x20, 0x0f, 0x20, 0xc0, 0x0c, 0x01, 0x0f, 0x22, 0xc0, 0x0f, 0x0b]);
        vm.Run();
        Assert.That(vm.Events.Next(), Is.EqualTo("reset"));
        vm.Stop();
        vm.Locked(vm.Accelerator.ResetVcpus);
        CpuArchState state = vm.Cpu.GetState();
        Assert.That((state.Rip, state.Segments[1].Base, state.Cr0), Is.EqualTo((0xfff0UL, 0xffff0000UL, 0x60000010UL)));
    }

    [Test]
    public void CpuThatStopsItselfInAnExitExecutesNothingMore()
    {
        // out 30h,al; mov byte [2000h],1; out 10h,al; hlt
        using var vm = new TestVm([0xe6, 0x30, 0xc6, 0x06, 0x00, 0x20, 0x01, 0xe6, 0x10, 0xf4]);
        using var written = new ManualResetEventSlim();
        var handler = new StoppingHandler(vm.Accelerator, written);
        vm.Locked(() => vm.Ports.AddSubregion(0x30, MemoryRegion.Io("stop", 1, handler, IoConstraints.Exact(1))));
        vm.Run();
        written.Wait();
        vm.Stop();
        Assert.That(vm.Ram.Span(0x2000, 1)[0], Is.Zero);
        Assert.That(vm.Cpu.GetState().Rip, Is.EqualTo(TestVm.CodeAddress + 2UL));
        vm.Run();
        vm.Log.Next();
        Assert.That(vm.Ram.Span(0x2000, 1)[0], Is.EqualTo(1));
        vm.Stop();
    }

    private sealed class StoppingHandler(KvmAccelerator accelerator, ManualResetEventSlim written) : IIoHandler
    {
        public ulong Read(ulong offset, int size) => 0;

        public void Write(ulong offset, ulong value, int size)
        {
            accelerator.StopCurrentVcpu();
            written.Set();
        }
    }

    [Test]
    public void CodeWhereNoMemoryIsStopsTheMachineWithADump()
    {
        // jmp f000:0000
        using var vm = new TestVm([0xea, 0x00, 0x00, 0x00, 0xf0]);
        vm.Locked(() => vm.RamRegion.SetSize(0xf0000));
        vm.Run();
        Assert.That(vm.Events.Next(), Is.EqualTo("internal-error"));
        vm.Stop();
        Assert.That(vm.Events.Text, Does.StartWith("KVM internal error. Suberror: "));
        Assert.That(vm.Events.Text, Does.Contain("\nEIP=00000000 EFL="));
        Assert.That(vm.Events.Text, Does.Contain("\nCS =f000 000f0000 0000ffff 00009b00\n"));
        Assert.That(vm.Events.Text, Does.EndWith("\nCode=<??> " + string.Join(' ', Enumerable.Repeat("??", 49)) + "\n"));
    }

    [Test]
    public void MemorySlotsFollowTheGraph()
    {
        // again: mov ax,8000h; mov ds,ax; mov al,[0]; out 10h,al; in al,12h; jmp again       (reads 0x80000)
        using var vm = new TestVm([0xb8, 0x00, 0x80, 0x8e, 0xd8, 0xa0, 0x00, 0x00, 0xe6, 0x10, 0xe4, 0x12, 0xeb, 0xf2]);
        RamBlock other = RamBackends.CreateAnonymous(new RamOptions("other", 0x1000), out _)!;
        vm.Ram.Span(0x80000, 1)[0] = 1;
        other.Span(0, 1)[0] = 2;
        vm.Run();
        Assert.That(vm.Log.Next().Value, Is.EqualTo(1));
        vm.Stop();
        MemoryRegion over = MemoryRegion.Rom("over", other);
        vm.Locked(() => vm.Root.AddSubregion(0x80000, over, 1));
        Drain(vm);
        vm.Run();

        // What was read before the pause may be written after it.
        vm.Log.Next();
        Assert.That(vm.Log.Next().Value, Is.EqualTo(2));
        vm.Stop();
        vm.Locked(() => vm.Root.RemoveSubregion(over));
        Drain(vm);
        vm.Run();
        vm.Log.Next();
        Assert.That(vm.Log.Next().Value, Is.EqualTo(1));
        vm.Stop();
    }

    [Test]
    public void PauseAndResumeLoseNoExit()
    {
        // xor eax,eax; again: inc eax; out 10h,eax; jmp again
        using var vm = new TestVm([0x66, 0x31, 0xc0, 0x66, 0x40, 0x66, 0xe7, 0x10, 0xeb, 0xf9]);
        ulong expected = 0;
        for (int round = 0; round < 200; round++)
        {
            vm.Run();
            Assert.That(vm.Log.Next().Value, Is.EqualTo(++expected));
            vm.Stop();
            while (vm.Log.Count > 0)
            {
                Assert.That(vm.Log.Next().Value, Is.EqualTo(++expected));
            }

            CpuArchState state = vm.Cpu.GetState();
            Assert.That(state.Gpr[0], Is.EqualTo(expected).Or.EqualTo(expected + 1));
        }
    }

    [Test]
    public void StateIsReadWhileTheGuestRuns()
    {
        // mov ebx,12345678h; out 10h,al; jmp $
        using var vm = new TestVm([0x66, 0xbb, 0x78, 0x56, 0x34, 0x12, 0xe6, 0x10, 0xeb, 0xfe]);
        vm.Run();
        vm.Log.Next();
        CpuArchState state = vm.Cpu.GetState();
        Assert.That((state.Gpr[3], state.Rip, state.IsHalted), Is.EqualTo((0x12345678UL, 0x1008UL, false)));
        vm.Stop();
        Assert.That(vm.Cpu.GetState().Rip, Is.EqualTo(0x1008UL));
        Assert.That(vm.Cpu.IsHalted, Is.False);
    }

    [Test]
    public void HaltedCpuIsPausedAndTellsIt()
    {
        // cli; out 10h,al; hlt
        using var vm = new TestVm([0xfa, 0xe6, 0x10, 0xf4]);
        vm.Run();
        vm.Log.Next();
        while (!vm.Cpu.IsHalted)
        {
        }

        vm.Stop();
        vm.Run();
        vm.Stop();
        Assert.That(vm.Cpu.GetState().IsHalted, Is.True);
    }

    [Test]
    public void DirtyLogSeesTheGuestsWrites()
    {
        // mov [2000h],al; mov [5000h],al; out 10h,al; hlt
        using var vm = new TestVm([0xa2, 0x00, 0x20, 0xa2, 0x00, 0x50, 0xe6, 0x10, 0xf4]);
        vm.Locked(() => vm.Memory.GlobalDirtyLog = true);
        vm.Run();
        vm.Log.Next();
        vm.Stop();
        vm.Locked(() => vm.Memory.SyncDirtyLog());
        Assert.That(vm.Ram.TestAndClearDirty(0x2000, 1, DirtyClients.Migration), Is.True);
        Assert.That(vm.Ram.TestAndClearDirty(0x5000, 1, DirtyClients.Migration), Is.True);
        Assert.That(vm.Ram.TestAndClearDirty(0x7000, 0x1000, DirtyClients.Migration), Is.False);
        vm.Locked(() => vm.Memory.SyncDirtyLog());
        Assert.That(vm.Ram.IsDirty(0x2000, 0x4000, DirtyClients.Migration), Is.False);
        vm.Locked(() => vm.Memory.GlobalDirtyLog = false);
    }

    [Test]
    public void DirtyRingSeesTheGuestsWrites()
    {
        // mov [2000h],al; mov [5000h],al; out 10h,al; hlt
        using var vm = new TestVm(
            [0xa2, 0x00, 0x20, 0xa2, 0x00, 0x50, 0xe6, 0x10, 0xf4], options: new KvmOptions { DirtyRingSize = 4096 });
        if (vm.Accelerator.DirtyRingBytes == 0)
        {
            Assert.Ignore("needs a kernel with KVM_CAP_DIRTY_LOG_RING");
        }

        vm.Locked(() => vm.Memory.GlobalDirtyLog = true);
        vm.Run();
        vm.Log.Next();
        vm.Stop();
        vm.Locked(() => vm.Memory.SyncDirtyLog());
        Assert.That(vm.Ram.TestAndClearDirty(0x2000, 1, DirtyClients.Migration), Is.True);
        Assert.That(vm.Ram.TestAndClearDirty(0x5000, 1, DirtyClients.Migration), Is.True);
        Assert.That(vm.Ram.IsDirty(0x7000, 0x1000, DirtyClients.Migration), Is.False);
    }

    [Test]
    public void SecondCpuStartsByIpi()
    {
        // The boot CPU sends INIT and SIPI (vector 2) through the APIC's registers, reached in flat protected mode;
        // CPU 1 then runs at 2000h: mov al,77h; out 11h,al; hlt
        byte[] code =
        [
            0xfa, 0x0f, 0x01, 0x16, 0x40, 0x10, 0x0f, 0x20, 0xc0, 0x0c, 0x01, 0x0f, 0x22, 0xc0, 0xb8, 0x08, 0x00, 0x8e, 0xd8,
            0x67, 0x66, 0xc7, 0x05, 0x10, 0x03, 0xe0, 0xfe, 0x00, 0x00, 0x00, 0x01,
            0x67, 0x66, 0xc7, 0x05, 0x00, 0x03, 0xe0, 0xfe, 0x00, 0x45, 0x00, 0x00,
            0x67, 0x66, 0xc7, 0x05, 0x00, 0x03, 0xe0, 0xfe, 0x02, 0x46, 0x00, 0x00,
            0xe6, 0x10, 0xf4,
        ];
        using var vm = new TestVm(code, cpus: 2);

        // GDTR image at 1040h; GDT at 1050h with a flat data segment at selector 8.
        new byte[] { 0x0f, 0x00, 0x50, 0x10, 0x00, 0x00 }.CopyTo(vm.Ram.Span(0x1040, 6));
        new byte[] { 0xff, 0xff, 0x00, 0x00, 0x00, 0x93, 0xcf, 0x00 }.CopyTo(vm.Ram.Span(0x1058, 8));
        new byte[] { 0xb0, 0x77, 0xe6, 0x11, 0xf4 }.CopyTo(vm.Ram.Span(0x2000, 5));
        vm.Run();
        (ulong Offset, int, ulong Value)[] writes = [vm.Log.Next(), vm.Log.Next()];
        Assert.That(Array.Exists(writes, w => w.Offset == 1 && w.Value == 0x77), Is.True);
        vm.Stop();
        Assert.That(vm.Accelerator.Vcpus[1].GetState().Segments[1].Base, Is.EqualTo(0x2000));
    }

    [TestCase("foo", "1", "Property 'kvm-accel.foo' not found")]
    [TestCase("kernel-irqchip", "foo", "Parameter 'kernel-irqchip' does not accept value 'foo'")]
    [TestCase("dirty-ring-size", "3", "dirty-ring-size must be a power of two.")]
    [TestCase("notify-vmexit", "foo", "Parameter 'notify-vmexit' does not accept value 'foo'")]
    [TestCase("kvm-shadow-mem", "10M", "Parameter 'kvm-shadow-mem' expects int64")]
    [TestCase("notify-window", "-1", "Parameter 'notify-window' expects uint32_t")]
    public void OptionErrorsAreQemus(string name, string value, string message)
    {
        QapiException? error = Assert.Throws<QapiException>(() => KvmOptionParser.Parse(new QDict { [name] = value }, []));
        Assert.That(error!.Desc, Is.EqualTo(message));
    }

    [Test]
    public void IoEventFdTakesPortWritesOffTheThread()
    {
        // mov ax,7; out 30h,ax; mov ax,8; out 30h,ax; out 10h,al; hlt
        using var vm = new TestVm([0xb8, 0x07, 0x00, 0xe7, 0x30, 0xb8, 0x08, 0x00, 0xe7, 0x30, 0xe6, 0x10, 0xf4]);
        using EventFd fd = EventFd.Create();
        var io = new PortLog();
        MemoryRegion region = MemoryRegion.Io("doorbell", 4, io, IoConstraints.Exact(4));
        region.AddIoEventFd(0, 2, 7, fd);
        vm.Locked(() => vm.Ports.AddSubregion(0x30, region));
        vm.Run();
        vm.Log.Next();
        vm.Stop();
        Assert.That(fd.Drain(), Is.EqualTo(1));
        Assert.That((io.Count, io.Next().Value), Is.EqualTo((1, 8UL)));
        vm.Locked(() => vm.Ports.RemoveSubregion(region));
    }

    [Test]
    public void IrqFdInterruptsTheGuest()
    {
        // Vector 20h at IDT 0:80h -> 1100h. PIC: ICW1..4, mask all but 5. sti; out 10h,al; hlt; jmp $
        byte[] code =
        [
            0xb0, 0x11, 0xe6, 0x20, 0xb0, 0x20, 0xe6, 0x21, 0xb0, 0x04, 0xe6, 0x21, 0xb0, 0x01, 0xe6, 0x21, 0xb0, 0xdf, 0xe6, 0x21,
            0xfb, 0xe6, 0x10, 0xf4, 0xeb, 0xfd,
        ];
        using var vm = new TestVm(code);
        vm.Ram.Span(0x25 * 4, 4)[1] = 0x11;
        new byte[] { 0xe6, 0x11, 0xcf }.CopyTo(vm.Ram.Span(0x1100, 3));
        using EventFd fd = EventFd.Create();
        Assert.That(vm.Accelerator.Routing.AttachIrqFd(fd, 5), Is.EqualTo(Errno.OK));
        vm.Run();
        Assert.That(vm.Log.Next().Offset, Is.EqualTo(0));
        fd.Signal();
        Assert.That(vm.Log.Next().Offset, Is.EqualTo(1));
        vm.Stop();
        Assert.That(vm.Accelerator.Routing.DetachIrqFd(fd, 5), Is.EqualTo(Errno.OK));
    }

    [Test]
    public void SignalsForMessagesTakeAndGiveBackRoutes()
    {
        using var vm = new TestVm([0xf4]);
        for (int round = 0; round < 3; round++)
        {
            using IMessageSignal signal = vm.Accelerator.CreateMessageSignal()!;
            using IMessageSignal other = vm.Accelerator.CreateMessageSignal()!;
            Assert.That(signal.SetMessage(0xfee00000, 0x41), "the kernel takes route and descriptor");
            Assert.That(signal.SetMessage(0xfee01000, 0x8042), "another message");
            Assert.That(other.SetMessage(0xfee00000, 0x43));
            signal.Send();
            other.Send();
        }

        int gsi = vm.Accelerator.Routing.AddMsi(0xfee00000, 0x44);
        Assert.That(gsi, Is.EqualTo(24), "the first free one");
        vm.Accelerator.Routing.ReleaseMsi(gsi);
    }

    [Test]
    public void ExitsDoNotAllocate()
    {
        // again: out 30h,al; in al,30h; jmp again, a thread-safe region that measures
        using var vm = new TestVm([0xe6, 0x30, 0xe4, 0x30, 0xeb, 0xfa]);
        using var meter = new AllocationMeter(20_000);
        vm.Locked(() => vm.Ports.AddSubregion(0x30, MemoryRegion.Io("meter", 1, meter)));
        vm.Run();
        Assert.That(meter.Done.Wait(60_000), Is.True);
        vm.Stop();
        Assert.That(meter.Bytes, Is.Zero);
    }

    [Test]
    public void MissingDeviceGivesQemusWords()
    {
        KvmAccelerator? none = KvmAccelerator.TryCreate(
            new KvmOptions(), new TestLock(), new TestEvents(), out KvmInitError? error, "/nonexistent/kvm");
        Assert.That(none, Is.Null);
        Assert.That(error!.Lines, Is.EqualTo(new[] { "Could not access KVM kernel module: No such file or directory" }));
        Assert.That(error.Error, Is.EqualTo(Errno.ENOENT));
    }

    private static void Drain(TestVm vm)
    {
        while (vm.Log.Count > 0)
        {
            vm.Log.Next();
        }
    }

    private sealed class AllocationMeter(int rounds) : IIoHandler, IDisposable
    {
        private int _calls;
        private long _before;

        public ManualResetEventSlim Done { get; } = new();

        public long Bytes { get; private set; } = -1;

        public void Dispose() => Done.Dispose();

        public ulong Read(ulong offset, int size) => 0;

        public void Write(ulong offset, ulong value, int size)
        {
            _calls++;
            if (_calls == 100)
            {
                _before = GC.GetAllocatedBytesForCurrentThread();
            }
            else if (_calls == rounds)
            {
                Bytes = GC.GetAllocatedBytesForCurrentThread() - _before;
                Done.Set();
            }
        }
    }
}
