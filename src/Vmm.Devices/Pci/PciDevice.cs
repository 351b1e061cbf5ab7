using System.Buffers.Binary;
using Vmm.Memory;
using Vmm.ObjectModel.Devices;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.Devices.Pci;

/// <summary>
/// A PCI function: configuration space with its write rules, base address registers, INTx. Derived devices set the header in
/// their constructor and register BARs in <see cref="RealizeDevice"/>.
/// </summary>
/// <remarks>Source: PCI Local Bus Specification 3.0. Home: the machine lock.</remarks>
[QomType("pci-device", Parent = "device", BusType = "PCI")]
public abstract partial class PciDevice : Device
{
    /// <summary>No address asked for.</summary>
    public const int AutomaticAddress = -1;

    private const int IntPins = 4;

    private readonly PciBar?[] _bars = new PciBar?[7];
    private readonly MappedRegions _regions = new();
    private byte _irqLevels;

    /// <summary>Sets what all functions have in common.</summary>
    protected PciDevice()
    {
        WriteMask.AsSpan(PciConfig.HeaderSize).Fill(0xff);
        WriteMask[PciConfig.CacheLineSize] = 0xff;
        WriteMask[PciConfig.InterruptLine] = 0xff;
        SetWord(
            WriteMask,
            PciConfig.Command,
            PciConfig.CommandIo | PciConfig.CommandMemory | PciConfig.CommandMaster | PciConfig.CommandSerr | PciConfig.CommandInterruptDisable);
        SetWord(Write1ClearMask, PciConfig.Status, PciConfig.StatusWriteOneToClear);
        SetWord(Config, PciConfig.SubsystemVendorId, PciConfig.SubsystemVendorQumranet);
        SetWord(Config, PciConfig.SubsystemId, PciConfig.SubsystemQemu);
    }

    /// <summary>Slot and function, 8 * slot + function; <see cref="AutomaticAddress"/> for the first free slot.</summary>
    public int Address { get; set; } = AutomaticAddress;

    /// <summary>Function 0 announces further functions.</summary>
    public bool IsMultifunction { get; set; }

    /// <summary>Configuration space as the guest reads it.</summary>
    public byte[] Config { get; } = new byte[PciConfig.Size];

    /// <summary>Bits that the guest may write.</summary>
    public byte[] WriteMask { get; } = new byte[PciConfig.Size];

    /// <summary>Bits that are cleared by writing ones.</summary>
    public byte[] Write1ClearMask { get; } = new byte[PciConfig.Size];

    /// <summary>The bus as PCI bus.</summary>
    public PciBus Bus => (PciBus)ParentBus!;

    /// <summary>Slot number.</summary>
    public int Slot => Address >> 3;

    /// <summary>Function number.</summary>
    public int Function => Address & 7;

    /// <summary>Machine that the device is plugged into; valid from realize on.</summary>
    protected IMachineServices Machine { get; private set; } = null!;

    /// <summary>True while the function may read and write memory by itself.</summary>
    public bool IsBusMaster => (GetWord(Config, PciConfig.Command) & PciConfig.CommandMaster) != 0;

    /// <summary>Reads configuration space.</summary>
    /// <param name="offset">0 to 255.</param>
    /// <param name="size">1, 2 or 4; bytes beyond the end are ones.</param>
    public virtual uint ReadConfig(int offset, int size)
    {
        uint value = 0;
        for (int i = 0; i < size; i++)
        {
            value |= (offset + i < PciConfig.Size ? (uint)Config[offset + i] : 0xff) << (i * 8);
        }

        return value;
    }

    /// <summary>Writes configuration space by its rules, then acts on what changed.</summary>
    public virtual void WriteConfig(int offset, uint value, int size)
    {
        bool wasDisabled = IsIntxDisabled;
        for (int i = 0; i < size && offset + i < PciConfig.Size; i++)
        {
            int at = offset + i;
            byte b = (byte)(value >> (i * 8));
            byte writable = WriteMask[at];
            Config[at] = (byte)((Config[at] & ~writable) | (b & writable));
            Config[at] &= (byte)~(b & Write1ClearMask[at]);
        }

        if (Overlaps(offset, size, PciConfig.BarFirst, 24) || Overlaps(offset, size, PciConfig.RomBar, 4) ||
            Overlaps(offset, size, PciConfig.Command, 2))
        {
            UpdateBars();
        }

        if (Overlaps(offset, size, PciConfig.Command, 2) && wasDisabled != IsIntxDisabled)
        {
            for (int pin = 0; pin < IntPins; pin++)
            {
                if ((_irqLevels & (1 << pin)) != 0)
                {
                    Bus.ChangeIrqLevel(this, pin, IsIntxDisabled ? -1 : 1);
                }
            }
        }
    }

