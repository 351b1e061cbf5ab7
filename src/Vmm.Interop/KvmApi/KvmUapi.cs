namespace Vmm.Interop.KvmApi;

/// <summary>Constants of linux/kvm.h and x86's asm/kvm.h, in their native spelling (Documentation/virt/kvm/api.rst).</summary>
public static class KvmUapi
{
    public const int KVM_API_VERSION = 12;

    // Capabilities (KVM_CHECK_EXTENSION, KVM_ENABLE_CAP).
    public const int KVM_CAP_IRQCHIP = 0;
    public const int KVM_CAP_HLT = 1;
    public const int KVM_CAP_MMU_SHADOW_CACHE_CONTROL = 2;
    public const int KVM_CAP_USER_MEMORY = 3;
    public const int KVM_CAP_SET_TSS_ADDR = 4;
    public const int KVM_CAP_VAPIC = 6;
    public const int KVM_CAP_EXT_CPUID = 7;
    public const int KVM_CAP_CLOCKSOURCE = 8;
    public const int KVM_CAP_NR_VCPUS = 9;
    public const int KVM_CAP_NR_MEMSLOTS = 10;
    public const int KVM_CAP_PIT = 11;
    public const int KVM_CAP_NOP_IO_DELAY = 12;
    public const int KVM_CAP_PV_MMU = 13;
    public const int KVM_CAP_MP_STATE = 14;
    public const int KVM_CAP_COALESCED_MMIO = 15;
    public const int KVM_CAP_SYNC_MMU = 16;
    public const int KVM_CAP_IOMMU = 18;
    public const int KVM_CAP_DESTROY_MEMORY_REGION_WORKS = 21;
    public const int KVM_CAP_USER_NMI = 22;
    public const int KVM_CAP_SET_GUEST_DEBUG = 23;
    public const int KVM_CAP_REINJECT_CONTROL = 24;
    public const int KVM_CAP_IRQ_ROUTING = 25;
    public const int KVM_CAP_IRQ_INJECT_STATUS = 26;
    public const int KVM_CAP_ASSIGN_DEV_IRQ = 29;
    public const int KVM_CAP_JOIN_MEMORY_REGIONS_WORKS = 30;
    public const int KVM_CAP_MCE = 31;
    public const int KVM_CAP_IRQFD = 32;
    public const int KVM_CAP_PIT2 = 33;
    public const int KVM_CAP_SET_BOOT_CPU_ID = 34;
    public const int KVM_CAP_PIT_STATE2 = 35;
    public const int KVM_CAP_IOEVENTFD = 36;
    public const int KVM_CAP_SET_IDENTITY_MAP_ADDR = 37;
    public const int KVM_CAP_XEN_HVM = 38;
    public const int KVM_CAP_ADJUST_CLOCK = 39;
    public const int KVM_CAP_INTERNAL_ERROR_DATA = 40;
    public const int KVM_CAP_VCPU_EVENTS = 41;
    public const int KVM_CAP_HYPERV = 44;
    public const int KVM_CAP_HYPERV_VAPIC = 45;
    public const int KVM_CAP_HYPERV_SPIN = 46;
    public const int KVM_CAP_PCI_SEGMENT = 47;
    public const int KVM_CAP_INTR_SHADOW = 49;
    public const int KVM_CAP_DEBUGREGS = 50;
    public const int KVM_CAP_X86_ROBUST_SINGLESTEP = 51;
    public const int KVM_CAP_ENABLE_CAP = 54;
    public const int KVM_CAP_XSAVE = 55;
    public const int KVM_CAP_XCRS = 56;
    public const int KVM_CAP_ASYNC_PF = 59;
    public const int KVM_CAP_TSC_CONTROL = 60;
    public const int KVM_CAP_GET_TSC_KHZ = 61;
    public const int KVM_CAP_MAX_VCPUS = 66;
    public const int KVM_CAP_TSC_DEADLINE_TIMER = 72;
    public const int KVM_CAP_SYNC_REGS = 74;
    public const int KVM_CAP_PCI_2_3 = 75;
    public const int KVM_CAP_KVMCLOCK_CTRL = 76;
    public const int KVM_CAP_SIGNAL_MSI = 77;
    public const int KVM_CAP_READONLY_MEM = 81;
    public const int KVM_CAP_IRQFD_RESAMPLE = 82;
    public const int KVM_CAP_DEVICE_CTRL = 89;
    public const int KVM_CAP_EXT_EMUL_CPUID = 95;
    public const int KVM_CAP_HYPERV_TIME = 96;
    public const int KVM_CAP_IOAPIC_POLARITY_IGNORED = 97;
    public const int KVM_CAP_ENABLE_CAP_VM = 98;
    public const int KVM_CAP_IOEVENTFD_NO_LENGTH = 100;
    public const int KVM_CAP_VM_ATTRIBUTES = 101;
    public const int KVM_CAP_CHECK_EXTENSION_VM = 105;
    public const int KVM_CAP_DISABLE_QUIRKS = 116;
    public const int KVM_CAP_X86_SMM = 117;
    public const int KVM_CAP_MULTI_ADDRESS_SPACE = 118;
    public const int KVM_CAP_GUEST_DEBUG_HW_BPS = 119;
    public const int KVM_CAP_GUEST_DEBUG_HW_WPS = 120;
    public const int KVM_CAP_SPLIT_IRQCHIP = 121;
    public const int KVM_CAP_IOEVENTFD_ANY_LENGTH = 122;
    public const int KVM_CAP_HYPERV_SYNIC = 123;
    public const int KVM_CAP_VCPU_ATTRIBUTES = 127;
    public const int KVM_CAP_MAX_VCPU_ID = 128;
    public const int KVM_CAP_X2APIC_API = 129;
    public const int KVM_CAP_IMMEDIATE_EXIT = 136;
    public const int KVM_CAP_X86_DISABLE_EXITS = 143;
    public const int KVM_CAP_HYPERV_SYNIC2 = 148;
    public const int KVM_CAP_HYPERV_VP_INDEX = 149;
    public const int KVM_CAP_GET_MSR_FEATURES = 153;
    public const int KVM_CAP_HYPERV_TLBFLUSH = 155;
    public const int KVM_CAP_NESTED_STATE = 157;
    public const int KVM_CAP_MSR_PLATFORM_INFO = 159;
    public const int KVM_CAP_HYPERV_SEND_IPI = 161;
    public const int KVM_CAP_COALESCED_PIO = 162;
    public const int KVM_CAP_EXCEPTION_PAYLOAD = 164;
    public const int KVM_CAP_MANUAL_DIRTY_LOG_PROTECT = 166;
    public const int KVM_CAP_HYPERV_CPUID = 167;
    public const int KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 = 168;
    public const int KVM_CAP_PMU_EVENT_FILTER = 173;
    public const int KVM_CAP_HYPERV_DIRECT_TLBFLUSH = 175;
    public const int KVM_CAP_HALT_POLL = 182;
    public const int KVM_CAP_ASYNC_PF_INT = 183;
    public const int KVM_CAP_LAST_CPU = 184;
    public const int KVM_CAP_SMALLER_MAXPHYADDR = 185;
    public const int KVM_CAP_X86_USER_SPACE_MSR = 188;
    public const int KVM_CAP_X86_MSR_FILTER = 189;
    public const int KVM_CAP_ENFORCE_PV_FEATURE_CPUID = 190;
    public const int KVM_CAP_SYS_HYPERV_CPUID = 191;
    public const int KVM_CAP_DIRTY_LOG_RING = 192;
    public const int KVM_CAP_X86_BUS_LOCK_EXIT = 193;
    public const int KVM_CAP_SET_GUEST_DEBUG2 = 195;
    public const int KVM_CAP_VM_COPY_ENC_CONTEXT_FROM = 197;
    public const int KVM_CAP_SREGS2 = 200;
    public const int KVM_CAP_EXIT_HYPERCALL = 201;
    public const int KVM_CAP_BINARY_STATS_FD = 203;
    public const int KVM_CAP_EXIT_ON_EMULATION_FAILURE = 204;
    public const int KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM = 206;
    public const int KVM_CAP_VM_GPA_BITS = 207;
    public const int KVM_CAP_XSAVE2 = 208;
    public const int KVM_CAP_SYS_ATTRIBUTES = 209;
    public const int KVM_CAP_PMU_CAPABILITY = 212;
    public const int KVM_CAP_DISABLE_QUIRKS2 = 213;
    public const int KVM_CAP_VM_TSC_CONTROL = 214;
    public const int KVM_CAP_SYSTEM_EVENT_DATA = 215;
    public const int KVM_CAP_X86_TRIPLE_FAULT_EVENT = 218;
    public const int KVM_CAP_X86_NOTIFY_VMEXIT = 219;
    public const int KVM_CAP_VM_DISABLE_NX_HUGE_PAGES = 220;
    public const int KVM_CAP_DIRTY_LOG_RING_ACQ_REL = 223;

