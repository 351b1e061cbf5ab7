using Vmm.Qapi;

namespace Vmm.Block.Options;

/// <summary>Points in the work of a driver at which rules of blkdebug apply.</summary>
[QapiEnum]
public enum BlkdebugEvent
{
    /// <summary>An entry of L1 is written.</summary>
    [QapiName("l1_update")]
    L1Update,

    /// <summary>A longer L1 gets a place.</summary>
    [QapiName("l1_grow_alloc_table")]
    L1GrowAllocTable,

    /// <summary>A longer L1 is written.</summary>
    [QapiName("l1_grow_write_table")]
    L1GrowWriteTable,

    /// <summary>The header refers to a longer L1.</summary>
    [QapiName("l1_grow_activate_table")]
    L1GrowActivateTable,

    /// <summary>A table of L2 is read.</summary>
    [QapiName("l2_load")]
    L2Load,

    /// <summary>A table of L2 is written.</summary>
    [QapiName("l2_update")]
    L2Update,

    /// <summary>An entry of a compressed cluster is written.</summary>
    [QapiName("l2_update_compressed")]
    L2UpdateCompressed,

    /// <summary>A table of L2 is read to be copied.</summary>
    [QapiName("l2_alloc_cow_read")]
    L2AllocCowRead,

    /// <summary>A new table of L2 is written.</summary>
    [QapiName("l2_alloc_write")]
    L2AllocWrite,

    /// <summary>Data is read.</summary>
    [QapiName("read_aio")]
    ReadAio,

    /// <summary>Data of the backing file is read.</summary>
    [QapiName("read_backing_aio")]
    ReadBackingAio,

    /// <summary>A compressed cluster is read.</summary>
    [QapiName("read_compressed")]
    ReadCompressed,

    /// <summary>Data is written.</summary>
    [QapiName("write_aio")]
    WriteAio,

    /// <summary>A compressed cluster is written.</summary>
    [QapiName("write_compressed")]
    WriteCompressed,

    /// <summary>The state of a machine is read.</summary>
    [QapiName("vmstate_load")]
    VmstateLoad,

    /// <summary>The state of a machine is written.</summary>
    [QapiName("vmstate_save")]
    VmstateSave,

    /// <summary>What surrounds new data is read.</summary>
    [QapiName("cow_read")]
    CowRead,

    /// <summary>What surrounds new data is written.</summary>
    [QapiName("cow_write")]
    CowWrite,

    /// <summary>The refcount table is read.</summary>
    [QapiName("reftable_load")]
    ReftableLoad,

    /// <summary>The refcount table grows.</summary>
    [QapiName("reftable_grow")]
    ReftableGrow,

    /// <summary>The refcount table is written.</summary>
    [QapiName("reftable_update")]
    ReftableUpdate,

    /// <summary>A refcount block is read.</summary>
    [QapiName("refblock_load")]
    RefblockLoad,

    /// <summary>A refcount block is written.</summary>
    [QapiName("refblock_update")]
    RefblockUpdate,

    /// <summary>A part of a refcount block is written.</summary>
    [QapiName("refblock_update_part")]
    RefblockUpdatePart,

    /// <summary>A refcount block gets a place.</summary>
    [QapiName("refblock_alloc")]
    RefblockAlloc,

    /// <summary>The refcount table refers to a new block.</summary>
    [QapiName("refblock_alloc_hookup")]
    RefblockAllocHookup,

    /// <summary>A new refcount block is written.</summary>
    [QapiName("refblock_alloc_write")]
    RefblockAllocWrite,

    /// <summary>Blocks of a new refcount table are written.</summary>
    [QapiName("refblock_alloc_write_blocks")]
    RefblockAllocWriteBlocks,

    /// <summary>A new refcount table is written.</summary>
    [QapiName("refblock_alloc_write_table")]
    RefblockAllocWriteTable,

    /// <summary>The header refers to a new refcount table.</summary>
    [QapiName("refblock_alloc_switch_table")]
    RefblockAllocSwitchTable,

    /// <summary>Clusters get a place.</summary>
    [QapiName("cluster_alloc")]
    ClusterAlloc,

    /// <summary>A compressed cluster gets a place.</summary>
    [QapiName("cluster_alloc_bytes")]
    ClusterAllocBytes,

    /// <summary>Clusters are freed.</summary>
    [QapiName("cluster_free")]
    ClusterFree,

    /// <summary>Metadata leaves the caches.</summary>
    [QapiName("flush_to_os")]
    FlushToOs,

    /// <summary>A flush reaches the file.</summary>
    [QapiName("flush_to_disk")]
    FlushToDisk,

    /// <summary>The first block of a write that is not aligned is read.</summary>
    [QapiName("pwritev_rmw_head")]
    PwritevRmwHead,

    /// <summary>It has been read.</summary>
    [QapiName("pwritev_rmw_after_head")]
    PwritevRmwAfterHead,

    /// <summary>The last block is read.</summary>
    [QapiName("pwritev_rmw_tail")]
    PwritevRmwTail,

    /// <summary>It has been read.</summary>
    [QapiName("pwritev_rmw_after_tail")]
    PwritevRmwAfterTail,

    /// <summary>A write begins.</summary>
    [QapiName("pwritev")]
    Pwritev,

    /// <summary>A write of zeroes begins.</summary>
    [QapiName("pwritev_zero")]
    PwritevZero,

    /// <summary>A write has ended.</summary>
    [QapiName("pwritev_done")]
    PwritevDone,

    /// <summary>An image is about to be emptied.</summary>
    [QapiName("empty_image_prepare")]
    EmptyImagePrepare,

    /// <summary>Entries are taken from L1.</summary>
    [QapiName("l1_shrink_write_table")]
    L1ShrinkWriteTable,

