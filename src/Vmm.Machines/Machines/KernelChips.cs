using Vmm.Devices.I8254;
using Vmm.Devices.I8259;
using Vmm.Devices.IoApic;
using Vmm.EventLoop;
using Vmm.Interop;
using Vmm.Interop.KvmApi;
using Vmm.Kvm;

namespace Vmm.Machines;

/// <summary>State of the controllers and the timer in the kernel, in the form of their migration sections. Home: the main loop, vCPUs stopped.</summary>
internal sealed class KernelChips(KvmAccelerator kvm, Clocks clocks)
{
    private const uint PitHpetLegacy = 1;

    // The kernel counts on the host's monotonic clock, the sections on the machine's virtual one.
    private long ClockOffset => clocks.NowNs(ClockType.Realtime) - clocks.NowNs(ClockType.Virtual);

    public I8259State GetPic(bool master)
    {
        KvmPicState s = Read(Chip(master)).pic;
        return new I8259State
        {
            LastLevels = s.last_irr,
            Irr = s.irr,
            Imr = s.imr,
            Isr = s.isr,
            LowestPriority = s.priority_add,
            VectorBase = s.irq_base,
            ReadIsr = s.read_reg_select,
            Poll = s.poll,
            SpecialMask = s.special_mask,
            InitState = s.init_state,
            AutoEoi = s.auto_eoi,
            RotateOnAutoEoi = s.rotate_on_auto_eoi,
            FullyNested = s.special_fully_nested_mode,
            NeedsIcw4 = s.init4,
            Elcr = s.elcr,
        };
    }

    public void SetPic(bool master, I8259State s)
    {
        KvmIrqchip chip = Read(Chip(master));
        chip.pic.last_irr = s.LastLevels;
        chip.pic.irr = s.Irr;
        chip.pic.imr = s.Imr;
        chip.pic.isr = s.Isr;
        chip.pic.priority_add = s.LowestPriority;
        chip.pic.irq_base = s.VectorBase;
        chip.pic.read_reg_select = s.ReadIsr;
        chip.pic.poll = s.Poll;
        chip.pic.special_mask = s.SpecialMask;
        chip.pic.init_state = s.InitState;
        chip.pic.auto_eoi = s.AutoEoi;
        chip.pic.rotate_on_auto_eoi = s.RotateOnAutoEoi;
        chip.pic.special_fully_nested_mode = s.FullyNested;
        chip.pic.init4 = s.NeedsIcw4;
        chip.pic.elcr = s.Elcr;
        Check(kvm.Vm.SetIrqchip(chip), "KVM_SET_IRQCHIP");
    }

    public IoApicState GetIoApic()
    {
        KvmIoapicState s = Read(KvmUapi.KVM_IRQCHIP_IOAPIC).ioapic;
        ulong[] entries = new ulong[IoApicDevice.Pins];
        for (int i = 0; i < entries.Length; i++)
        {
            entries[i] = s.redirtbl[i];
        }

        return new IoApicState { Id = (byte)s.id, Select = (byte)s.ioregsel, Irr = s.irr, Entries = entries };
    }

    public void SetIoApic(IoApicState s)
    {
        KvmIrqchip chip = Read(KvmUapi.KVM_IRQCHIP_IOAPIC);
        chip.ioapic.id = s.Id;
        chip.ioapic.ioregsel = s.Select;
        chip.ioapic.irr = s.Irr;
        for (int i = 0; i < s.Entries.Length; i++)
        {
            chip.ioapic.redirtbl[i] = s.Entries[i];
        }

        Check(kvm.Vm.SetIrqchip(chip), "KVM_SET_IRQCHIP");
    }

    public I8254State GetPit()
    {
        Check(kvm.Vm.GetPit2(out KvmPitState2 s), "KVM_GET_PIT2");
        long offset = ClockOffset;
        var channels = new PitChannelState[3];
        for (int i = 0; i < channels.Length; i++)
        {
            KvmPitChannelState c = s.channels[i];
            channels[i] = new PitChannelState
            {
                Count = (int)c.count,
                LatchedCount = c.latched_count,
                CountLatched = c.count_latched,
                StatusLatched = c.status_latched,
                Status = c.status,
                ReadState = c.read_state,
                WriteState = c.write_state,
                WriteLatch = c.write_latch,
                AccessMode = c.rw_mode,
                Mode = c.mode,
                Bcd = c.bcd,
                Gate = c.gate,
                LoadTimeNs = c.count_load_time - offset,
            };
        }

        return new I8254State { IrqDisabled = s.flags & PitHpetLegacy, Channels = channels };
    }

    public void SetPit(I8254State s)
    {
        long offset = ClockOffset;
        KvmPitState2 state = default;
        state.flags = s.IrqDisabled != 0 ? PitHpetLegacy : 0;
        for (int i = 0; i < s.Channels.Length; i++)
        {
            PitChannelState c = s.Channels[i];
            state.channels[i] = new KvmPitChannelState
            {
                count = (uint)c.Count,
                latched_count = c.LatchedCount,
                count_latched = c.CountLatched,
                status_latched = c.StatusLatched,
                status = c.Status,
                read_state = c.ReadState,
                write_state = c.WriteState,
                write_latch = c.WriteLatch,
                rw_mode = c.AccessMode,
                mode = c.Mode,
                bcd = c.Bcd,
                gate = c.Gate,
                count_load_time = c.LoadTimeNs + offset,
            };
        }

        Check(kvm.Vm.SetPit2(state), "KVM_SET_PIT2");
    }

    public void SetPitReinject(bool reinject) => kvm.SetPitReinject(reinject);

    private static uint Chip(bool master) => master ? KvmUapi.KVM_IRQCHIP_PIC_MASTER : KvmUapi.KVM_IRQCHIP_PIC_SLAVE;

    // The kernel takes and gives a whole chip or refuses the call itself: a failure here is a broken invariant.
    private static void Check(Errno errno, string call)
    {
        if (errno != Errno.OK)
        {
            throw new InvalidOperationException($"{call} failed: {errno.Message()}");
        }
    }

    private KvmIrqchip Read(uint chip)
    {
        Check(kvm.Vm.GetIrqchip(chip, out KvmIrqchip state), "KVM_GET_IRQCHIP");
        state.chip_id = chip;
        return state;
    }
}
