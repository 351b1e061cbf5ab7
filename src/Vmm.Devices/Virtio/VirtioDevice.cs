using System.Buffers.Binary;
using Vmm.EventLoop;
using Vmm.Interop;
using Vmm.Memory;
using Vmm.ObjectModel.Devices;
using Vmm.ObjectModel.Logging;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.Virtio;
using Vmm.Qapi;
using Vmm.Qapi.Types;

namespace Vmm.Devices.Virtio;

/// <summary>
/// What virtio devices share: features, status, configuration space, queues (virtio 1.2, chapter 2). Registers belong to the machine lock,
/// queues to <see cref="QueueLoop"/>; <see cref="Gate"/> is between the two, is taken after the machine lock, and nothing that takes the
/// machine lock is called under it from another loop.
/// </summary>
[QomType("virtio-device", Parent = "device", BusType = "virtio-bus")]
public abstract partial class VirtioDevice : Device, IVirtQueueOwner
{
    /// <summary>Most queues of a device.</summary>
    public const int MaxQueues = 1024;

    private const byte QueueInterrupt = 1;
    private const byte ConfigInterrupt = 2;

    private readonly List<VirtQueue> _queues = [];
    private readonly List<BottomHalf> _kicks = [];
    private readonly List<FdWatch> _watches = [];
    private byte[] _config = [];
    private VirtioMmio? _transport;
    private BottomHalf? _interrupt;
    private IDisposable? _stateHandler;
    private int _isr;
    private int _quiesced;
    private int _inFlight;
    private int _epoch;
    private byte _status;
    private volatile bool _isRunning;
    private volatile bool _isBroken;

    /// <summary>Tables of descriptors outside of the ring.</summary>
    [QomProperty("indirect_desc", Default = "true", Description = "on/off")]
    public bool IndirectDescriptors { get; set; } = true;

    /// <summary>Event indices.</summary>
    [QomProperty("event_idx", Default = "true", Description = "on/off")]
    public bool EventIndex { get; set; } = true;

    /// <summary>Interrupt when a queue runs empty.</summary>
    [QomProperty("notify_on_empty", Default = "true", Description = "on/off")]
    public bool NotifyOnEmpty { get; set; } = true;

    /// <summary>Buffers cut anywhere.</summary>
    [QomProperty("any_layout", Default = "true", Description = "on/off")]
    public bool AnyLayout { get; set; } = true;

    /// <summary>Packed rings.</summary>
    [QomProperty("packed", Default = "false", Description = "on/off")]
    public bool Packed { get; set; }

    /// <summary>Number of the device's kind (virtio 1.2, chapter 5).</summary>
    public abstract ushort DeviceId { get; }

    /// <summary>Features offered.</summary>
    public ulong HostFeatures { get; private set; }

    /// <summary>Features offered by the legacy registers only.</summary>
    public virtual ulong LegacyFeatures => 0;

    /// <summary>Features agreed on.</summary>
    public ulong GuestFeatures { get; private set; }

    /// <summary>Status as the driver set it; never 0 while requests from before a reset are under way.</summary>
    public byte Status => _status == 0 && Volatile.Read(ref _inFlight) > 0 ? VirtioFeatures.StatusNeedsReset : _status;

    /// <summary>Interrupt status.</summary>
    public byte Isr => (byte)Volatile.Read(ref _isr);

    /// <summary>Number of the queue that registers are about.</summary>
    public ushort QueueSelect { get; set; }

    /// <summary>The queue that registers are about; null when there is none of that number.</summary>
    public VirtQueue? SelectedQueue => QueueSelect < _queues.Count ? _queues[QueueSelect] : null;

    /// <summary>The queues.</summary>
    public IReadOnlyList<VirtQueue> Queues => _queues;

    /// <summary>Changes whenever the configuration space changed by itself.</summary>
    public byte ConfigGeneration { get; private set; }

    /// <summary>The guest did something from which only a reset helps.</summary>
    public bool IsBroken => _isBroken;

    /// <summary>Lock of queues and registers.</summary>
    internal Lock Gate { get; } = new();

    /// <summary>Machine that the device is plugged into; valid from realize on.</summary>
    protected IMachineServices Machine { get; private set; } = null!;

    /// <summary>The way to the guest.</summary>
    protected VirtioMmio Transport => _transport!;

    /// <summary>Where queues are served.</summary>
    protected EventLoop.EventLoop QueueLoop { get; private set; } = null!;

    /// <summary>Counts resets: what was taken from a queue before is not given back after.</summary>
    protected int Epoch => _epoch;

    /// <summary>The machine runs.</summary>
    protected bool IsRunning => _isRunning;

    /// <summary>Bytes of the configuration space.</summary>
    protected abstract int ConfigBytes { get; }

    /// <inheritdoc/>
    public override void Reset()
    {
        Drain();
        lock (Gate)
        {
            ResetRegisters();
        }

        _interrupt?.Cancel();
        _transport?.UpdateInterrupt();
    }

