namespace Vmm.ObjectModel.Virtio;

/// <summary>Feature bits that are no device's own, and status bits (virtio 1.2, 2.1, 2.2, 6).</summary>
public static class VirtioFeatures
{
    /// <summary>The device asks for an interrupt when a queue runs empty.</summary>
    public const ulong NotifyOnEmpty = 1ul << 24;

    /// <summary>Buffers may be cut into descriptors anywhere.</summary>
    public const ulong AnyLayout = 1ul << 27;

    /// <summary>Tables of descriptors outside of the ring.</summary>
    public const ulong IndirectDescriptors = 1ul << 28;

    /// <summary>Both sides say from which index on they want to be notified.</summary>
    public const ulong EventIndex = 1ul << 29;

    /// <summary>Not a legacy device.</summary>
    public const ulong Version1 = 1ul << 32;

    /// <summary>Packed rings.</summary>
    public const ulong PackedRing = 1ul << 34;

    /// <summary>Status: the driver found the device.</summary>
    public const byte StatusDriverOk = 0x04;

    /// <summary>Status: features are agreed on.</summary>
    public const byte StatusFeaturesOk = 0x08;

    /// <summary>Status: the device is broken until it is reset.</summary>
    public const byte StatusNeedsReset = 0x40;
}
