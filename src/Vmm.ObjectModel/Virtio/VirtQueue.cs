using System.Buffers.Binary;
using Vmm.Interop;
using Vmm.Memory;

namespace Vmm.ObjectModel.Virtio;

/// <summary>
/// A virtqueue (virtio 1.2, 2.6 to 2.8). Everything in its rings comes from a guest that may be hostile: each index and length is checked and
/// each loop bounded; what is wrong breaks the device until it is reset. Rings must lie in plain memory, registers are never touched. Used
/// under the device's gate.
/// </summary>
public sealed partial class VirtQueue
{
    /// <summary>Most entries of a ring.</summary>
    public const int MaxSize = 1024;

    private const int MaxPieces = 1024;
    private const int DescriptorBytes = 16;
    private const ushort DescNext = 1;
    private const ushort DescWrite = 2;
    private const ushort DescIndirect = 4;
    private const ushort AvailNoInterrupt = 1;
    private const ushort UsedNoNotify = 1;

    private readonly IVirtQueueOwner _owner;
    private IDmaMemory _memory = null!;
    private ushort _shadowAvail;
    private ushort _signalledUsed;
    private bool _signalledUsedValid;

    /// <summary>A queue without ring.</summary>
    /// <param name="owner">Whose it is.</param>
    /// <param name="index">Its number.</param>
    /// <param name="size">Entries unless the driver wants fewer.</param>
    public VirtQueue(IVirtQueueOwner owner, int index, int size)
    {
        _owner = owner;
        Index = index;
        DefaultSize = size;
        Reset();
    }

    /// <summary>Number of the queue.</summary>
    public int Index { get; }

    /// <summary>Entries unless the driver wants fewer.</summary>
    public int DefaultSize { get; }

    /// <summary>Entries of the ring, 1 to 1024.</summary>
    public int Size { get; private set; }

    /// <summary>Alignment of a legacy ring's parts.</summary>
    public uint Alignment { get; set; }

    /// <summary>Address of the descriptors; 0 while there are none.</summary>
    public ulong Descriptors { get; private set; }

    /// <summary>Address of the ring of available buffers, or of the driver's event structure.</summary>
    public ulong Available { get; private set; }

    /// <summary>Address of the ring of used buffers, or of the device's event structure.</summary>
    public ulong Used { get; private set; }

    /// <summary>Next index of the available ring.</summary>
    public ushort LastAvailable { get; private set; }

    /// <summary>Next index of the used ring.</summary>
    public ushort UsedIndex { get; private set; }

    /// <summary>Buffers taken and not given back.</summary>
    public int InUse { get; private set; }

    private bool IsPacked => (_owner.GuestFeatures & VirtioFeatures.PackedRing) != 0;

    private bool HasEventIndex => (_owner.GuestFeatures & VirtioFeatures.EventIndex) != 0;

    /// <summary>Says where rings and buffers are.</summary>
    public void Attach(IDmaMemory memory) => _memory = memory;

    /// <summary>Forgets the ring.</summary>
    public void Reset()
    {
        Size = DefaultSize;
        Alignment = 4096;
        Descriptors = 0;
        Available = 0;
        Used = 0;
        ForgetPosition();
    }

    /// <summary>Sets the number of entries; values out of range change nothing.</summary>
    public void SetSize(uint size)
    {
        if (size is > 0 and <= MaxSize)
        {
            Size = (int)size;
        }
    }

    /// <summary>Places all parts of a legacy ring.</summary>
    public void SetLegacyAddress(ulong address)
    {
        Descriptors = address;
        LayOutLegacy();
    }

    /// <summary>Computes the places of a legacy ring's parts anew.</summary>
    public void LayOutLegacy()
    {
        if (Descriptors == 0)
        {
            return;
        }

        ulong mask = Math.Max(Alignment, 1) - 1;
        Available = Descriptors + ((ulong)Size * DescriptorBytes);
        Used = (Available + 4 + ((ulong)Size * 2) + mask) & ~mask;
    }

    /// <summary>Places the parts of a ring.</summary>
    public void SetAddresses(ulong descriptors, ulong available, ulong used) =>
        (Descriptors, Available, Used) = (descriptors, available, used);

    /// <summary>Begins at an index of a split ring; the used ring tells how far it was used. What was taken before is given up.</summary>
    public void Start(ushort lastAvailable)
    {
        ForgetPosition();
        LastAvailable = lastAvailable;
        _shadowAvail = lastAvailable;
        UsedIndex = ReadU16(Used + 2);
    }

    /// <summary>Takes the next available buffer; false when there is none, or when the device is broken (now).</summary>
    public bool TryPop(VirtQueueElement element)
    {
        element.Clear();
        if (_owner.IsBroken || Descriptors == 0 || Available == 0)
        {
            return false;
        }

        element.View = _memory.Current;
        return IsPacked ? TryPopPacked(element) : TryPopSplit(element);
    }