    /// <summary>The driver resets the device. Machine lock and gate.</summary>
    internal void ResetByGuest() => ResetRegisters();

    /// <summary>The driver's choice of features; what was not offered is left out.</summary>
    internal void SetGuestFeatures(ulong features)
    {
        if ((_status & VirtioFeatures.StatusFeaturesOk) == 0)
        {
            GuestFeatures = features & HostFeatures;
        }
    }

    /// <summary>Sets the status, not to 0.</summary>
    internal void SetStatus(byte status)
    {
        _status = status;
        OnStatus(status);
    }

    /// <summary>The driver has seen interrupts.</summary>
    internal void Acknowledge(byte bits) => Interlocked.And(ref _isr, ~bits);

    /// <summary>Reads the configuration space; all ones outside of it.</summary>
    internal uint ReadConfig(ulong offset, int size)
    {
        if (offset + (ulong)size > (ulong)_config.Length)
        {
            return uint.MaxValue;
        }

        lock (Gate)
        {
            FillConfig(_config);
            ReadOnlySpan<byte> at = _config.AsSpan((int)offset);
            return size switch
            {
                1 => at[0],
                2 => BinaryPrimitives.ReadUInt16LittleEndian(at),
                _ => BinaryPrimitives.ReadUInt32LittleEndian(at),
            };
        }
    }

    /// <summary>Writes the configuration space.</summary>
    internal void WriteConfig(ulong offset, ulong value, int size)
    {
        if (offset + (ulong)size > (ulong)_config.Length)
        {
            return;
        }

        lock (Gate)
        {
            FillConfig(_config);
            for (int i = 0; i < size; i++)
            {
                _config[(int)offset + i] = (byte)(value >> (8 * i));
            }

            ApplyConfig(_config);
        }
    }

    /// <summary>The driver has made buffers available in a queue.</summary>
    internal void Notify(uint queue)
    {
        if (queue < (uint)_kicks.Count)
        {
            _kicks[(int)queue].Schedule();
        }
    }

    /// <summary>The guest is wrong in a way that ends all service until a reset.</summary>
    public void Break(string what)
    {
        if (_isBroken)
        {
            return;
        }

        MachineLog.Write(LogItems.GuestErrors, what);
        _isBroken = true;
        if ((GuestFeatures & VirtioFeatures.Version1) != 0)
        {
            _status |= VirtioFeatures.StatusNeedsReset;
            NotifyConfig();
        }
    }

    /// <summary>A queue has used buffers that the driver wants to know of. Any thread.</summary>
    public void InterruptQueue(int queue) => Interrupt(QueueInterrupt);

    /// <summary>The configuration space has changed. Any thread.</summary>
    protected void NotifyConfig()
    {
        if ((_status & VirtioFeatures.StatusDriverOk) != 0)
        {
            ConfigGeneration++;
            Interrupt(QueueInterrupt | ConfigInterrupt);
        }
    }

    /// <inheritdoc/>
    protected sealed override void Realize(IMachineServices machine)
    {
        Machine = machine;
        QueueLoop = machine.MainLoop;
        _transport = ((VirtioBus)ParentBus!).Transport;
        RealizeDevice();
        HostFeatures = GetFeatures(OfferedFeatures());
        _config = new byte[ConfigBytes];
        GuestMemory memory = new(machine.Memory);
        _queues.ForEach(q => q.Attach(memory));
        _transport.Plug(this);
        _interrupt = machine.MainLoop.CreateBottomHalf(_transport.UpdateInterrupt);
        if (QueueLoop != machine.MainLoop)
        {
            _transport.UseSignal();
        }

        _isRunning = machine.Run.IsRunning;
        _stateHandler = machine.Run.AddVmStateChangeHandler(OnRunStateChange);
        ConnectQueues();
    }

    /// <inheritdoc/>
    protected override void Unrealize()
    {
        Drain();
        _stateHandler?.Dispose();
        _watches.ForEach(static w => w.Dispose());
        _watches.Clear();
        _kicks.ForEach(static k => k.Dispose());
        _kicks.Clear();
        _interrupt?.Dispose();
        _transport?.Unplug();
        UnrealizeDevice();
        _queues.Clear();
    }

    /// <summary>Checks properties, takes back ends, adds queues.</summary>
    protected abstract void RealizeDevice();

    /// <summary>Gives back what <see cref="RealizeDevice"/> took.</summary>
    protected abstract void UnrealizeDevice();

    /// <summary>Adds the device's features to the common ones.</summary>
    protected abstract ulong GetFeatures(ulong common);

    /// <summary>Puts the present values into the configuration space.</summary>
    protected abstract void FillConfig(Span<byte> config);

    /// <summary>The driver has written to the configuration space.</summary>
    protected virtual void ApplyConfig(ReadOnlySpan<byte> config)
    {
    }

