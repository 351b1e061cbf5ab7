using Vmm.Devices.DebugConsole;
using Vmm.Devices.FwCfg;
using Vmm.Devices.I440Fx;
using Vmm.Devices.I8042;
using Vmm.Devices.I8254;
using Vmm.Devices.I8257;
using Vmm.Devices.I8259;
using Vmm.Devices.IoApic;
using Vmm.Devices.Isa;
using Vmm.Devices.PcSpeaker;
using Vmm.Devices.Piix;
using Vmm.Devices.Port92;
using Vmm.Devices.PvPanic;
using Vmm.Devices.Rtc;
using Vmm.Devices.Serial16550;
using Vmm.EventLoop;
using Vmm.ObjectModel.Devices;
using Vmm.ObjectModel.VmState;

namespace Vmm.TestKit.Devices;

/// <summary>A PC's chipset with all interrupt controllers in user space, plugged into a <see cref="FakeMachineServices"/>.</summary>
public sealed class PcTestBoard : IDisposable
{
    /// <summary>2024-02-29T23:59:58, what the clock shows at time 0.</summary>
    public const long StartSeconds = 1_709_251_198;

    /// <summary>Makes and realizes everything.</summary>
    public PcTestBoard()
    {
        Machine = new FakeMachineServices(ramSize: 2 << 20);
        Pic = new I8259Pair(new InterruptLine(Machine.Interrupts, CpuInterrupt));
        IoApic = new IoApicDevice { Send = (address, data) => Messages.Add((address, data)), AcknowledgeExternal = Pic.Acknowledge };
        for (int i = 0; i < Machine.Gsi.Count; i++)
        {
            Machine.Gsi[i].Connect(new FanOut(Machine.Interrupts, i < 16 ? Pic : null, IoApic), i);
        }

        FwCfg = new FwCfgIo();
        Machine.Objects.Machine!.AddChild("fw_cfg", FwCfg);
        Machine.Devices.Realize(FwCfg, Machine.MainSystemBus);
        Host = new I440FxHost { Ram = Machine.Ram, RamSize = 64 << 20 };
        Machine.Devices.Realize(Host, Machine.MainSystemBus);
        Isa = new Piix3();
        Machine.Devices.Realize(Isa, Host.PciBus);
        IsaBus bus = Isa.IsaBus;
        Machine.Devices.Realize(new DmaController { HighPageBase = -1 }, bus);
        Machine.Devices.Realize(new DmaController { HighPageBase = -1, IoBase = 0xc0, PageBase = 0x88, Shift = 1 }, bus);
        Pic.Realize(bus, Machine);
        Machine.Devices.Realize(IoApic, Machine.MainSystemBus);
        Rtc = new Mc146818 { BaseYear = 0, TimeBase = new RtcTimeBase(Machine.Clocks, ClockType.Virtual, RtcBaseKind.DateTime, StartSeconds) };
        Machine.Devices.Realize(Rtc, bus);
        Pit = new I8254Pit();
        Machine.Devices.Realize(Pit, bus);
        Machine.Devices.Realize(new PcSpeakerPort { Pit = Pit }, bus);
        Console = new FakeChardev { Label = "c0" };
        Machine.Objects.Chardevs.AddChild("c0", Console);
        DebugConsole = new FakeChardev { Label = "c1" };
        Machine.Objects.Chardevs.AddChild("c1", DebugConsole);
        Machine.Devices.Realize(new IsaSerial { Chardev = "c0" }, bus);
        Keyboard = new I8042Device();
        Machine.Devices.Realize(Keyboard, bus);
        Machine.Devices.Realize(new Port92Device(), bus);
        Machine.Devices.Realize(new IsaDebugConsole { Chardev = "c1" }, bus);
        Machine.Devices.Realize(new IsaPvPanic(), bus);
        Pm = new Piix4Pm { HasSmm = true, SerialPorts = 1 };
        Machine.Devices.Realize(Pm, Host.PciBus);
        Reset();
    }

    /// <summary>Input of the recording sink that stands for the CPU's INTR.</summary>
    public const int CpuInterrupt = 100;

    /// <summary>The machine.</summary>
    public FakeMachineServices Machine { get; }

    /// <summary>Interrupt controllers.</summary>
    public I8259Pair Pic { get; }

    /// <inheritdoc cref="Pic"/>
    public IoApicDevice IoApic { get; }

    /// <summary>Messages that the I/O APIC sent.</summary>
    public List<(ulong Address, uint Data)> Messages { get; } = [];

    /// <summary>Devices.</summary>
    public FwCfgIo FwCfg { get; }

    /// <inheritdoc cref="FwCfg"/>
    public I440FxHost Host { get; }

    /// <inheritdoc cref="FwCfg"/>
    public Piix3 Isa { get; }

    /// <inheritdoc cref="FwCfg"/>
    public Mc146818 Rtc { get; }

    /// <inheritdoc cref="FwCfg"/>
    public I8254Pit Pit { get; }

    /// <inheritdoc cref="FwCfg"/>
    public I8042Device Keyboard { get; }

    /// <inheritdoc cref="FwCfg"/>
    public Piix4Pm Pm { get; }

    /// <summary>Back end of COM1.</summary>
    public FakeChardev Console { get; }

    /// <summary>Back end of the debug port.</summary>
    public FakeChardev DebugConsole { get; }

    /// <summary>Resets all devices as a machine does.</summary>
    public void Reset() => DeviceFactory.ResetTree(Machine.MainSystemBus);

    /// <summary>Saves all sections, one after the other, keyed by name and instance.</summary>
    public Dictionary<string, byte[]> Save()
    {
        var sections = new Dictionary<string, byte[]>();
        foreach (VmStateSection section in Machine.Devices.VmStates.Sections)
        {
            var writer = new VmStateWriter();
            section.Target.SaveState(writer);
            sections.Add($"{section.Name}/{section.InstanceId}", writer.WrittenSpan.ToArray());
        }

        return sections;
    }

    /// <summary>Loads what <see cref="Save"/> made.</summary>
    public void Load(Dictionary<string, byte[]> sections)
    {
        foreach (VmStateSection section in Machine.Devices.VmStates.Sections)
        {
            section.Target.LoadState(new VmStateReader(sections[$"{section.Name}/{section.InstanceId}"]), section.Target.VmStateVersion);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => Machine.Dispose();

    private sealed class FanOut(params IInterruptSink?[] sinks) : IInterruptSink
    {
        public void SetLevel(int pin, int level)
        {
            foreach (IInterruptSink? sink in sinks)
            {
                sink?.SetLevel(pin, level);
            }
        }
    }
}
