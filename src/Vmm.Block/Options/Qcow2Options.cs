using Vmm.Qapi;

namespace Vmm.Block.Options;

/// <summary>A backing file: a node that exists, one to be made, or none.</summary>
[QapiAlternate]
public sealed partial record BlockdevRefOrNull
{
    /// <summary>To be made.</summary>
    public BlockdevOptions? Definition { get; init; }

    /// <summary>Name of a node.</summary>
    public string? Reference { get; init; }

    /// <summary>None, whatever the image says.</summary>
    public QNull? Null { get; init; }

    /// <summary>The node; null for none.</summary>
    internal BlockdevRef? ToRef() => Null is not null ? null : new BlockdevRef { Definition = Definition, Reference = Reference };
}

/// <summary>A qcow2 image.</summary>
[QapiStruct]
public sealed partial record BlockdevOptionsQcow2
{
    /// <summary>Where the image is.</summary>
    public required BlockdevRef File { get; init; }

    /// <summary>Its backing file; the one that the image names by default.</summary>
    public BlockdevRefOrNull? Backing { get; init; }

    /// <summary>Refcounts on disk may be stale while the image is open.</summary>
    public bool? LazyRefcounts { get; init; }

    /// <summary>Discards of the guest are passed to the file; by default if the node was opened with discard=unmap.</summary>
    public bool? PassDiscardRequest { get; init; }

    /// <summary>Clusters that go with a snapshot are discarded in the file; on by default.</summary>
    public bool? PassDiscardSnapshot { get; init; }

    /// <summary>Clusters that are freed otherwise are discarded in the file; off by default.</summary>
    public bool? PassDiscardOther { get; init; }

    /// <summary>Bytes of both metadata caches together.</summary>
    public long? CacheSize { get; init; }

    /// <summary>Bytes of the cache of L2 tables.</summary>
    public long? L2CacheSize { get; init; }

    /// <summary>Bytes of an entry of the cache of L2 tables.</summary>
    public long? L2CacheEntrySize { get; init; }

    /// <summary>Bytes of the cache of refcount blocks.</summary>
    public long? RefcountCacheSize { get; init; }

    /// <summary>Seconds after which unused cache entries give back their memory; 0 for never, 600 by default.</summary>
    public long? CacheCleanInterval { get; init; }

    /// <summary>The external data file; the one that the image names by default.</summary>
    public BlockdevRef? DataFile { get; init; }
}