    /// <summary>Their tables are freed.</summary>
    [QapiName("l1_shrink_free_l2_clusters")]
    L1ShrinkFreeL2Clusters,

    /// <summary>What was read is written by copy-on-read.</summary>
    [QapiName("cor_write")]
    CorWrite,

    /// <summary>The file grows for new clusters.</summary>
    [QapiName("cluster_alloc_space")]
    ClusterAllocSpace,

    /// <summary>When the node is opened.</summary>
    [QapiName("none")]
    None,
}

/// <summary>Kinds of requests that blkdebug tells apart.</summary>
[QapiEnum]
[QapiName("BlkdebugIOType")]
public enum BlkdebugIoType
{
    /// <summary>Reads.</summary>
    Read,

    /// <summary>Writes.</summary>
    Write,

    /// <summary>Writes of zeroes.</summary>
    WriteZeroes,

    /// <summary>Discards.</summary>
    Discard,

    /// <summary>Flushes.</summary>
    Flush,

    /// <summary>Questions what a range holds.</summary>
    BlockStatus,
}

/// <summary>Requests fail once an event has happened.</summary>
[QapiStruct]
public sealed partial record BlkdebugInjectErrorOptions
{
    /// <summary>The event.</summary>
    public required BlkdebugEvent Event { get; init; }

    /// <summary>Only in this state; 0, the default, for any.</summary>
    public long? State { get; init; }

    /// <summary>Which requests; all but questions what a range holds by default.</summary>
    public BlkdebugIoType? Iotype { get; init; }

    /// <summary>Number of the error; EIO by default.</summary>
    public long? Errno { get; init; }

    /// <summary>Only requests that touch this sector.</summary>
    public long? Sector { get; init; }

    /// <summary>One request only.</summary>
    public bool? Once { get; init; }

    /// <summary>The request fails before it returns to its caller's loop.</summary>
    public bool? Immediately { get; init; }
}

/// <summary>An event changes the state.</summary>
[QapiStruct]
public sealed partial record BlkdebugSetStateOptions
{
    /// <summary>The event.</summary>
    public required BlkdebugEvent Event { get; init; }

    /// <summary>Only in this state; 0, the default, for any.</summary>
    public long? State { get; init; }

    /// <summary>The state that follows.</summary>
    [QapiName("new_state")]
    public required long NewState { get; init; }
}

/// <summary>A permission by name.</summary>
[QapiEnum]
[QapiName("BlockPermission")]
public enum BlkdebugPermission
{
    /// <summary>Reads that see consistent contents.</summary>
    ConsistentRead,

    /// <summary>Writes.</summary>
    Write,

    /// <summary>Writes that do not change what is read.</summary>
    WriteUnchanged,

    /// <summary>Changes of the size.</summary>
    Resize,
}

/// <summary>A filter that fails requests and has limits.</summary>
[QapiStruct]
public sealed partial record BlockdevOptionsBlkdebug
{
    /// <summary>What is below.</summary>
    public required BlockdevRef Image { get; init; }

    /// <summary>A file with more rules.</summary>
    public string? Config { get; init; }

    /// <summary>Alignment of requests in bytes.</summary>
    public long? Align { get; init; }

    /// <summary>Longest read or write in bytes.</summary>
    public int? MaxTransfer { get; init; }

    /// <summary>Alignment of writes of zeroes that are worth while.</summary>
    public int? OptWriteZero { get; init; }

    /// <summary>Longest write of zeroes.</summary>
    public int? MaxWriteZero { get; init; }

    /// <summary>Alignment of discards that are worth while.</summary>
    public int? OptDiscard { get; init; }

    /// <summary>Longest discard.</summary>
    public int? MaxDiscard { get; init; }

    /// <summary>Errors.</summary>
    public IReadOnlyList<BlkdebugInjectErrorOptions>? InjectError { get; init; }

    /// <summary>Changes of the state.</summary>
    public IReadOnlyList<BlkdebugSetStateOptions>? SetState { get; init; }

    /// <summary>What is taken of the child beyond what is needed.</summary>
    public IReadOnlyList<BlkdebugPermission>? TakeChildPerms { get; init; }

    /// <summary>What is not shared of the child although it could be.</summary>
    public IReadOnlyList<BlkdebugPermission>? UnshareChildPerms { get; init; }
}

/// <summary>A filter that compares what two children read.</summary>
[QapiStruct]
public sealed partial record BlockdevOptionsBlkverify
{
    /// <summary>The child that is tested.</summary>
    public required BlockdevRef Test { get; init; }

    /// <summary>The child that is right.</summary>
    public required BlockdevRef Raw { get; init; }
}

/// <summary>A filter that makes its file longer than writes need.</summary>
[QapiStruct]
public sealed partial record BlockdevOptionsPreallocate
{
    /// <summary>The file.</summary>
    public required BlockdevRef File { get; init; }

    /// <summary>The end of the file is aligned to this; 1 MiB by default.</summary>
    public long? PreallocAlign { get; init; }

    /// <summary>Bytes by which the file grows; 128 MiB by default.</summary>
    public long? PreallocSize { get; init; }
}

/// <summary>A node over one file, without options of its own.</summary>
[QapiStruct]
public sealed partial record BlockdevOptionsGenericFormat
{
    /// <summary>What is below.</summary>
    public required BlockdevRef File { get; init; }
}

/// <summary>An image over one file that may have a backing file.</summary>
[QapiStruct]
public sealed partial record BlockdevOptionsGenericCowFormat
{
    /// <summary>Where the image is.</summary>
    public required BlockdevRef File { get; init; }

    /// <summary>Its backing file; the one that the image names by default.</summary>
    public BlockdevRefOrNull? Backing { get; init; }
}
