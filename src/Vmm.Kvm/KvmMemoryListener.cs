using Vmm.Interop;
using Vmm.Interop.KvmApi;
using Vmm.Memory;

namespace Vmm.Kvm;

/// <summary>
/// Turns the memory of an address space into memory slots, its event descriptors into ioeventfds, and reads KVM's dirty logs.
/// </summary>
internal sealed class KvmMemoryListener : IMemoryListener
{
    private const int KvmCapReadOnlyMem = 81;
    private const ulong Page = 4096;

    private readonly KvmAccelerator _accelerator;
    private readonly KvmVmFd _vm;
    private readonly Slot?[] _slots;
    private readonly bool _readOnlyMemory;

    public KvmMemoryListener(KvmAccelerator accelerator)
    {
        _accelerator = accelerator;
        _vm = accelerator.Vm;
        int count = _vm.CheckExtension(KvmUapi.KVM_CAP_NR_MEMSLOTS);
        _slots = new Slot?[Math.Min(count == 0 ? 32 : count, 4096)];
        _readOnlyMemory = _vm.CheckExtension(KvmCapReadOnlyMem) != 0;
    }

    public int Priority => 10;

    public bool HasSlot(FlatRange range) => Find(range) is not null;

    public void RegionAdd(FlatRange range)
    {
        if (range.Block is not { } block || !range.ReadsDirectly)
        {
            return;
        }

        bool readOnly = !range.WritesDirectly;
        if (readOnly && !_readOnlyMemory)
        {
            return;
        }

        // Slots consist of whole pages; what is left over at the ends is handled as MMIO.
        ulong start = (range.Start + Page - 1) & ~(Page - 1);
        ulong skipped = start - range.Start;
        ulong last = range.Last - range.Start;
        if (skipped > last)
        {
            return;
        }

        ulong size = (last - skipped + 1) & ~(Page - 1);
        if (size == 0)
        {
            return;
        }

        int index = Array.IndexOf(_slots, null);
        if (index < 0)
        {
            _accelerator.Events.Report("kvm_alloc_slot: no free slot available\n");
            _accelerator.Events.InternalError();
            return;
        }

        var slot = new Slot
        {
            Index = (uint)index,
            Block = block,
            BlockOffset = range.BlockOffset + skipped,
            Start = start,
            Size = size,
            RangeStart = range.Start,
            RangeLast = range.Last,
            Clients = range.DirtyLog,
            Flags = (readOnly ? KvmUapi.KVM_MEM_READONLY : 0) | (range.DirtyLog != 0 ? KvmUapi.KVM_MEM_LOG_DIRTY_PAGES : 0),
        };
        if (Apply(slot, size))
        {
            _slots[index] = slot;
        }
    }

    public void RegionDel(FlatRange range)
    {
        if (Find(range) is not { } slot)
        {
            return;
        }

        Sync(slot);
        Apply(slot, 0);
        _slots[slot.Index] = null;
    }

    public void LogStart(FlatRange range, DirtyClients before, DirtyClients now)
    {
        if (Find(range) is { } slot)
        {
            SetLogging(slot, now);
        }
    }

    public void LogStop(FlatRange range, DirtyClients before, DirtyClients now)
    {
        if (Find(range) is { } slot)
        {
            // What was written before the log stops still counts for clients that stay.
            Sync(slot);
            SetLogging(slot, now);
        }
    }

    public void LogSync(FlatRange range)
    {
        if (Find(range) is { } slot)
        {
            Sync(slot);
        }
    }

    public void IoEventFdAdd(in MappedIoEventFd entry)
    {
        Errno errno = _vm.AssignIoeventfd(entry.Fd.Fd, entry.Address, (uint)entry.Size, entry.DataMatch, pio: false);
        if (errno != Errno.OK)
        {
            _accelerator.Events.Report($"kvm_mem_ioeventfd_add: error adding ioeventfd: {errno.Message()} ({(int)errno})\n");
        }
    }

    public void IoEventFdDel(in MappedIoEventFd entry) =>
        _ = _vm.DeassignIoeventfd(entry.Fd.Fd, entry.Address, (uint)entry.Size, entry.DataMatch, pio: false);

