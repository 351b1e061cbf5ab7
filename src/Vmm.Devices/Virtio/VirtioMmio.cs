using System.Numerics;
using Vmm.Devices.SystemBus;
using Vmm.Interop;
using Vmm.Memory;
using Vmm.ObjectModel.Devices;
using Vmm.ObjectModel.Logging;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.Virtio;
using Vmm.ObjectModel.VmState;

namespace Vmm.Devices.Virtio;

/// <summary>
/// Memory-mapped registers of a virtio device (QOM <c>virtio-mmio</c>), legacy or modern. Its state travels in the section of the device.
/// </summary>
/// <remarks>
/// Source: virtio 1.2, 4.2. Home: the machine lock. The interrupt line is a level that is driven on the thread that has used the buffers, without that
/// lock, where the interrupt controller lets it; else on the main loop.
/// </remarks>
[QomType("virtio-mmio", UserCreatable = false)]
[Stateless]
public sealed partial class VirtioMmio : SysBusDevice, IIoHandler, IInterruptOutputs
{
    /// <summary>Bytes of registers.</summary>
    public const ulong RegisterBytes = 0x200;

    private const uint Magic = 0x74726976;
    private const uint Vendor = 0x554d4551;
    private const ulong ConfigOffset = 0x100;
    private const ulong QueueNotify = 0x50;

    private readonly VirtioMmioBus _bus = new();
    private ModernQueue[] _modern = [];
    private readonly uint[] _driverFeatures = new uint[2];
    private readonly Lock _lineGate = new();
    private MemoryRegion? _region;
    private EventFd[] _notifiers = [];
    private uint _deviceFeaturesSelect;
    private uint _driverFeaturesSelect;
    private int _pageShift;
    private bool _hasIoEventFds;

    /// <summary>The place of the device in migration sections.</summary>
    [QomProperty("format_transport_address", Default = "true")]
    public bool FormatTransportAddress { get; set; } = true;

    /// <summary>The registers of virtio 0.9.</summary>
    [QomProperty("force-legacy", Default = "true")]
    public bool IsLegacy { get; set; } = true;

    /// <summary>The kernel passes notifications on without leaving to the process's vCPU thread.</summary>
    [QomProperty("ioeventfd", Default = "true", Description = "on/off")]
    public bool IoEventFd { get; set; } = true;

    /// <summary>Where the board maps the registers.</summary>
    public ulong Address { get; set; }

    /// <summary>Number in the bus's name.</summary>
    public int Number { get; set; }

    /// <summary>Interrupt line; a level.</summary>
    public InterruptLine Irq { get; set; } = new();

    /// <inheritdoc/>
    public IReadOnlyList<InterruptLine> Outputs => [Irq];

    /// <summary>The device; null when the place is empty.</summary>
    public VirtioDevice? Device { get; private set; }

    /// <inheritdoc/>
    public override void DescribePins(Action<string> line) => line("gpio-out \"sysbus-irq\" 1");

    /// <inheritdoc/>
    public override void Reset()
    {
        StopIoEventFds();
        Array.Clear(_modern);
        Array.Clear(_driverFeatures);
        _deviceFeaturesSelect = 0;
        _driverFeaturesSelect = 0;
        _pageShift = 0;
        Lower();
    }

    /// <inheritdoc/>
    public ulong Read(ulong offset, int size)
    {
        if (Device is not { } device)
        {
            return offset switch
            {
                0x00 => Magic,
                0x04 => IsLegacy ? 1u : 2u,
                0x0c => Vendor,
                _ => 0,
            };
        }

        if (offset >= ConfigOffset)
        {
            return device.ReadConfig(offset - ConfigOffset, size);
        }

        if (size != 4)
        {
            MachineLog.Write(LogItems.GuestErrors, $"virtio-mmio: wrong size {size} of a read at {offset:x}");
            return 0;
        }

        switch (offset)
        {
            case 0x00:
                return Magic;
            case 0x04:
                return IsLegacy ? 1u : 2u;
            case 0x08:
                return device.DeviceId;
            case 0x0c:
                return Vendor;
            case 0x10:
                return ReadFeatures(device);
            case 0x34:
                return device.SelectedQueue is null ? 0u : VirtQueue.MaxSize;
            case 0x40 when IsLegacy:
                return (uint)((device.SelectedQueue?.Descriptors ?? 0) >> _pageShift);
            case 0x44 when !IsLegacy:
                return _modern[device.QueueSelect].IsEnabled ? 1u : 0u;
            case 0x60:
                return device.Isr;
            case 0x70:
                return device.Status;
            case 0xb0 or 0xb4:
                return uint.MaxValue;
            case 0xfc when !IsLegacy:
                return device.ConfigGeneration;
            default:
                MachineLog.Write(LogItems.GuestErrors, $"virtio-mmio: bad read at {offset:x}");
                return 0;
        }
    }

