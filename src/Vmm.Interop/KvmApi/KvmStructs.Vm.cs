using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Vmm.Interop.KvmApi;

/// <summary>struct kvm_userspace_memory_region; a memory_size of 0 deletes the slot.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct KvmUserspaceMemoryRegion
{
    public uint slot, flags;
    public ulong guest_phys_addr, memory_size, userspace_addr;
}

/// <summary>struct kvm_pic_state: one of the two 8259s.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct KvmPicState
{
    public byte last_irr, irr, imr, isr, priority_add, irq_base, read_reg_select, poll, special_mask, init_state, auto_eoi,
        rotate_on_auto_eoi, special_fully_nested_mode, init4, elcr, elcr_mask;
}

/// <summary>struct kvm_ioapic_state; redirection entries as the guest sees them.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct KvmIoapicState
{
    public ulong base_address;
    public uint ioregsel, id, irr;
    private readonly uint _pad;
    public RedirectionTable redirtbl;

    /// <summary>24 entries.</summary>
    [InlineArray(KvmUapi.KVM_IOAPIC_NUM_PINS)]
    public struct RedirectionTable
    {
        private ulong _first;
    }
}

/// <summary>struct kvm_irqchip: chip_id says which of the overlaid states counts.</summary>
[StructLayout(LayoutKind.Explicit, Size = 520)]
public struct KvmIrqchip
{
    [FieldOffset(0)] public uint chip_id;
    [FieldOffset(8)] public KvmPicState pic;
    [FieldOffset(8)] public KvmIoapicState ioapic;
}

/// <summary>struct kvm_pit_config.</summary>
[StructLayout(LayoutKind.Sequential, Size = 64)]
public struct KvmPitConfig
{
    public uint flags;
}

/// <summary>struct kvm_pit_channel_state.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct KvmPitChannelState
{
    public uint count;
    public ushort latched_count;
    public byte count_latched, status_latched, status, read_state, write_state, write_latch, rw_mode, mode, bcd, gate;
    public long count_load_time;
}

/// <summary>struct kvm_pit_state2.</summary>
[StructLayout(LayoutKind.Sequential, Size = 112)]
public struct KvmPitState2
{
    public ChannelArray channels;
    public uint flags;

    /// <summary>Three channels.</summary>
    [InlineArray(3)]
    public struct ChannelArray
    {
        private KvmPitChannelState _first;
    }
}

/// <summary>struct kvm_reinject_control.</summary>
[StructLayout(LayoutKind.Sequential, Size = 32)]
internal struct KvmReinjectControl
{
    internal byte pit_reinject;
}

/// <summary>struct kvm_irq_level; on return of KVM_IRQ_LINE_STATUS irq holds the delivery status.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct KvmIrqLevel
{
    internal uint irq, level;
}

/// <summary>struct kvm_irq_routing_entry: where a GSI leads.</summary>
[StructLayout(LayoutKind.Explicit, Size = 48)]
public struct KvmIrqRoutingEntry
{
    [FieldOffset(0)] public uint gsi;
    [FieldOffset(4)] public uint type;
    [FieldOffset(8)] public uint flags;
    [FieldOffset(16)] public uint irqchip;
    [FieldOffset(20)] public uint pin;
    [FieldOffset(16)] public uint msi_address_lo;
    [FieldOffset(20)] public uint msi_address_hi;
    [FieldOffset(24)] public uint msi_data;
    [FieldOffset(28)] public uint msi_devid;

    /// <summary>To a pin of an in-kernel controller (KVM_IRQCHIP_*).</summary>
    public static KvmIrqRoutingEntry ToIrqchip(uint gsi, uint chip, uint pin) =>
        new() { gsi = gsi, type = KvmUapi.KVM_IRQ_ROUTING_IRQCHIP, irqchip = chip, pin = pin };

    /// <summary>To a message-signalled interrupt.</summary>
    public static KvmIrqRoutingEntry ToMsi(uint gsi, ulong address, uint data) => new()
    {
        gsi = gsi,
        type = KvmUapi.KVM_IRQ_ROUTING_MSI,
        msi_address_lo = (uint)address,
        msi_address_hi = (uint)(address >> 32),
        msi_data = data,
    };
}

/// <summary>struct kvm_irqfd.</summary>
[StructLayout(LayoutKind.Sequential, Size = 32)]
internal struct KvmIrqfd
{
    internal int fd;
    internal uint gsi, flags;
    internal int resamplefd;
}

/// <summary>struct kvm_ioeventfd.</summary>
[StructLayout(LayoutKind.Sequential, Size = 64)]
internal struct KvmIoeventfd
{
    internal ulong datamatch, addr;
    internal uint len;
    internal int fd;
    internal uint flags;
}

/// <summary>struct kvm_enable_cap.</summary>
[StructLayout(LayoutKind.Sequential, Size = 104)]
internal struct KvmEnableCap
{
    internal uint cap, flags;
    internal KvmU64x4 args;
}

/// <summary>struct kvm_msi.</summary>
[StructLayout(LayoutKind.Sequential, Size = 32)]
internal struct KvmMsi
{
    internal uint address_lo, address_hi, data, flags, devid;
}

/// <summary>struct kvm_clock_data; times in ns.</summary>
[StructLayout(LayoutKind.Sequential, Size = 48)]
public struct KvmClockData
{
    public ulong clock;
    public uint flags;
    private readonly uint _pad0;
    public ulong realtime, host_tsc;
}

/// <summary>struct kvm_dirty_log.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct KvmDirtyLog
{
    internal uint slot, padding1;
    internal nint dirty_bitmap;
}

/// <summary>struct kvm_clear_dirty_log.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct KvmClearDirtyLog
{
    internal uint slot, num_pages;
    internal ulong first_page;
    internal nint dirty_bitmap;
}

/// <summary>struct kvm_create_device.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct KvmCreateDevice
{
    internal uint type, fd, flags;
}

/// <summary>struct kvm_device_attr.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct KvmDeviceAttr
{
    internal uint flags, group;
    internal ulong attr, addr;
}

/// <summary>struct kvm_dirty_gfn: an entry of the dirty ring.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct KvmDirtyGfn
{
    internal uint flags, slot;
    internal ulong offset;
}

/// <summary>struct kvm_stats_header.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct KvmStatsHeader
{
    public uint flags, name_size, num_desc, id_offset, desc_offset, data_offset;
}