    // Reasons for KVM_RUN to return.
    public const int KVM_EXIT_UNKNOWN = 0;
    public const int KVM_EXIT_EXCEPTION = 1;
    public const int KVM_EXIT_IO = 2;
    public const int KVM_EXIT_HYPERCALL = 3;
    public const int KVM_EXIT_DEBUG = 4;
    public const int KVM_EXIT_HLT = 5;
    public const int KVM_EXIT_MMIO = 6;
    public const int KVM_EXIT_IRQ_WINDOW_OPEN = 7;
    public const int KVM_EXIT_SHUTDOWN = 8;
    public const int KVM_EXIT_FAIL_ENTRY = 9;
    public const int KVM_EXIT_INTR = 10;
    public const int KVM_EXIT_SET_TPR = 11;
    public const int KVM_EXIT_TPR_ACCESS = 12;
    public const int KVM_EXIT_NMI = 16;
    public const int KVM_EXIT_INTERNAL_ERROR = 17;
    public const int KVM_EXIT_WATCHDOG = 21;
    public const int KVM_EXIT_SYSTEM_EVENT = 24;
    public const int KVM_EXIT_IOAPIC_EOI = 26;
    public const int KVM_EXIT_HYPERV = 27;
    public const int KVM_EXIT_X86_RDMSR = 29;
    public const int KVM_EXIT_X86_WRMSR = 30;
    public const int KVM_EXIT_DIRTY_RING_FULL = 31;
    public const int KVM_EXIT_AP_RESET_HOLD = 32;
    public const int KVM_EXIT_X86_BUS_LOCK = 33;
    public const int KVM_EXIT_XEN = 34;
    public const int KVM_EXIT_NOTIFY = 37;