    /// <inheritdoc/>
    public void Write(ulong offset, ulong value, int size)
    {
        if (Device is not { } device)
        {
            return;
        }

        if (offset >= ConfigOffset)
        {
            device.WriteConfig(offset - ConfigOffset, value, size);
            return;
        }

        if (size != 4)
        {
            MachineLog.Write(LogItems.GuestErrors, $"virtio-mmio: wrong size {size} of a write at {offset:x}");
            return;
        }

        lock (device.Gate)
        {
            WriteRegister(device, offset, (uint)value);
        }
    }

    /// <summary>The line may be driven on any thread.</summary>
    internal bool IsLineFree => Irq.IsFree;

    /// <summary>Sets the line to what the device's interrupt status says. Machine lock, unless <see cref="IsLineFree"/>.</summary>
    internal void UpdateInterrupt()
    {
        // Who changes the status looks at it here afterwards: the last one in has the last word.
        lock (_lineGate)
        {
            Irq.Set(Device is { Isr: not 0 });
        }
    }

    /// <summary>The device's queues are served by a thread of its own.</summary>
    internal void UseSignal() => (Irq.Sink as IFreeInterruptSink)?.UseSignal(Irq.Pin);

    /// <summary>A device has been put into the place.</summary>
    internal void Plug(VirtioDevice device)
    {
        Device = device;

        // A board has many places and few devices.
        _modern = new ModernQueue[VirtioDevice.MaxQueues];
        if (!IoEventFd)
        {
            return;
        }

        _notifiers = new EventFd[device.Queues.Count];
        for (int i = 0; i < _notifiers.Length; i++)
        {
            _notifiers[i] = EventFd.Create();
        }
    }

    /// <summary>What signals that a queue has new buffers; null without ioeventfd.</summary>
    internal EventFd? NotifierOf(int queue) => queue < _notifiers.Length ? _notifiers[queue] : null;

    /// <summary>The device leaves.</summary>
    internal void Unplug()
    {
        StopIoEventFds();
        Device = null;
        _modern = [];
        foreach (EventFd fd in _notifiers)
        {
            fd.Dispose();
        }

        _notifiers = [];
        Lower();
    }

    /// <inheritdoc/>
    protected override void RealizeDevice()
    {
        if (IoEventFd && Machine.Accelerator.IsQtest)
        {
            IoEventFd = false;
        }

        _region = MapMemory("virtio-mmio", Address, RegisterBytes, this, IoConstraints.Default);
        if (_bus.BusName.Length == 0)
        {
            _bus.BusName = $"virtio-mmio-bus.{Number}";
            AddChildBus(_bus);
        }
    }

    private void Lower()
    {
        lock (_lineGate)
        {
            Irq.Lower();
        }
    }

    private uint ReadFeatures(VirtioDevice device)
    {
        if (IsLegacy)
        {
            return _deviceFeaturesSelect != 0 ? 0 : (uint)device.HostFeatures;
        }

        return _deviceFeaturesSelect != 0 ? (uint)(device.HostFeatures >> 32) : (uint)(device.HostFeatures & ~device.LegacyFeatures);
    }