    /// <summary>Empties the dirty rings of all vCPUs into the bitmaps.</summary>
    public void CollectRings()
    {
        bool any = false;
        foreach (KvmVcpu vcpu in _accelerator.KvmVcpus)
        {
            while (vcpu.DirtyRing is { } ring && ring.TryTake(out uint slotAndSpace, out ulong page))
            {
                any = true;
                uint index = slotAndSpace & 0xffff;
                if (index < _slots.Length && _slots[index] is { } slot && page < slot.Size / Page)
                {
                    slot.Block.MarkDirty(slot.BlockOffset + (page * Page), Page, slot.Clients);
                }
            }
        }

        if (any)
        {
            _ = _vm.ResetDirtyRings();
        }
    }

    private static bool Matches(Slot slot, FlatRange range) =>
        slot.RangeStart == range.Start && slot.RangeLast == range.Last && slot.Block == range.Block;

    private Slot? Find(FlatRange range)
    {
        foreach (Slot? slot in _slots)
        {
            if (slot is not null && Matches(slot, range))
            {
                return slot;
            }
        }

        return null;
    }

    private void SetLogging(Slot slot, DirtyClients clients)
    {
        slot.Clients = clients;
        uint flags = clients != DirtyClients.None
            ? slot.Flags | KvmUapi.KVM_MEM_LOG_DIRTY_PAGES
            : slot.Flags & ~KvmUapi.KVM_MEM_LOG_DIRTY_PAGES;
        if (flags != slot.Flags)
        {
            slot.Flags = flags;
            Apply(slot, slot.Size);
        }
    }

    private void Sync(Slot slot)
    {
        if ((slot.Flags & KvmUapi.KVM_MEM_LOG_DIRTY_PAGES) == 0)
        {
            return;
        }

        if (_accelerator.DirtyRingBytes != 0)
        {
            CollectRings();
            return;
        }

        ulong pages = slot.Size / Page;
        ulong[] bitmap = slot.Bitmap ??= new ulong[(pages + 63) / 64];
        if (_vm.GetDirtyLog(slot.Index, bitmap) == Errno.OK)
        {
            slot.Block.MergeDirty(slot.BlockOffset / Page, bitmap, pages, slot.Clients);
        }
    }

    private bool Apply(Slot slot, ulong size)
    {
        var region = new KvmUserspaceMemoryRegion
        {
            slot = slot.Index,
            flags = slot.Flags,
            guest_phys_addr = slot.Start,
            memory_size = size,
            userspace_addr = (ulong)(slot.Block.HostAddress + (nint)slot.BlockOffset),
        };
        Errno errno = _vm.SetUserMemoryRegion(region);
        if (errno != Errno.OK)
        {
            _accelerator.Events.Report(
                $"kvm_set_user_memory_region: KVM_SET_USER_MEMORY_REGION failed, slot={slot.Index}, start=0x{slot.Start:x}, "
                + $"size=0x{size:x}: {errno.Message()}\n");
            _accelerator.Events.InternalError();
            return false;
        }

        return true;
    }

    private sealed class Slot
    {
        public required uint Index { get; init; }

        public required RamBlock Block { get; init; }

        public required ulong BlockOffset { get; init; }

        public required ulong Start { get; init; }

        public required ulong Size { get; init; }

        public required ulong RangeStart { get; init; }

        public required ulong RangeLast { get; init; }

        public uint Flags { get; set; }

        public DirtyClients Clients { get; set; }

        public ulong[]? Bitmap { get; set; }
    }
}

/// <summary>Turns event descriptors of the port space into ioeventfds.</summary>
internal sealed class KvmPortListener(KvmVmFd vm) : IMemoryListener
{
    public void IoEventFdAdd(in MappedIoEventFd entry) =>
        _ = vm.AssignIoeventfd(entry.Fd.Fd, entry.Address, (uint)entry.Size, entry.DataMatch, pio: true);

    public void IoEventFdDel(in MappedIoEventFd entry) =>
        _ = vm.DeassignIoeventfd(entry.Fd.Fd, entry.Address, (uint)entry.Size, entry.DataMatch, pio: true);
}