    public const int KVM_EXIT_IO_IN = 0;
    public const int KVM_EXIT_IO_OUT = 1;

    // KVM_EXIT_INTERNAL_ERROR sub-reasons.
    public const int KVM_INTERNAL_ERROR_EMULATION = 1;
    public const int KVM_INTERNAL_ERROR_SIMUL_EX = 2;
    public const int KVM_INTERNAL_ERROR_DELIVERY_EV = 3;
    public const int KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON = 4;

    // KVM_EXIT_SYSTEM_EVENT types.
    public const int KVM_SYSTEM_EVENT_SHUTDOWN = 1;
    public const int KVM_SYSTEM_EVENT_RESET = 2;
    public const int KVM_SYSTEM_EVENT_CRASH = 3;
    public const int KVM_SYSTEM_EVENT_WAKEUP = 4;
    public const int KVM_SYSTEM_EVENT_SUSPEND = 5;

    // kvm_run.flags.
    public const ushort KVM_RUN_X86_SMM = 1;
    public const ushort KVM_RUN_X86_BUS_LOCK = 2;

    // Memory slot flags.
    public const uint KVM_MEM_LOG_DIRTY_PAGES = 1;
    public const uint KVM_MEM_READONLY = 2;

    // Interrupt controllers.
    public const uint KVM_IRQCHIP_PIC_MASTER = 0;
    public const uint KVM_IRQCHIP_PIC_SLAVE = 1;
    public const uint KVM_IRQCHIP_IOAPIC = 2;
    public const int KVM_IOAPIC_NUM_PINS = 24;
    public const uint KVM_IRQ_ROUTING_IRQCHIP = 1;
    public const uint KVM_IRQ_ROUTING_MSI = 2;
    public const uint KVM_IRQFD_FLAG_DEASSIGN = 1;
    public const uint KVM_IRQFD_FLAG_RESAMPLE = 2;
    public const uint KVM_IOEVENTFD_FLAG_DATAMATCH = 1;
    public const uint KVM_IOEVENTFD_FLAG_PIO = 2;
    public const uint KVM_IOEVENTFD_FLAG_DEASSIGN = 4;
    public const uint KVM_PIT_SPEAKER_DUMMY = 1;
    public const uint KVM_PIT_FLAGS_HPET_LEGACY = 1;
    public const uint KVM_PIT_FLAGS_SPEAKER_DATA_ON = 2;

    // KVM_CAP_X86_DISABLE_EXITS.
    public const ulong KVM_X86_DISABLE_EXITS_MWAIT = 1;
    public const ulong KVM_X86_DISABLE_EXITS_HLT = 2;
    public const ulong KVM_X86_DISABLE_EXITS_PAUSE = 4;
    public const ulong KVM_X86_DISABLE_EXITS_CSTATE = 8;

    // KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2.
    public const ulong KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE = 1;
    public const ulong KVM_DIRTY_LOG_INITIALLY_SET = 2;
    public const int KVM_DIRTY_LOG_PAGE_OFFSET = 64;
    public const uint KVM_DIRTY_GFN_F_DIRTY = 1;
    public const uint KVM_DIRTY_GFN_F_RESET = 2;

