using Vmm.ObjectModel.VmState;

namespace Vmm.Devices.Virtio;

/// <content>What the section of the device has of its transport.</content>
public sealed partial class VirtioMmio
{
    /// <summary>Writes the selectors.</summary>
    internal void SaveSelectors(VmStateWriter writer)
    {
        writer.WriteUInt32(_deviceFeaturesSelect);
        writer.WriteUInt32(_driverFeaturesSelect);
        writer.WriteUInt32((uint)_pageShift);
    }

    /// <summary>Reads the selectors; returns what applies them.</summary>
    internal Action LoadSelectors(VmStateReader reader)
    {
        uint device = reader.ReadUInt32();
        uint driver = reader.ReadUInt32();
        uint shift = reader.ReadUInt32();
        VmStateReader.Validate(device <= 1 && driver <= 1 && shift < 32, "selectors");
        return () => (_deviceFeaturesSelect, _driverFeaturesSelect, _pageShift) = (device, driver, (int)shift);
    }

    /// <summary>Writes what modern registers hold besides.</summary>
    internal void SaveExtra(VmStateWriter writer)
    {
        VmStateFormat.BeginSubsection(writer, "virtio_mmio/state", 1);
        writer.WriteUInt32(_driverFeatures[0]);
        writer.WriteUInt32(_driverFeatures[1]);
        foreach (ref readonly ModernQueue queue in _modern.AsSpan())
        {
            writer.WriteUInt16((ushort)queue.Size);
            writer.WriteBool(queue.IsEnabled);
            Write(writer, queue.Descriptors);
            Write(writer, queue.Available);
            Write(writer, queue.Used);
        }
    }

    /// <summary>Reads what <see cref="SaveExtra"/> wrote; returns what applies it.</summary>
    internal Action LoadExtra(VmStateReader reader)
    {
        if (!reader.TryEnterSubsection("virtio_mmio/state", out _))
        {
            return static () => { };
        }

        uint low = reader.ReadUInt32();
        uint high = reader.ReadUInt32();
        ModernQueue[] queues = new ModernQueue[_modern.Length];
        foreach (ref ModernQueue queue in queues.AsSpan())
        {
            queue.Size = reader.ReadUInt16();
            queue.IsEnabled = reader.ReadBool();
            queue.Descriptors = Read(reader);
            queue.Available = Read(reader);
            queue.Used = Read(reader);
        }

        return () =>
        {
            (_driverFeatures[0], _driverFeatures[1]) = (low, high);
            queues.CopyTo(_modern, 0);
        };
    }

    /// <summary>The device's state has been loaded.</summary>
    internal void Restored(bool isDriverOk)
    {
        if (isDriverOk)
        {
            StartIoEventFds();
        }
        else
        {
            StopIoEventFds();
        }

        UpdateInterrupt();
    }

    private static void Write(VmStateWriter writer, ulong address)
    {
        writer.WriteUInt32((uint)address);
        writer.WriteUInt32((uint)(address >> 32));
    }

    private static ulong Read(VmStateReader reader)
    {
        ulong low = reader.ReadUInt32();
        return low | ((ulong)reader.ReadUInt32() << 32);
    }
}