    /// <summary>Gives a buffer back and interrupts the driver if it wants that.</summary>
    /// <param name="element">The buffer.</param>
    /// <param name="length">Bytes written, as the driver is told.</param>
    public void Push(VirtQueueElement element, uint length)
    {
        element.MarkDirty(_memory);
        InUse--;
        if (_owner.IsBroken || Used == 0)
        {
            return;
        }

        if (IsPacked)
        {
            PushPacked(element, length);
        }
        else
        {
            PushSplit(element, length);
        }

        if (ShouldNotify())
        {
            _owner.InterruptQueue(Index);
        }
    }

    /// <summary>Asks the driver to notify the device of new buffers, or not to: a hint.</summary>
    public void SetNotification(bool isEnabled)
    {
        if (Descriptors == 0 || Used == 0)
        {
            return;
        }

        if (IsPacked)
        {
            SetNotificationPacked(isEnabled);
        }
        else if (!HasEventIndex)
        {
            WriteU16(Used, (ushort)(isEnabled ? ReadU16(Used) & ~UsedNoNotify : ReadU16(Used) | UsedNoNotify));
        }
        else if (isEnabled)
        {
            WriteU16(AvailEvent(Size), ReadU16(Available + 2));
        }

        if (isEnabled)
        {
            Interlocked.MemoryBarrier();
        }
    }

    /// <summary>No buffer is available.</summary>
    public bool IsEmpty
    {
        get
        {
            if (_owner.IsBroken || Descriptors == 0 || Available == 0)
            {
                return true;
            }

            return IsPacked ? IsEmptyPacked() : ReadU16(Available + 2) == LastAvailable;
        }
    }

    /// <summary>Goes on where another process stopped; what a split ring's memory tells is taken from there.</summary>
    public void Restore(in QueueState state, bool hasAddresses)
    {
        ForgetPosition();
        Size = (int)state.Size;
        Alignment = state.Alignment;
        Descriptors = state.Descriptors;
        Available = 0;
        Used = 0;
        if (hasAddresses)
        {
            (Available, Used) = (state.Available, state.Used);
        }
        else
        {
            LayOutLegacy();
        }

        LastAvailable = state.LastAvailable;
        if (Descriptors != 0 && !IsPacked)
        {
            UsedIndex = ReadU16(Used + 2);
            _shadowAvail = LastAvailable;
            InUse = (ushort)(LastAvailable - UsedIndex);
        }
    }

    /// <summary>Maps a buffer that was taken in another process. False for what is not memory; the device is broken then.</summary>
    public bool Remap(VirtQueueElement element, ReadOnlySpan<(ulong Address, uint Length)> output, ReadOnlySpan<(ulong Address, uint Length)> input)
    {
        element.View = _memory.Current;
        foreach ((ulong address, uint length) in output)
        {
            if (!Add(element, new Descriptor(address, length, 0, 0)))
            {
                return false;
            }
        }

        foreach ((ulong address, uint length) in input)
        {
            if (!Add(element, new Descriptor(address, length, DescWrite, 0)))
            {
                return false;
            }
        }

        return true;
    }

    private void ForgetPosition()
    {
        LastAvailable = 0;
        UsedIndex = 0;
        InUse = 0;
        _shadowAvail = 0;
        _signalledUsed = 0;
        _signalledUsedValid = false;
        _availWrap = true;
        _usedWrap = true;
    }

    private ulong AvailEvent(int size) => Used + 4 + ((ulong)size * 8);

    private bool TryPopSplit(VirtQueueElement element)
    {
        int size = Size;
        if (_shadowAvail == LastAvailable)
        {
            _shadowAvail = ReadU16(Available + 2);
            if (_shadowAvail == LastAvailable)
            {
                return false;
            }

            Interlocked.MemoryBarrier();
        }

        if ((ushort)(_shadowAvail - LastAvailable) > size)
        {
            return Fail($"Guest moved used index from {LastAvailable} to {_shadowAvail}");
        }

        if (InUse >= size)
        {
            return Fail("Virtqueue size exceeded");
        }

        ushort head = ReadU16(Available + 4 + (2 * (ulong)(LastAvailable % size)));
        LastAvailable++;
        if (head >= size)
        {
            return Fail($"Guest says index {head} is available");
        }

        if (HasEventIndex)
        {
            WriteU16(AvailEvent(size), LastAvailable);
        }

        element.Id = head;
        element.RingEntries = 1;
        if (!GatherSplit(element, head, (uint)size))
        {
            return false;
        }

        InUse++;
        return true;
    }

    private bool GatherSplit(VirtQueueElement element, uint index, uint max)
    {
        ulong table = Descriptors;
        Descriptor descriptor = ReadDescriptor(table, index);
        if ((descriptor.Flags & DescIndirect) != 0)
        {
            if (!EnterIndirect(descriptor, out table, out max))
            {
                return false;
            }

            index = 0;
            descriptor = ReadDescriptor(table, index);
        }

        for (uint count = 1; ; count++)
        {
            if (count > max || count > MaxPieces)
            {
                return Fail("Looped descriptor");
            }

            if (!Add(element, descriptor))
            {
                return false;
            }

            if ((descriptor.Flags & DescNext) == 0)
            {
                return true;
            }

            index = descriptor.Next;
            if (index >= max)
            {
                return Fail($"Desc next is {index}");
            }

            descriptor = ReadDescriptor(table, index);
        }
    }

