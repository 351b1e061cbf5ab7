using Vmm.Devices.I8254;
using Vmm.Devices.Isa;
using Vmm.Machines;
using Vmm.ObjectModel.VmState;
using Vmm.TestKit.Devices;

namespace Vmm.Kvm.Tests;

/// <summary>The timer in the kernel: what a guest has done to it goes through its migration section into another kernel's.</summary>
public sealed class KernelPitTests
{
    [Test]
    public void AGuestReadsOnWhereItWasSaved()
    {
        // Counter 2 in mode 3 with 1234h, gate by port 61h; counter 1 in mode 4 with 5678h; latch counter 1, read its low byte; counter 0 in mode 2,
        // the low byte of its start value alone.
        using Timer first = new(
        [
            0xb0, 0xb6, 0xe6, 0x43, 0xb0, 0x34, 0xe6, 0x42, 0xb0, 0x12, 0xe6, 0x42, 0xb0, 0x01, 0xe6, 0x61,
            0xb0, 0x78, 0xe6, 0x43, 0xb0, 0x78, 0xe6, 0x41, 0xb0, 0x56, 0xe6, 0x41, 0xb0, 0x40, 0xe6, 0x43, 0xe4, 0x41, 0xe6, 0x10,
            0xb0, 0x34, 0xe6, 0x43, 0xb0, 0x9c, 0xe6, 0x40, 0xe6, 0x11, 0xf4,
        ]);
        first.Vm.Run();
        ulong low = first.Vm.Log.Next().Value;
        first.Vm.Log.Next();
        first.Stop();
        byte[] saved = first.Save();
        I8254State state = I8254State.Load(new VmStateReader(saved), 3);
        Assert.Multiple(() =>
        {
            Assert.That((state.Channels[2].Count, state.Channels[2].Mode, state.Channels[2].Gate), Is.EqualTo((0x1234, 3, 1)));
            Assert.That((state.Channels[1].Count, state.Channels[1].Mode), Is.EqualTo((0x5678, 4)));
            Assert.That(state.Channels[1].LatchedCount & 0xff, Is.EqualTo(low));
            Assert.That((state.Channels[0].Mode, state.Channels[0].WriteLatch), Is.EqualTo((2, 0x9c)));
        });

        // The high byte of the latched count, then that of the start value; latch counter 0 and read it.
        using Timer second = new([0xe4, 0x41, 0xe6, 0x10, 0xb0, 0x2e, 0xe6, 0x40, 0xe6, 0x11, 0xf4]);
        second.Load(saved);
        Assert.That(second.Save(), Is.EqualTo(saved), "a stopped machine gives what it was given");
        second.Start();
        Assert.That(second.Vm.Log.Next(), Is.EqualTo((0UL, 1, (ulong)state.Channels[1].LatchedCount >> 8)));
        second.Vm.Log.Next();
        second.Stop();
        I8254State later = I8254State.Load(new VmStateReader(second.Save()), 3);
        Assert.Multiple(() =>
        {
            Assert.That(later.Channels[0].Count, Is.EqualTo(0x2e9c));
            Assert.That((later.Channels[2].Count, later.Channels[2].Mode, later.Channels[2].Gate), Is.EqualTo((0x1234, 3, 1)));
            Assert.That(later.Channels[1].CountLatched, Is.Zero, "both bytes have been read");
        });
    }

    [Test]
    public void AResetStopsWhatWasProgrammed()
    {
        using Timer timer = new([0xf4]);
        timer.Vm.Run();
        timer.Stop();
        timer.Device.Reset();
        I8254State state = I8254State.Load(new VmStateReader(timer.Save()), 3);
        Assert.That(state.Channels.Select(c => (c.Count, c.Mode, c.Gate)), Is.EqualTo(new[] { (0x10000, 3, 1), (0x10000, 3, 1), (0x10000, (byte)3, (byte)0) }));
    }

    /// <summary>A timer in the kernel with its stand-in on an ISA bus.</summary>
    private sealed class Timer : IDisposable
    {
        private readonly FakeMachineServices _machine = new();

        public Timer(byte[] code)
        {
            Vm = new TestVm(code);
            Vm.Accelerator.CreatePit();
            KernelChips chips = new(Vm.Accelerator, _machine.Clocks);
            IsaBusBridge bridge = new();
            _machine.Devices.Realize(bridge, _machine.MainSystemBus);
            Device = new KernelPit { GetState = chips.GetPit, SetState = chips.SetPit, SetReinject = chips.SetPitReinject };
            _machine.Devices.Realize(Device, bridge.IsaBus);
        }

        public TestVm Vm { get; }

        public KernelPit Device { get; }

        public void Start()
        {
            _machine.Run.ChangeState(isRunning: true);
            Vm.Run();
        }

        public void Stop()
        {
            Vm.Stop();
            _machine.Run.ChangeState(isRunning: false);
        }

        public byte[] Save()
        {
            VmStateWriter writer = new();
            Device.SaveState(writer);
            return writer.WrittenSpan.ToArray();
        }

        public void Load(byte[] saved)
        {
            _machine.Run.ChangeState(isRunning: false);
            Device.LoadState(new VmStateReader(saved), Device.VmStateVersion);
        }

        public void Dispose()
        {
            Vm.Dispose();
            _machine.Dispose();
        }
    }
}
