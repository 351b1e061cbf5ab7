using Vmm.ObjectModel.Virtio;
using Vmm.ObjectModel.VmState;

namespace Vmm.Devices.Virtio;

/// <content>
/// Migration section, in the order of QEMU 7.2: the transport's selectors, the common part, the queues, the device's own part, then what came
/// later as subsections, where the arrays always have room for all possible queues.
/// </content>
public abstract partial class VirtioDevice : IVmStateful
{
    /// <inheritdoc/>
    public abstract string VmStateName { get; }

    /// <inheritdoc/>
    public abstract int VmStateVersion { get; }

    /// <inheritdoc/>
    public void SaveState(VmStateWriter writer)
    {
        lock (Gate)
        {
            Save(writer);
        }
    }

    /// <inheritdoc/>
    public void LoadState(VmStateReader reader, int version)
    {
        lock (Gate)
        {
            Load(reader);
        }
    }

    /// <summary>Writes the device's own part.</summary>
    protected abstract void SaveDevice(VmStateWriter writer);

    /// <summary>Reads the device's own part; returns what applies it, after everything else has been applied.</summary>
    protected abstract Action LoadDevice(VmStateReader reader);

    private void Save(VmStateWriter writer)
    {
        Transport.SaveSelectors(writer);
        writer.WriteUInt8(_status);
        writer.WriteUInt8(Isr);
        writer.WriteUInt16(QueueSelect);
        writer.WriteUInt32((uint)GuestFeatures);
        FillConfig(_config);
        writer.WriteUInt32((uint)_config.Length);
        writer.WriteBytes(_config);
        writer.WriteUInt32((uint)_queues.Count);
        foreach (VirtQueue queue in _queues)
        {
            writer.WriteUInt32((uint)queue.Size);
            writer.WriteUInt32(queue.Alignment);
            writer.WriteUInt64(queue.Descriptors);
            writer.WriteUInt16(queue.LastAvailable);
        }

        SaveDevice(writer);
        VmStateFormat.BeginSubsection(writer, "virtio/64bit_features", 1);
        writer.WriteUInt64(GuestFeatures);
        if ((HostFeatures & VirtioFeatures.Version1) != 0)
        {
            VmStateFormat.BeginSubsection(writer, "virtio/virtqueues", 1);
            for (int i = 0; i < MaxQueues; i++)
            {
                writer.WriteUInt64(i < _queues.Count ? _queues[i].Available : 0);
                writer.WriteUInt64(i < _queues.Count ? _queues[i].Used : 0);
            }
        }

        if (_queues.Exists(static q => q.Size != q.DefaultSize))
        {
            VmStateFormat.BeginSubsection(writer, "virtio/ringsize", 1);
            for (int i = 0; i < MaxQueues; i++)
            {
                writer.WriteUInt32(i < _queues.Count ? (uint)_queues[i].DefaultSize : 0);
            }
        }

        if (_isBroken)
        {
            VmStateFormat.BeginSubsection(writer, "virtio/broken", 1);
            writer.WriteBool(true);
        }

        if (!Transport.IsLegacy)
        {
            VmStateFormat.BeginSubsection(writer, "virtio/extra_state", 1);
            Transport.SaveExtra(writer);
        }

        if ((_status & VirtioFeatures.StatusDriverOk) != 0)
        {
            VmStateFormat.BeginSubsection(writer, "virtio/started", 1);
            writer.WriteBool(true);
        }

        if ((HostFeatures & VirtioFeatures.PackedRing) != 0)
        {
            VmStateFormat.BeginSubsection(writer, "virtio/packed_virtqueues", 1);
            for (int i = 0; i < MaxQueues; i++)
            {
                PackedPosition at = i < _queues.Count ? _queues[i].PackedPosition : PackedPosition.Start;
                writer.WriteUInt16(at.LastAvailable);
                writer.WriteBool(at.AvailableWrap);
                writer.WriteUInt16(at.UsedIndex);
                writer.WriteBool(at.UsedWrap);
                writer.WriteUInt32(at.InUse);
            }
        }
    }