    /// <summary>Drives INTx as the pin in the header says.</summary>
    public void SetIrq(bool level)
    {
        int pin = Config[PciConfig.InterruptPin] - 1;
        if (pin is < 0 or >= IntPins || level == ((_irqLevels & (1 << pin)) != 0))
        {
            return;
        }

        _irqLevels = (byte)(level ? _irqLevels | (1 << pin) : _irqLevels & ~(1 << pin));
        UpdateInterruptStatus();
        if (!IsIntxDisabled)
        {
            Bus.ChangeIrqLevel(this, pin, level ? 1 : -1);
        }
    }

    /// <inheritdoc/>
    public override void Reset()
    {
        SetIrq(false);
        SetWord(Config, PciConfig.Command, (ushort)(GetWord(Config, PciConfig.Command) & ~GetWord(WriteMask, PciConfig.Command)));
        SetWord(Config, PciConfig.Status, (ushort)(GetWord(Config, PciConfig.Status) & ~GetWord(Write1ClearMask, PciConfig.Status)));
        Config[PciConfig.CacheLineSize] = 0;
        Config[PciConfig.InterruptLine] = 0;
        for (int i = 0; i < _bars.Length; i++)
        {
            if (_bars[i] is { } bar)
            {
                WriteBar(bar, bar.TypeBits);
            }
        }

        UpdateBars();
        ResetDevice();
    }

    /// <summary>Power-on state of the device's own registers.</summary>
    protected virtual void ResetDevice()
    {
    }

    /// <inheritdoc/>
    protected sealed override void Realize(IMachineServices machine)
    {
        Machine = machine;
        if (IsMultifunction)
        {
            Config[PciConfig.HeaderType] |= PciConfig.HeaderMultifunction;
        }

        Bus.Register(this);
        try
        {
            RealizeDevice();
        }
        catch
        {
            Unrealize();
            throw;
        }
    }

    /// <inheritdoc/>
    protected override void Unrealize()
    {
        SetIrq(false);
        foreach (PciBar? bar in _bars)
        {
            bar?.Unmap();
        }

        _regions.Clear();
        Bus.Unregister(this);
    }

    /// <summary>Lines of <c>info qtree</c> about base address registers.</summary>
    internal void DescribeBars(Action<string> line)
    {
        for (int i = 0; i < _bars.Length; i++)
        {
            if (_bars[i] is { } bar)
            {
                ulong last = unchecked(bar.MappedAt + (ulong)bar.Region.Size - 1);
                line($"bar {i}: {(bar.IsIo ? "i/o" : "mem")} at 0x{bar.MappedAt:x} [0x{last:x}]");
            }
        }
    }

    /// <summary>Registers BARs, takes timers. A <see cref="QapiException"/> leaves nothing behind.</summary>
    protected abstract void RealizeDevice();

    /// <summary>Maps registers at a fixed place in the port space.</summary>
    protected MemoryRegion MapPorts(string name, uint first, uint count, IIoHandler handler, IoConstraints constraints, int priority = 0) =>
        _regions.Add(Machine.SystemIo, first, MemoryRegion.Io(name, count, handler, constraints, owner: this), priority);

    /// <summary>Maps a region that the device moves by itself, in the bus's port space.</summary>
    protected MemoryRegion MapPorts(MemoryRegion region, uint first) => _regions.Add(Machine.SystemIo, first, region);

    /// <summary>Offers <paramref name="region"/>, whose size is a power of two, through base address register 0 to 5.</summary>
    /// <param name="index">Register; a 64-bit one takes the next, too.</param>
    /// <param name="typeBits"><see cref="PciConfig.BarIo"/>, or memory with <see cref="PciConfig.BarMemory64"/> and <see cref="PciConfig.BarPrefetch"/>.</param>
    /// <param name="region">What it shows.</param>
    protected void RegisterBar(int index, byte typeBits, MemoryRegion region)
    {
        var bar = new PciBar(PciConfig.BarFirst + (index * 4), typeBits, region);
        _bars[index] = bar;
        ulong mask = ~((ulong)region.Size - 1);
        BinaryPrimitives.WriteUInt32LittleEndian(WriteMask.AsSpan(bar.Offset), (uint)mask & ~0xfu | (bar.IsIo ? (uint)mask & 0xcu : 0));
        if (bar.Is64Bit)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(WriteMask.AsSpan(bar.Offset + 4), (uint)(mask >> 32));
        }