    // KVM_CAP_X2APIC_API.
    public const ulong KVM_X2APIC_API_USE_32BIT_IDS = 1;
    public const ulong KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK = 2;

    // KVM_CAP_X86_USER_SPACE_MSR, and why an MSR exit happened.
    public const uint KVM_MSR_EXIT_REASON_INVAL = 1;
    public const uint KVM_MSR_EXIT_REASON_UNKNOWN = 2;
    public const uint KVM_MSR_EXIT_REASON_FILTER = 4;

    public const ulong KVM_BUS_LOCK_DETECTION_OFF = 1;
    public const ulong KVM_BUS_LOCK_DETECTION_EXIT = 2;
    public const ulong KVM_X86_NOTIFY_VMEXIT_ENABLED = 1;
    public const ulong KVM_X86_NOTIFY_VMEXIT_USER = 2;
    public const uint KVM_NOTIFY_CONTEXT_INVALID = 1;

    // vCPU multiprocessor states.
    public const uint KVM_MP_STATE_RUNNABLE = 0;
    public const uint KVM_MP_STATE_UNINITIALIZED = 1;
    public const uint KVM_MP_STATE_INIT_RECEIVED = 2;
    public const uint KVM_MP_STATE_HALTED = 3;
    public const uint KVM_MP_STATE_SIPI_RECEIVED = 4;

    // kvm_vcpu_events.flags and shadow.
    public const uint KVM_VCPUEVENT_VALID_NMI_PENDING = 1;
    public const uint KVM_VCPUEVENT_VALID_SIPI_VECTOR = 2;
    public const uint KVM_VCPUEVENT_VALID_SHADOW = 4;
    public const uint KVM_VCPUEVENT_VALID_SMM = 8;
    public const uint KVM_VCPUEVENT_VALID_PAYLOAD = 16;
    public const uint KVM_VCPUEVENT_VALID_TRIPLE_FAULT = 32;
    public const byte KVM_X86_SHADOW_INT_MOV_SS = 1;
    public const byte KVM_X86_SHADOW_INT_STI = 2;

    public const uint KVM_CPUID_FLAG_SIGNIFCANT_INDEX = 1;
    public const uint KVM_CPUID_FLAG_STATEFUL_FUNC = 2;
    public const uint KVM_CPUID_FLAG_STATE_READ_NEXT = 4;

    public const uint KVM_GUESTDBG_ENABLE = 1;
    public const uint KVM_GUESTDBG_SINGLESTEP = 2;
    public const uint KVM_GUESTDBG_USE_SW_BP = 0x10000;
    public const uint KVM_GUESTDBG_USE_HW_BP = 0x20000;
    public const uint KVM_GUESTDBG_INJECT_DB = 0x40000;
    public const uint KVM_GUESTDBG_INJECT_BP = 0x80000;
    public const uint KVM_GUESTDBG_BLOCKIRQ = 0x100000;

    public const ulong KVM_SREGS2_FLAGS_PDPTRS_VALID = 1;
    public const uint KVM_CLOCK_TSC_STABLE = 2;
    public const uint KVM_CLOCK_REALTIME = 4;
    public const uint KVM_CLOCK_HOST_TSC = 8;

    public const ulong KVM_X86_QUIRK_LINT0_REENABLED = 1;
    public const ulong KVM_X86_QUIRK_CD_NW_CLEARED = 2;
    public const ulong KVM_X86_QUIRK_LAPIC_MMIO_HOLE = 4;

    // Binary statistics: descriptor flags.
    public const uint KVM_STATS_TYPE_MASK = 0xF;
    public const uint KVM_STATS_TYPE_CUMULATIVE = 0;
    public const uint KVM_STATS_TYPE_INSTANT = 1;
    public const uint KVM_STATS_TYPE_PEAK = 2;
    public const uint KVM_STATS_TYPE_LINEAR_HIST = 3;
    public const uint KVM_STATS_TYPE_LOG_HIST = 4;
    public const uint KVM_STATS_UNIT_MASK = 0xF0;
    public const uint KVM_STATS_UNIT_NONE = 0;
    public const uint KVM_STATS_UNIT_BYTES = 0x10;
    public const uint KVM_STATS_UNIT_SECONDS = 0x20;
    public const uint KVM_STATS_UNIT_CYCLES = 0x30;
    public const uint KVM_STATS_UNIT_BOOLEAN = 0x40;
    public const uint KVM_STATS_BASE_MASK = 0xF00;
    public const uint KVM_STATS_BASE_POW10 = 0;
    public const uint KVM_STATS_BASE_POW2 = 0x100;
}