    private bool EnterIndirect(in Descriptor descriptor, out ulong table, out uint max)
    {
        table = descriptor.Address;
        max = descriptor.Length / DescriptorBytes;
        return (descriptor.Length != 0 && descriptor.Length % DescriptorBytes == 0) || Fail("Invalid size for indirect buffer table");
    }

    private bool Add(VirtQueueElement element, in Descriptor descriptor)
    {
        bool isWrite = (descriptor.Flags & DescWrite) != 0;
        if (!isWrite && element.InCount > 0)
        {
            return Fail("Incorrect order for descriptors");
        }

        if (descriptor.Length == 0)
        {
            return Fail("virtio: zero sized buffers are not allowed");
        }

        ulong address = descriptor.Address;
        ulong left = descriptor.Length;
        while (left > 0)
        {
            if (++element.Pieces > MaxPieces)
            {
                return Fail("virtio: too many write descriptors in indirect table");
            }

            ulong part = left;
            if (!_memory.TryMapHost(address, ref part, isWrite, out nint host))
            {
                return Fail("virtio: bogus descriptor or out of resources");
            }

            element.Add(new IoVec(host, (nuint)part), address, isWrite);
            address += part;
            left -= part;
        }

        if (isWrite)
        {
            element.InCount++;
        }
        else
        {
            element.OutCount++;
        }

        return true;
    }

    private void PushSplit(VirtQueueElement element, uint length)
    {
        int size = Size;
        Span<byte> entry = Map(Used + 4 + (8 * (ulong)(UsedIndex % size)), 8, isWrite: true);
        if (entry.IsEmpty)
        {
            Fail("virtio: ring outside of memory");
            return;
        }

        BinaryPrimitives.WriteUInt32LittleEndian(entry, element.Id);
        BinaryPrimitives.WriteUInt32LittleEndian(entry[4..], length);
        _memory.MarkDirty(Used + 4 + (8 * (ulong)(UsedIndex % size)), 8);
        Interlocked.MemoryBarrier();
        ushort old = UsedIndex++;
        WriteU16(Used + 2, UsedIndex);
        if ((ushort)(UsedIndex - _signalledUsed) < (ushort)(UsedIndex - old))
        {
            _signalledUsedValid = false;
        }
    }

    private bool ShouldNotify()
    {
        Interlocked.MemoryBarrier();
        if (IsPacked)
        {
            return ShouldNotifyPacked();
        }

        if ((_owner.GuestFeatures & VirtioFeatures.NotifyOnEmpty) != 0 && InUse == 0 && IsEmpty)
        {
            return true;
        }

        if (!HasEventIndex)
        {
            return (ReadU16(Available) & AvailNoInterrupt) == 0;
        }

        bool valid = _signalledUsedValid;
        ushort old = _signalledUsed;
        _signalledUsedValid = true;
        _signalledUsed = UsedIndex;
        return !valid || NeedsEvent(ReadU16(Available + 4 + (2 * (ulong)Size)), UsedIndex, old);
    }

    // An event is due when the index was passed between old and now (virtio 1.2, 2.7.10).
    private static bool NeedsEvent(ushort wanted, ushort now, ushort old) => (ushort)(now - wanted - 1) < (ushort)(now - old);

    private Descriptor ReadDescriptor(ulong table, uint index)
    {
        Span<byte> raw = Map(table + ((ulong)index * DescriptorBytes), DescriptorBytes, isWrite: false);
        return raw.IsEmpty
            ? default
            : new Descriptor(
                BinaryPrimitives.ReadUInt64LittleEndian(raw),
                BinaryPrimitives.ReadUInt32LittleEndian(raw[8..]),
                BinaryPrimitives.ReadUInt16LittleEndian(raw[12..]),
                BinaryPrimitives.ReadUInt16LittleEndian(raw[14..]));
    }

    private ushort ReadU16(ulong address)
    {
        Span<byte> raw = Map(address, 2, isWrite: false);
        return raw.IsEmpty ? (ushort)0 : BinaryPrimitives.ReadUInt16LittleEndian(raw);
    }

    private void WriteU16(ulong address, ushort value)
    {
        Span<byte> raw = Map(address, 2, isWrite: true);
        if (!raw.IsEmpty)
        {
            BinaryPrimitives.WriteUInt16LittleEndian(raw, value);
            _memory.MarkDirty(address, 2);
        }
    }

    // Plain memory only: a ring in registers would call handlers, this device's own among them.
    private Span<byte> Map(ulong address, int length, bool isWrite)
    {
        ulong available = (ulong)length;
        return _memory.TryMapHost(address, ref available, isWrite, out nint host) && available == (ulong)length
            ? new IoVec(host, (nuint)length).Span
            : default;
    }

    private bool Fail(string what)
    {
        _owner.Break(what);
        return false;
    }

    /// <summary>A descriptor of a split ring (virtio 1.2, 2.7.5). In a packed ring the last two are the identifier and the flags.</summary>
    private readonly record struct Descriptor(ulong Address, uint Length, ushort Flags, ushort Next);
}
