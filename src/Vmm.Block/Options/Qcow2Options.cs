using Vmm.Block.Drivers.Qcow2;
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

    /// <summary>Metadata over which nothing else may be written.</summary>
    public Qcow2OverlapChecks? OverlapCheck { get; init; }

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

    /// <summary>The password of an encrypted image.</summary>
    public BlockdevQcow2Encryption? Encrypt { get; init; }

    /// <summary>The external data file; the one that the image names by default.</summary>
    public BlockdevRef? DataFile { get; init; }
}

/// <summary>Which metadata is protected.</summary>
[QapiEnum]
[QapiName("Qcow2OverlapCheckMode")]
public enum Qcow2OverlapMode
{
    /// <summary>None.</summary>
    None,

    /// <summary>What lies at one place.</summary>
    Constant,

    /// <summary>What is in memory.</summary>
    Cached,

    /// <summary>All.</summary>
    All,
}

/// <summary>Which metadata is protected, by structure.</summary>
[QapiStruct]
public sealed partial record Qcow2OverlapCheckFlags
{
    /// <summary>Where the other members are absent; "cached" by default.</summary>
    public Qcow2OverlapMode? Template { get; init; }

    /// <summary>The header.</summary>
    public bool? MainHeader { get; init; }

    /// <summary>The active L1 table.</summary>
    public bool? ActiveL1 { get; init; }

    /// <summary>Active L2 tables.</summary>
    public bool? ActiveL2 { get; init; }

    /// <summary>The refcount table.</summary>
    public bool? RefcountTable { get; init; }

    /// <summary>Refcount blocks.</summary>
    public bool? RefcountBlock { get; init; }

    /// <summary>The table of snapshots.</summary>
    public bool? SnapshotTable { get; init; }

    /// <summary>L1 tables of snapshots.</summary>
    public bool? InactiveL1 { get; init; }

    /// <summary>L2 tables of snapshots.</summary>
    public bool? InactiveL2 { get; init; }

    /// <summary>The directory of persistent bitmaps.</summary>
    public bool? BitmapDirectory { get; init; }
}

/// <summary>Which metadata is protected.</summary>
[QapiAlternate]
public sealed partial record Qcow2OverlapChecks
{
    /// <summary>By structure.</summary>
    public Qcow2OverlapCheckFlags? Flags { get; init; }

    /// <summary>In short.</summary>
    public Qcow2OverlapMode? Mode { get; init; }

    /// <summary>The structures.</summary>
    internal Qcow2Structures ToStructures()
    {
        Qcow2Structures all = (Mode ?? Flags?.Template ?? Qcow2OverlapMode.Cached) switch
        {
            Qcow2OverlapMode.None => Qcow2Structures.None,
            Qcow2OverlapMode.Constant => Qcow2Structures.Constant,
            Qcow2OverlapMode.All => Qcow2Structures.All,
            _ => Qcow2Structures.Cached,
        };
        Set(Flags?.MainHeader, Qcow2Structures.MainHeader);
        Set(Flags?.ActiveL1, Qcow2Structures.ActiveL1);
        Set(Flags?.ActiveL2, Qcow2Structures.ActiveL2);
        Set(Flags?.RefcountTable, Qcow2Structures.RefcountTable);
        Set(Flags?.RefcountBlock, Qcow2Structures.RefcountBlock);
        Set(Flags?.SnapshotTable, Qcow2Structures.SnapshotTable);
        Set(Flags?.InactiveL1, Qcow2Structures.InactiveL1);
        Set(Flags?.InactiveL2, Qcow2Structures.InactiveL2);
        Set(Flags?.BitmapDirectory, Qcow2Structures.BitmapDirectory);
        return all;

        void Set(bool? value, Qcow2Structures one) => all = value is null ? all : value.Value ? all | one : all & ~one;
    }
}
