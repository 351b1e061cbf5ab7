using Vmm.Interop;
using Vmm.Interop.KvmApi;

namespace Vmm.Kvm;

/// <summary>
/// The VM's table from GSI to interrupt controller pin or message, and the event descriptors that raise GSIs. Usable from any thread.
/// </summary>
public sealed class KvmIrqRouting
{
    private readonly KvmVmFd _vm;
    private readonly List<KvmIrqRoutingEntry> _entries = [];
    private readonly Lock _lock = new();
    private readonly int _gsiCount;
    private bool[] _used;

    internal KvmIrqRouting(KvmVmFd vm)
    {
        _vm = vm;
        _gsiCount = Math.Max(vm.CheckExtension(KvmUapi.KVM_CAP_IRQ_ROUTING), 24);
        _used = new bool[Math.Min(_gsiCount, 64)];
    }

    /// <summary>Adds a route from a GSI to a pin of an in-kernel controller; takes effect with <see cref="Commit"/>.</summary>
    public void AddPin(uint gsi, uint chip, uint pin)
    {
        lock (_lock)
        {
            _entries.Add(KvmIrqRoutingEntry.ToIrqchip(gsi, chip, pin));
            Reserve((int)gsi);
        }
    }

    /// <summary>Keeps GSIs 0 to <paramref name="count"/>-1 for the machine's interrupt controllers.</summary>
    public void ReserveLow(int count)
    {
        lock (_lock)
        {
            for (int gsi = 0; gsi < count; gsi++)
            {
                Reserve(gsi);
            }
        }
    }

    /// <summary>
    /// Sets the message of a GSI that the machine's own controllers have. The kernel is not called when that changes nothing.
    /// </summary>
    public Errno SetReserved(uint gsi, ulong address, uint data)
    {
        lock (_lock)
        {
            int i = IndexOf((int)gsi);
            KvmIrqRoutingEntry entry = KvmIrqRoutingEntry.ToMsi(gsi, address, data);
            if (i < 0)
            {
                _entries.Add(entry);
            }
            else if (Same(_entries[i], entry))
            {
                return Errno.OK;
            }
            else
            {
                _entries[i] = entry;
            }

            return CommitLocked();
        }
    }

    /// <summary>Takes a free GSI for a message; -1 when there is none or the kernel refuses.</summary>
    public int AddMsi(ulong address, uint data)
    {
        lock (_lock)
        {
            int gsi = 24;
            while (gsi < _used.Length && _used[gsi])
            {
                gsi++;
            }

            if (gsi >= _gsiCount)
            {
                return -1;
            }

            _entries.Add(KvmIrqRoutingEntry.ToMsi((uint)gsi, address, data));
            if (CommitLocked() != Errno.OK)
            {
                _entries.RemoveAt(_entries.Count - 1);
                return -1;
            }

            Reserve(gsi);
            return gsi;
        }
    }

    /// <summary>Changes the message of a GSI.</summary>
    public Errno UpdateMsi(int gsi, ulong address, uint data)
    {
        lock (_lock)
        {
            int i = IndexOf(gsi);
            if (i < 0)
            {
                return Errno.ENOENT;
            }

            _entries[i] = KvmIrqRoutingEntry.ToMsi((uint)gsi, address, data);
            return CommitLocked();
        }
    }

    /// <summary>Gives a GSI from <see cref="AddMsi"/> back.</summary>
    public void ReleaseMsi(int gsi)
    {
        lock (_lock)
        {
            int i = IndexOf(gsi);
            if (i >= 0)
            {
                _entries.RemoveAt(i);
                _used[gsi] = false;
                CommitLocked();
            }
        }
    }

    /// <summary>Makes added routes effective.</summary>
    public Errno Commit()
    {
        lock (_lock)
        {
            return CommitLocked();
        }
    }

    /// <summary>
    /// Raises <paramref name="gsi"/> whenever <paramref name="trigger"/> is signalled; with <paramref name="resample"/> the GSI is
    /// level-triggered and that descriptor is signalled at the guest's end of interrupt.
    /// </summary>
    public Errno AttachIrqFd(EventFd trigger, int gsi, EventFd? resample = null) => resample is null
        ? _vm.AssignIrqfd(trigger.Fd, (uint)gsi)
        : _vm.AssignResampleIrqfd(trigger.Fd, (uint)gsi, resample.Fd);

    /// <summary>Undoes <see cref="AttachIrqFd"/>.</summary>
    public Errno DetachIrqFd(EventFd trigger, int gsi) => _vm.DeassignIrqfd(trigger.Fd, (uint)gsi);

    private static bool Same(in KvmIrqRoutingEntry a, in KvmIrqRoutingEntry b) =>
        a.msi_address_lo == b.msi_address_lo && a.msi_address_hi == b.msi_address_hi && a.msi_data == b.msi_data;

    private int IndexOf(int gsi) => _entries.FindIndex(e => e.gsi == gsi && e.type == KvmUapi.KVM_IRQ_ROUTING_MSI);

    private void Reserve(int gsi)
    {
        if (gsi >= _used.Length)
        {
            Array.Resize(ref _used, Math.Min(_gsiCount, gsi * 2));
        }

        _used[gsi] = true;
    }

    private Errno CommitLocked() => _vm.SetGsiRouting(global::System.Runtime.InteropServices.CollectionsMarshal.AsSpan(_entries));
}