    private void WriteRegister(VirtioDevice device, ulong offset, uint value)
    {
        ref ModernQueue modern = ref _modern[device.QueueSelect];
        switch (offset)
        {
            case 0x14:
                _deviceFeaturesSelect = value != 0 ? 1u : 0;
                break;
            case 0x20 when IsLegacy:
                if (_driverFeaturesSelect == 0)
                {
                    device.SetGuestFeatures(value);
                }

                break;
            case 0x20:
                _driverFeatures[_driverFeaturesSelect] = value;
                break;
            case 0x24:
                _driverFeaturesSelect = value != 0 ? 1u : 0;
                break;
            case 0x28 when IsLegacy:
                _pageShift = BitOperations.TrailingZeroCount(value) is < 32 and var shift ? shift : 0;
                break;
            case 0x30:
                if (value < VirtioDevice.MaxQueues)
                {
                    device.QueueSelect = (ushort)value;
                }

                break;
            case 0x38:
                device.SelectedQueue?.SetSize(value);
                if (IsLegacy)
                {
                    device.SelectedQueue?.LayOutLegacy();
                }
                else
                {
                    modern.Size = value;
                }

                break;
            case 0x3c when IsLegacy:
                SetAlignment(device.SelectedQueue, value);
                break;
            case 0x40 when IsLegacy:
                if (value == 0)
                {
                    ResetByGuest(device);
                }
                else
                {
                    device.SelectedQueue?.SetLegacyAddress((ulong)value << _pageShift);
                }

                break;
            case 0x44 when !IsLegacy:
                SetReady(device, ref modern, value != 0);
                break;
            case QueueNotify:
                device.Notify(value);
                break;
            case 0x64:
                device.Acknowledge((byte)value);
                UpdateInterrupt();
                break;
            case 0x70:
                WriteStatus(device, (byte)value);
                break;
            case 0x80 when !IsLegacy:
                SetLow(ref modern.Descriptors, value);
                break;
            case 0x84 when !IsLegacy:
                SetHigh(ref modern.Descriptors, value);
                break;
            case 0x90 when !IsLegacy:
                SetLow(ref modern.Available, value);
                break;
            case 0x94 when !IsLegacy:
                SetHigh(ref modern.Available, value);
                break;
            case 0xa0 when !IsLegacy:
                SetLow(ref modern.Used, value);
                break;
            case 0xa4 when !IsLegacy:
                SetHigh(ref modern.Used, value);
                break;
            default:
                MachineLog.Write(LogItems.GuestErrors, $"virtio-mmio: bad write at {offset:x}");
                break;
        }
    }

    private static void SetAlignment(VirtQueue? queue, uint value)
    {
        if (queue is not null && BitOperations.IsPow2(value))
        {
            queue.Alignment = value;
            queue.LayOutLegacy();
        }
    }

    private static void SetReady(VirtioDevice device, ref ModernQueue modern, bool isReady)
    {
        modern.IsEnabled = isReady && device.SelectedQueue is not null;
        if (modern.IsEnabled)
        {
            device.SelectedQueue!.SetSize(modern.Size);
            device.SelectedQueue.SetAddresses(modern.Descriptors, modern.Available, modern.Used);
        }
    }

    private static void SetLow(ref ulong address, uint value) => address = (address & ~0xffff_fffful) | value;

    private static void SetHigh(ref ulong address, uint value) => address = (uint)address | ((ulong)value << 32);

    private void WriteStatus(VirtioDevice device, byte value)
    {
        if ((value & VirtioFeatures.StatusDriverOk) == 0)
        {
            StopIoEventFds();
        }

        if (!IsLegacy && (value & VirtioFeatures.StatusFeaturesOk) != 0)
        {
            device.SetGuestFeatures(((ulong)_driverFeatures[1] << 32) | _driverFeatures[0]);
        }

        if (value == 0)
        {
            ResetByGuest(device);
            return;
        }

        device.SetStatus(value);
        if ((value & VirtioFeatures.StatusDriverOk) != 0)
        {
            StartIoEventFds();
        }
    }

    private void ResetByGuest(VirtioDevice device)
    {
        device.ResetByGuest();
        StopIoEventFds();
        Array.Clear(_modern);
        Array.Clear(_driverFeatures);
        UpdateInterrupt();
    }

    private void StartIoEventFds()
    {
        if (_hasIoEventFds || _notifiers.Length == 0)
        {
            return;
        }

        _hasIoEventFds = true;
        MemoryTransaction.Begin();
        for (int i = 0; i < _notifiers.Length; i++)
        {
            _region!.AddIoEventFd(QueueNotify, 4, (ulong)i, _notifiers[i]);
        }

        MemoryTransaction.Commit();
    }

    private void StopIoEventFds()
    {
        if (!_hasIoEventFds)
        {
            return;
        }

        _hasIoEventFds = false;
        MemoryTransaction.Begin();
        for (int i = 0; i < _notifiers.Length; i++)
        {
            _region!.RemoveIoEventFd(QueueNotify, 4, (ulong)i, _notifiers[i]);
        }

        MemoryTransaction.Commit();

        // What was signalled before goes the ordinary way.
        for (int i = 0; i < _notifiers.Length; i++)
        {
            if (_notifiers[i].Drain() != 0)
            {
                Device?.Notify((uint)i);
            }
        }
    }

    private struct ModernQueue
    {
        public uint Size;
        public ulong Descriptors;
        public ulong Available;
        public ulong Used;
        public bool IsEnabled;
    }
}