    /// <summary>The driver has set the status.</summary>
    protected virtual void OnStatus(byte status)
    {
    }

    /// <summary>The device has been reset; under the gate.</summary>
    protected virtual void OnReset()
    {
    }

    /// <summary>The machine goes on, after it was stopped; on <see cref="QueueLoop"/>, under the gate.</summary>
    protected virtual void OnResume()
    {
    }

    /// <summary>Takes a buffer and begins with it; under the gate, on <see cref="QueueLoop"/>. False when there is none.</summary>
    protected abstract bool ServeOne(VirtQueue queue);

    /// <summary>Adds a queue.</summary>
    protected void AddQueue(int size) => _queues.Add(new VirtQueue(this, _queues.Count, size));

    /// <summary>Serves queues on another loop. Before <see cref="Device.IsRealized"/>.</summary>
    protected void UseLoop(EventLoop.EventLoop loop) => QueueLoop = loop;

    /// <summary>A request begins. Gate.</summary>
    protected void BeginRequest() => Interlocked.Increment(ref _inFlight);

    /// <summary>A request is over. Any thread.</summary>
    protected void EndRequest()
    {
        if (Interlocked.Decrement(ref _inFlight) == 0 && Volatile.Read(ref _quiesced) > 0)
        {
            // Whoever waits for the last one may be asleep.
            Machine.MainLoop.Post(static () => { });
        }
    }

    /// <summary>No new requests until <see cref="Unquiesce"/>; nests.</summary>
    protected void Quiesce() => Interlocked.Increment(ref _quiesced);

    /// <summary>Ends <see cref="Quiesce"/>.</summary>
    protected void Unquiesce()
    {
        if (Interlocked.Decrement(ref _quiesced) == 0)
        {
            KickAll();
        }
    }

    /// <summary>Lets requests that wait for their limits go until what is returned is disposed.</summary>
    protected virtual IDisposable? SuspendLimits() => null;

    /// <summary>Waits on the main loop until no request is under way.</summary>
    protected void Drain()
    {
        Quiesce();
        using IDisposable? limits = SuspendLimits();
        lock (Gate)
        {
            // Who takes buffers on another loop has stopped doing so once the gate is free.
        }

        while (Volatile.Read(ref _inFlight) > 0)
        {
            Machine.MainLoop.RunOnce(block: true);
        }

        Unquiesce();
    }

    private ulong OfferedFeatures() =>
        (IndirectDescriptors ? VirtioFeatures.IndirectDescriptors : 0)
        | (EventIndex ? VirtioFeatures.EventIndex : 0)
        | (NotifyOnEmpty ? VirtioFeatures.NotifyOnEmpty : 0)
        | (AnyLayout ? VirtioFeatures.AnyLayout : 0)
        | (Packed ? VirtioFeatures.PackedRing : 0)
        | (Transport.IsLegacy ? 0 : VirtioFeatures.Version1);

    private void ConnectQueues()
    {
        foreach (VirtQueue queue in _queues)
        {
            _kicks.Add(QueueLoop.CreateBottomHalf(() => Serve(queue)));
            if (Transport.NotifierOf(queue.Index) is { } notifier)
            {
                _watches.Add(QueueLoop.Watch(notifier.Fd, FdEvents.Readable, _ => OnNotifier(notifier, queue)));
            }
        }
    }

    private void OnNotifier(EventFd notifier, VirtQueue queue)
    {
        if (notifier.Drain() != 0)
        {
            Serve(queue);
        }
    }

    private bool CanServe => _isRunning && !_isBroken && Volatile.Read(ref _quiesced) == 0;

    private void Serve(VirtQueue queue)
    {
        lock (Gate)
        {
            if (!CanServe)
            {
                return;
            }

            do
            {
                queue.SetNotification(false);
                while (CanServe && ServeOne(queue))
                {
                }

                queue.SetNotification(true);
            }
            while (CanServe && !queue.IsEmpty);
        }
    }

    private void KickAll() => _kicks.ForEach(static k => k.Schedule());

    private void OnRunStateChange(bool running, RunState state)
    {
        _isRunning = running;
        if (!running)
        {
            Drain();
            return;
        }

        QueueLoop.RunOrPost(Resume);
        KickAll();
    }

    private void Resume()
    {
        lock (Gate)
        {
            OnResume();
        }
    }

    private void ResetRegisters()
    {
        _epoch++;
        _status = 0;
        GuestFeatures = 0;
        QueueSelect = 0;
        _isBroken = false;
        Volatile.Write(ref _isr, 0);
        _queues.ForEach(static q => q.Reset());
        OnReset();
    }

    private void Interrupt(int bits)
    {
        Interlocked.Or(ref _isr, bits);
        if (Transport.IsLineFree || Machine.Lock.IsHeldByCurrentThread)
        {
            Transport.UpdateInterrupt();
        }
        else
        {
            _interrupt!.Schedule();
        }
    }
}
