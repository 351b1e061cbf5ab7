using Vmm.Qapi;

namespace Vmm.ObjectModel.Qmp;

/// <summary>Kinds of memory devices.</summary>
[QapiEnum]
public enum MemoryDeviceInfoKind
{
    /// <summary>A DIMM.</summary>
    Dimm,

    /// <summary>A persistent DIMM.</summary>
    Nvdimm,

    /// <summary>Persistent memory behind virtio.</summary>
    VirtioPmem,

    /// <summary>Resizeable memory behind virtio.</summary>
    VirtioMem,

    /// <summary>Enclave memory.</summary>
    SgxEpc,
}

/// <summary>A memory device.</summary>
[QapiUnion(Discriminator = "type")]
public sealed partial record MemoryDeviceInfo
{
    /// <summary>Its kind.</summary>
    public required MemoryDeviceInfoKind Type { get; init; }

    /// <summary>A DIMM.</summary>
    [QapiBranch("dimm", Wrapped = true)]
    public DimmDeviceInfo? Dimm { get; init; }

    /// <summary>A persistent DIMM.</summary>
    [QapiBranch("nvdimm", Wrapped = true)]
    public DimmDeviceInfo? Nvdimm { get; init; }

    /// <summary>Persistent memory behind virtio.</summary>
    [QapiBranch("virtio-pmem", Wrapped = true)]
    public VirtioPmemDeviceInfo? VirtioPmem { get; init; }

    /// <summary>Resizeable memory behind virtio.</summary>
    [QapiBranch("virtio-mem", Wrapped = true)]
    public VirtioMemDeviceInfo? VirtioMem { get; init; }

    /// <summary>Enclave memory.</summary>
    [QapiBranch("sgx-epc", Wrapped = true)]
    public SgxEpcDeviceInfo? SgxEpc { get; init; }
}

/// <summary>A DIMM.</summary>
[QapiStruct]
[QapiName("PCDIMMDeviceInfo")]
public sealed partial record DimmDeviceInfo
{
    /// <summary>Device id.</summary>
    public string? Id { get; init; }

    /// <summary>Physical address.</summary>
    public required long Addr { get; init; }

    /// <summary>Bytes.</summary>
    public required long Size { get; init; }

    /// <summary>Slot number.</summary>
    public required long Slot { get; init; }

    /// <summary>NUMA node.</summary>
    public required long Node { get; init; }

    /// <summary>Path of the memory back end.</summary>
    public required string Memdev { get; init; }

    /// <summary>Added while the machine ran.</summary>
    public required bool Hotplugged { get; init; }

    /// <summary>Can be removed.</summary>
    public required bool Hotpluggable { get; init; }
}

/// <summary>Persistent memory behind virtio.</summary>
[QapiStruct]
[QapiName("VirtioPMEMDeviceInfo")]
public sealed partial record VirtioPmemDeviceInfo
{
    /// <summary>Device id.</summary>
    public string? Id { get; init; }

    /// <summary>Physical address.</summary>
    public required ulong Memaddr { get; init; }

    /// <summary>Bytes.</summary>
    public required ulong Size { get; init; }

    /// <summary>Path of the memory back end.</summary>
    public required string Memdev { get; init; }
}

/// <summary>Resizeable memory behind virtio.</summary>
[QapiStruct]
[QapiName("VirtioMEMDeviceInfo")]
public sealed partial record VirtioMemDeviceInfo
{
    /// <summary>Device id.</summary>
    public string? Id { get; init; }

    /// <summary>Physical address.</summary>
    public required ulong Memaddr { get; init; }

    /// <summary>Bytes that the host wants the guest to have.</summary>
    public required ulong RequestedSize { get; init; }

    /// <summary>Bytes that the guest has.</summary>
    public required ulong Size { get; init; }

    /// <summary>Most bytes that it can have.</summary>
    public required ulong MaxSize { get; init; }

    /// <summary>Granularity in bytes.</summary>
    public required ulong BlockSize { get; init; }

    /// <summary>NUMA node.</summary>
    public required long Node { get; init; }

    /// <summary>Path of the memory back end.</summary>
    public required string Memdev { get; init; }
}

/// <summary>Enclave memory.</summary>
[QapiStruct]
[QapiName("SgxEPCDeviceInfo")]
public sealed partial record SgxEpcDeviceInfo
{
    /// <summary>Device id.</summary>
    public string? Id { get; init; }

    /// <summary>Physical address.</summary>
    public required ulong Memaddr { get; init; }

    /// <summary>Bytes.</summary>
    public required ulong Size { get; init; }

    /// <summary>NUMA node.</summary>
    public required long Node { get; init; }

    /// <summary>Path of the memory back end.</summary>
    public required string Memdev { get; init; }
}
