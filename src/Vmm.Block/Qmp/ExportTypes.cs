using Vmm.Qapi;
using Vmm.Qapi.Types;

namespace Vmm.Block.Qmp;

/// <summary>How a node is exported.</summary>
[QapiEnum]
public enum BlockExportType
{
    /// <summary>To NBD clients.</summary>
    Nbd,

    /// <summary>As a virtio disk to a machine in another process.</summary>
    VhostUserBlk,
}

/// <summary>What becomes of an export that is in use.</summary>
[QapiEnum]
public enum BlockExportRemoveMode
{
    /// <summary>It is not removed.</summary>
    Safe,

    /// <summary>Its clients are disconnected.</summary>
    Hard,
}

/// <summary>An export to be made.</summary>
[QapiUnion]
public sealed partial record BlockExportOptions
{
    /// <summary>How.</summary>
    public required BlockExportType Type { get; init; }

    /// <summary>Name of the export, unique.</summary>
    public required string Id { get; init; }

    /// <summary>The node stays in the I/O thread; an error if it cannot go there.</summary>
    public bool? FixedIothread { get; init; }

    /// <summary>Id of the I/O thread that serves the export.</summary>
    public string? Iothread { get; init; }

    /// <summary>The node.</summary>
    public required string NodeName { get; init; }

    /// <summary>Clients may write; they may not by default.</summary>
    public bool? Writable { get; init; }

    /// <summary>Each write is on stable storage before its reply; off by default.</summary>
    public bool? Writethrough { get; init; }

    /// <summary>To NBD clients.</summary>
    [QapiBranch("nbd")]
    public BlockExportOptionsNbd? Nbd { get; init; }

    /// <summary>As a virtio disk.</summary>
    [QapiBranch("vhost-user-blk")]
    public BlockExportOptionsVhostUserBlk? VhostUserBlk { get; init; }
}

/// <summary>An export to NBD clients.</summary>
[QapiStruct]
public sealed partial record BlockExportOptionsNbd
{
    /// <summary>Name that clients ask for; that of the node by default.</summary>
    public string? Name { get; init; }

    /// <summary>For people.</summary>
    public string? Description { get; init; }

    /// <summary>Bitmaps that clients may see.</summary>
    public IReadOnlyList<BlockDirtyBitmapOrStr>? Bitmaps { get; init; }

    /// <summary>Clients may see the depth in the chain of backing files.</summary>
    public bool? AllocationDepth { get; init; }
}

/// <summary>An export as a virtio disk.</summary>
[QapiStruct]
public sealed partial record BlockExportOptionsVhostUserBlk
{
    /// <summary>Where front ends connect: a unix address, or a descriptor that listens.</summary>
    public required SocketAddress Addr { get; init; }

    /// <summary>Smallest unit that is addressed, in bytes: a power of two from 512 to 2 MiB; 512 by default.</summary>
    [QapiSize]
    public ulong? LogicalBlockSize { get; init; }

    /// <summary>Queues; 1 by default.</summary>
    public ushort? NumQueues { get; init; }
}

/// <summary>An export.</summary>
[QapiStruct]
public sealed partial record BlockExportInfo
{
    /// <summary>Name of the export.</summary>
    public required string Id { get; init; }

    /// <summary>How.</summary>
    public required BlockExportType Type { get; init; }

    /// <summary>The node.</summary>
    public required string NodeName { get; init; }

    /// <summary>It ends when its last client has gone.</summary>
    public required bool ShuttingDown { get; init; }
}

/// <summary>An export has ended.</summary>
/// <param name="Id">Its name.</param>
[QmpEvent("BLOCK_EXPORT_DELETED")]
public sealed partial record BlockExportDeletedEvent(string Id);