        WriteBar(bar, typeBits);
    }

    /// <summary>Sets vendor, device, revision and class.</summary>
    protected void SetIdentity(ushort vendor, ushort device, byte revision, ushort deviceClass)
    {
        SetWord(Config, PciConfig.VendorId, vendor);
        SetWord(Config, PciConfig.DeviceId, device);
        Config[PciConfig.Revision] = revision;
        SetWord(Config, PciConfig.ClassDevice, deviceClass);
    }

    /// <summary>Reads a 16-bit word.</summary>
    protected static ushort GetWord(byte[] space, int offset) => BinaryPrimitives.ReadUInt16LittleEndian(space.AsSpan(offset));

    /// <summary>Writes a 16-bit word.</summary>
    protected static void SetWord(byte[] space, int offset, ushort value) => BinaryPrimitives.WriteUInt16LittleEndian(space.AsSpan(offset), value);

    /// <summary>State of the function itself, first part of its section.</summary>
    protected PciDeviceState CapturePci()
    {
        byte[] config = new byte[PciConfig.Size];
        Config.CopyTo(config, 0);
        return new PciDeviceState
        {
            Config = config,
            IrqLevels = [(uint)_irqLevels & 1, ((uint)_irqLevels >> 1) & 1, ((uint)_irqLevels >> 2) & 1, ((uint)_irqLevels >> 3) & 1],
        };
    }

    /// <summary>Refuses a configuration that another device would have; null when it fits.</summary>
    protected string? ValidatePci(PciDeviceState state)
    {
        for (int i = 0; i < PciConfig.HeaderSize; i++)
        {
            bool fixedByte = i is < PciConfig.Command or (>= PciConfig.Revision and < PciConfig.CacheLineSize) or PciConfig.HeaderType
                or (>= PciConfig.SubsystemVendorId and < PciConfig.RomBar);
            int different = (state.Config[i] ^ Config[i]) & ~WriteMask[i] & ~Write1ClearMask[i];
            if (fixedByte && different != 0)
            {
                return $"{Type.Name}: Bad config data: i=0x{i:x} read: {state.Config[i]:x} device: {Config[i]:x} " +
                    $"cmask: ff wmask: {WriteMask[i]:x} w1cmask:{Write1ClearMask[i]:x}";
            }
        }

        foreach (uint level in state.IrqLevels)
        {
            if (level > 1)
            {
                return $"{Type.Name}: irq state {level}";
            }
        }

        return null;
    }

    /// <summary>Takes over a validated state.</summary>
    protected void ApplyPci(PciDeviceState state)
    {
        state.Config.CopyTo(Config, 0);
        _irqLevels = 0;
        for (int pin = 0; pin < IntPins; pin++)
        {
            _irqLevels |= (byte)(state.IrqLevels[pin] << pin);
        }

        UpdateBars();
    }

    private bool IsIntxDisabled => (GetWord(Config, PciConfig.Command) & PciConfig.CommandInterruptDisable) != 0;

    private static bool Overlaps(int offset, int size, int start, int length) => offset < start + length && start < offset + size;

    private void UpdateInterruptStatus()
    {
        ushort status = GetWord(Config, PciConfig.Status);
        status = (ushort)(_irqLevels != 0 ? status | PciConfig.StatusInterrupt : status & ~PciConfig.StatusInterrupt);
        SetWord(Config, PciConfig.Status, status);
    }

    private void WriteBar(PciBar bar, ulong value)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(Config.AsSpan(bar.Offset), (uint)value);
        if (bar.Is64Bit)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(Config.AsSpan(bar.Offset + 4), (uint)(value >> 32));
        }
    }

    private void UpdateBars()
    {
        ushort command = GetWord(Config, PciConfig.Command);
        foreach (PciBar? bar in _bars)
        {
            if (bar is null)
            {
                continue;
            }

            ulong address = BinaryPrimitives.ReadUInt32LittleEndian(Config.AsSpan(bar.Offset));
            if (bar.Is64Bit)
            {
                address |= (ulong)BinaryPrimitives.ReadUInt32LittleEndian(Config.AsSpan(bar.Offset + 4)) << 32;
            }

            bool enabled = (command & (bar.IsIo ? PciConfig.CommandIo : PciConfig.CommandMemory)) != 0;
            bar.Update(Bus, enabled, address);
        }
    }
}
