using System.Buffers.Binary;
using Vmm.ObjectModel.Virtio;
using Vmm.ObjectModel.VmState;

namespace Vmm.Devices.Virtio;

/// <content>Migration: requests that wait for the machine to go on travel as the memory image of QEMU's element.</content>
public sealed partial class VirtioBlk
{
    private const int MaxSegments = 1024;
    private const int InAddresses = 16;
    private const int OutAddresses = InAddresses + (8 * MaxSegments);
    private const int InVectors = OutAddresses + (8 * MaxSegments);
    private const int OutVectors = InVectors + (16 * MaxSegments);
    private const int ElementBytes = OutVectors + (16 * MaxSegments);

    /// <inheritdoc/>
    public override string VmStateName => "virtio-blk";

    /// <inheritdoc/>
    public override int VmStateVersion => 2;

    private bool HasPackedElements => (HostFeatures & VirtioFeatures.PackedRing) != 0;

    /// <inheritdoc/>
    protected override void SaveDevice(VmStateWriter writer)
    {
        foreach (VirtioBlkRequest request in _stopped)
        {
            writer.WriteInt8(1);
            if (QueueCount > 1)
            {
                writer.WriteUInt32((uint)request.Queue!.Index);
            }

            SaveElement(writer, request.Element);
        }

        writer.WriteInt8(0);
    }

    /// <inheritdoc/>
    protected override Action LoadDevice(VmStateReader reader)
    {
        List<LoadedElement> loaded = [];
        while (reader.ReadInt8() != 0)
        {
            uint queue = QueueCount > 1 ? reader.ReadUInt32() : 0;
            VmStateReader.Validate(queue < QueueCount, "virtqueue index");
            loaded.Add(LoadElement(reader, (int)queue));
            VmStateReader.Validate(loaded.Count <= QueueCount * VirtQueue.MaxSize, "number of requests");
        }

        return () => loaded.ForEach(Restore);
    }

    private void SaveElement(VmStateWriter writer, VirtQueueElement element)
    {
        byte[] image = new byte[ElementBytes];
        BinaryPrimitives.WriteUInt32LittleEndian(image, element.Id);
        BinaryPrimitives.WriteUInt32LittleEndian(image.AsSpan(4), (uint)element.OutSegments.Length);
        BinaryPrimitives.WriteUInt32LittleEndian(image.AsSpan(8), (uint)element.InSegments.Length);
        SaveSegments(image, element.InSegments, InAddresses, InVectors);
        SaveSegments(image, element.OutSegments, OutAddresses, OutVectors);
        writer.WriteBytes(image);
        if (HasPackedElements)
        {
            writer.WriteUInt32((uint)element.RingEntries);
        }
    }

    private static void SaveSegments(Span<byte> image, ReadOnlySpan<(ulong Address, uint Length)> segments, int addresses, int vectors)
    {
        for (int i = 0; i < segments.Length; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(image[(addresses + (8 * i))..], segments[i].Address);
            BinaryPrimitives.WriteUInt64LittleEndian(image[(vectors + (16 * i) + 8)..], segments[i].Length);
        }
    }

    private LoadedElement LoadElement(VmStateReader reader, int queue)
    {
        byte[] image = new byte[ElementBytes];
        reader.ReadBytes(image);
        uint id = BinaryPrimitives.ReadUInt32LittleEndian(image);
        uint outCount = BinaryPrimitives.ReadUInt32LittleEndian(image.AsSpan(4));
        uint inCount = BinaryPrimitives.ReadUInt32LittleEndian(image.AsSpan(8));
        VmStateReader.Validate(id <= ushort.MaxValue && outCount <= MaxSegments && inCount <= MaxSegments, "element");
        uint entries = HasPackedElements ? reader.ReadUInt32() : 1;
        VmStateReader.Validate(entries is > 0 and <= VirtQueue.MaxSize, "ndescs");
        return new LoadedElement(
            queue, (ushort)id, (int)entries, LoadSegments(image, outCount, OutAddresses, OutVectors), LoadSegments(image, inCount, InAddresses, InVectors));
    }

    private static (ulong Address, uint Length)[] LoadSegments(ReadOnlySpan<byte> image, uint count, int addresses, int vectors)
    {
        (ulong, uint)[] segments = new (ulong, uint)[count];
        for (int i = 0; i < segments.Length; i++)
        {
            ulong length = BinaryPrimitives.ReadUInt64LittleEndian(image[(vectors + (16 * i) + 8)..]);
            VmStateReader.Validate(length <= uint.MaxValue, "length of a segment");
            segments[i] = (BinaryPrimitives.ReadUInt64LittleEndian(image[(addresses + (8 * i))..]), (uint)length);
        }

        return segments;
    }

    private void Restore(LoadedElement loaded)
    {
        VirtioBlkRequest request = _free.TryPop(out VirtioBlkRequest? free) ? free : new VirtioBlkRequest();
        VirtQueueElement element = request.Element;
        element.Clear();
        element.Id = loaded.Id;
        element.RingEntries = loaded.RingEntries;
        request.Queue = Queues[loaded.Queue];
        request.Epoch = Epoch;
        if (request.Queue.Remap(element, loaded.Out, loaded.In) && Parse(request))
        {
            _stopped.Enqueue(request);
        }
    }

    private sealed record LoadedElement(int Queue, ushort Id, int RingEntries, (ulong Address, uint Length)[] Out, (ulong Address, uint Length)[] In);
}
