using Vmm.ObjectModel.Devices;
using Vmm.ObjectModel.Qom;

namespace Vmm.Devices.Virtio;

/// <summary>What virtio devices plug into.</summary>
[QomType("virtio-bus", Parent = "bus")]
public abstract partial class VirtioBus : Bus
{
    /// <inheritdoc/>
    public override int MaximumDevices => 1;

    /// <summary>The way to the guest.</summary>
    public abstract VirtioMmio Transport { get; }
}

/// <summary>The place for one device behind a memory-mapped transport.</summary>
[QomType("virtio-mmio-bus")]
public sealed partial class VirtioMmioBus : VirtioBus
{
    /// <inheritdoc/>
    public override VirtioMmio Transport => (VirtioMmio)ParentDevice!;

    /// <inheritdoc/>
    public override string? DevicePath(Device device) =>
        Transport.FormatTransportAddress ? $"virtio-mmio@{Transport.Address:x16}" : null;
}