    private void Load(VmStateReader reader)
    {
        Action applySelectors = Transport.LoadSelectors(reader);
        byte status = reader.ReadUInt8();
        byte isr = reader.ReadUInt8();
        ushort select = reader.ReadUInt16();
        VmStateReader.Validate(select < MaxQueues, "queue_sel");
        ulong features = reader.ReadUInt32();
        byte[] config = new byte[_config.Length];
        uint configBytes = reader.ReadUInt32();
        VmStateReader.Validate(configBytes <= 4096, "config_len");
        reader.ReadBytes(config.AsSpan(0, (int)Math.Min(configBytes, (uint)config.Length)));
        reader.SkipUnused((int)configBytes - (int)Math.Min(configBytes, (uint)config.Length));
        VmStateReader.Validate(reader.ReadUInt32() == (uint)_queues.Count, "number of queues");
        QueueState[] queues = new QueueState[_queues.Count];
        for (int i = 0; i < queues.Length; i++)
        {
            queues[i].Size = reader.ReadUInt32();
            queues[i].Alignment = reader.ReadUInt32();
            queues[i].Descriptors = reader.ReadUInt64();
            queues[i].LastAvailable = reader.ReadUInt16();
            VmStateReader.Validate(queues[i].Size is > 0 and <= VirtQueue.MaxSize, "vring.num");
            VmStateReader.Validate(System.Numerics.BitOperations.IsPow2(queues[i].Alignment), "vring.align");
        }

        Action applyDevice = LoadDevice(reader);
        features = reader.TryEnterSubsection("virtio/64bit_features", out _) ? reader.ReadUInt64() : features;
        VmStateReader.Validate((features & ~HostFeatures) == 0, "guest_features");
        bool hasAddresses = reader.TryEnterSubsection("virtio/virtqueues", out _);
        for (int i = 0; hasAddresses && i < MaxQueues; i++)
        {
            QueueState ignored = default;
            ref QueueState queue = ref i < queues.Length ? ref queues[i] : ref ignored;
            queue.Available = reader.ReadUInt64();
            queue.Used = reader.ReadUInt64();
        }

        if (reader.TryEnterSubsection("virtio/ringsize", out _))
        {
            reader.SkipUnused(4 * MaxQueues);
        }

        bool isBroken = reader.TryEnterSubsection("virtio/broken", out _) && reader.ReadBool();
        Action? applyExtra = reader.TryEnterSubsection("virtio/extra_state", out _) ? Transport.LoadExtra(reader) : null;
        if (reader.TryEnterSubsection("virtio/started", out _))
        {
            reader.ReadBool();
        }

        PackedPosition[]? packed = reader.TryEnterSubsection("virtio/packed_virtqueues", out _) ? LoadPacked(reader) : null;

        // Nothing can fail from here on.
        ResetRegisters();
        applySelectors();
        applyExtra?.Invoke();
        GuestFeatures = features;
        QueueSelect = select;
        _status = status;
        Volatile.Write(ref _isr, isr);
        ApplyConfig(config);
        for (int i = 0; i < queues.Length; i++)
        {
            _queues[i].Restore(queues[i], hasAddresses && (features & VirtioFeatures.Version1) != 0);
            if (packed is not null && (features & VirtioFeatures.PackedRing) != 0)
            {
                _queues[i].PackedPosition = packed[i];
            }
        }

        applyDevice();
        _isBroken = isBroken;
        Transport.Restored((status & VirtioFeatures.StatusDriverOk) != 0);
    }

    private PackedPosition[] LoadPacked(VmStateReader reader)
    {
        PackedPosition[] result = new PackedPosition[_queues.Count];
        for (int i = 0; i < MaxQueues; i++)
        {
            PackedPosition at = new(
                reader.ReadUInt16(), reader.ReadBool(), reader.ReadUInt16(), reader.ReadBool(), reader.ReadUInt32());
            if (i < result.Length)
            {
                VmStateReader.Validate(
                    at.LastAvailable < VirtQueue.MaxSize && at.UsedIndex < VirtQueue.MaxSize && at.InUse <= VirtQueue.MaxSize, "packed ring");
                result[i] = at;
            }
        }

        return result;
    }
}
