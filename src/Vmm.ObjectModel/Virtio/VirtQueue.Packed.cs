using System.Buffers.Binary;

namespace Vmm.ObjectModel.Virtio;

/// <content>Packed rings (virtio 1.2, 2.8).</content>
public sealed partial class VirtQueue
{
    private const ushort DescAvailable = 1 << 7;
    private const ushort DescUsed = 1 << 15;
    private const ushort EventDisable = 1;
    private const ushort EventAtDescriptor = 2;

    private bool _availWrap = true;
    private bool _usedWrap = true;

    /// <summary>Where the ring is, when it is a packed one.</summary>
    public PackedPosition PackedPosition
    {
        get => IsPacked ? new(LastAvailable, _availWrap, UsedIndex, _usedWrap, (uint)InUse) : PackedPosition.Start;
        set
        {
            (LastAvailable, _availWrap, UsedIndex, _usedWrap) = (value.LastAvailable, value.AvailableWrap, value.UsedIndex, value.UsedWrap);
            InUse = (int)value.InUse;
        }
    }

    private bool IsEmptyPacked() => !IsAvailable(ReadPacked(Descriptors, LastAvailable).Flags);

    private bool IsAvailable(ushort flags)
    {
        bool available = (flags & DescAvailable) != 0;
        return available != ((flags & DescUsed) != 0) && available == _availWrap;
    }

    private bool TryPopPacked(VirtQueueElement element)
    {
        uint size = (uint)Size;
        if (LastAvailable >= size)
        {
            return Fail($"Guest made the ring shorter than index {LastAvailable}");
        }

        if (!IsAvailable(ReadPacked(Descriptors, LastAvailable).Flags))
        {
            return false;
        }

        Interlocked.MemoryBarrier();
        if (InUse >= size)
        {
            return Fail("Virtqueue size exceeded");
        }

        uint entries = 1;
        uint index = LastAvailable;
        Descriptor descriptor = ReadPacked(Descriptors, index);
        if ((descriptor.Flags & DescIndirect) != 0)
        {
            element.Id = descriptor.Next;
            if (!EnterIndirect(descriptor, out ulong table, out uint count))
            {
                return false;
            }

            for (uint i = 0; i < count; i++)
            {
                if (i >= MaxPieces)
                {
                    return Fail("Looped descriptor");
                }

                if (!Add(element, ReadPacked(table, i)))
                {
                    return false;
                }
            }
        }
        else
        {
            while (true)
            {
                if (!Add(element, descriptor))
                {
                    return false;
                }

                if ((descriptor.Flags & DescNext) == 0)
                {
                    break;
                }

                if (++entries > size)
                {
                    return Fail("Looped descriptor");
                }

                index = index + 1 == size ? 0 : index + 1;
                descriptor = ReadPacked(Descriptors, index);
            }

            element.Id = descriptor.Next;
        }

        element.RingEntries = (int)entries;
        InUse += (int)entries;
        uint next = LastAvailable + entries;
        if (next >= size)
        {
            next -= size;
            _availWrap = !_availWrap;
        }

        LastAvailable = (ushort)next;
        if (HasEventIndex)
        {
            SetNotificationPacked(isEnabled: true);
        }

        return true;
    }

    private void PushPacked(VirtQueueElement element, uint length)
    {
        // The caller counted one buffer; here ring entries are counted.
        InUse -= element.RingEntries - 1;
        Span<byte> entry = Map(Descriptors + ((ulong)UsedIndex * DescriptorBytes), DescriptorBytes, isWrite: true);
        if (entry.IsEmpty)
        {
            Fail("virtio: ring outside of memory");
            return;
        }

        ushort flags = (ushort)((_usedWrap ? DescAvailable | DescUsed : 0) | (length > 0 ? DescWrite : 0));
        BinaryPrimitives.WriteUInt32LittleEndian(entry[8..], length);
        BinaryPrimitives.WriteUInt16LittleEndian(entry[12..], element.Id);
        Interlocked.MemoryBarrier();
        BinaryPrimitives.WriteUInt16LittleEndian(entry[14..], flags);
        _memory.MarkDirty(Descriptors + ((ulong)UsedIndex * DescriptorBytes), DescriptorBytes);
        int next = UsedIndex + element.RingEntries;
        if (next >= Size)
        {
            next -= Size;
            _usedWrap = !_usedWrap;
            _signalledUsedValid = false;
        }

        UsedIndex = (ushort)Math.Max(next, 0);
    }

    private bool ShouldNotifyPacked()
    {
        ushort wanted = ReadU16(Available);
        ushort flags = ReadU16(Available + 2);
        bool valid = _signalledUsedValid;
        ushort old = _signalledUsed;
        _signalledUsedValid = true;
        _signalledUsed = UsedIndex;
        if (flags == EventDisable)
        {
            return false;
        }

        if (flags != EventAtDescriptor || !valid)
        {
            return true;
        }

        int at = wanted & 0x7fff;
        if ((wanted >> 15 != 0) != _usedWrap)
        {
            at -= Size;
        }

        return NeedsEvent((ushort)at, UsedIndex, old);
    }

    private void SetNotificationPacked(bool isEnabled)
    {
        if (!isEnabled)
        {
            WriteU16(Used + 2, EventDisable);
            return;
        }

        if (HasEventIndex)
        {
            WriteU16(Used, (ushort)(LastAvailable | (_availWrap ? 0x8000 : 0)));
            Interlocked.MemoryBarrier();
        }

        WriteU16(Used + 2, HasEventIndex ? EventAtDescriptor : (ushort)0);
    }

    // The flags come last in memory and are read first by those who look whether the entry is theirs.
    private Descriptor ReadPacked(ulong table, uint index)
    {
        Descriptor raw = ReadDescriptor(table, index);
        return raw with { Flags = raw.Next, Next = raw.Flags };
    }
}
