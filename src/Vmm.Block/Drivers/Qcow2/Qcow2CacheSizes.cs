using Vmm.Block.Options;
using Vmm.Qapi;

namespace Vmm.Block.Drivers.Qcow2;

/// <summary>Sizes of the metadata caches as options and image ask for them. Pure.</summary>
/// <param name="L2Entries">Slices of L2 tables.</param>
/// <param name="L2EntryBytes">Bytes of a slice.</param>
/// <param name="RefcountEntries">Refcount blocks.</param>
internal readonly record struct Qcow2CacheSizes(int L2Entries, int L2EntryBytes, int RefcountEntries)
{
    private const long DefaultL2Bytes = 32 << 20;
    private const int MinL2Entries = 2;
    private const int MinRefcountEntries = 4;

    /// <summary>The sizes.</summary>
    /// <exception cref="QapiException">Options contradict each other.</exception>
    internal static Qcow2CacheSizes For(BlockdevOptionsQcow2 options, Qcow2Header header)
    {
        int clusterBytes = header.ClusterBytes;
        long entries = (header.Size + clusterBytes - 1) >> header.ClusterBits;
        long wholeDisk = ((entries * header.L2EntryBytes) + clusterBytes - 1) & ~(clusterBytes - 1L);
        long l2 = Size(options.L2CacheSize, "l2-cache-size") ?? DefaultL2Bytes;
        long refcounts = Size(options.RefcountCacheSize, "refcount-cache-size") ?? 0;
        long? entryBytes = Size(options.L2CacheEntrySize, "l2-cache-entry-size");
        l2 = Math.Min(l2, wholeDisk);
        if (Size(options.CacheSize, "cache-size") is { } both)
        {
            (l2, refcounts) = Split(options, both, l2, refcounts, Math.Min(options.L2CacheSize ?? both, wholeDisk), MinRefcountEntries * (long)clusterBytes);
        }

        // When not everything fits, small entries load and leave faster.
        long entry = entryBytes ?? (l2 < wholeDisk ? Math.Min(clusterBytes, 4096) : clusterBytes);
        if (entry < 1 << Qcow2Format.MinClusterBits || entry > clusterBytes || !long.IsPow2(entry))
        {
            throw new QapiException($"L2 cache entry size must be a power of two between {1 << Qcow2Format.MinClusterBits} and the cluster size ({clusterBytes})");
        }

        return new Qcow2CacheSizes(
            Count(l2 / entry, MinL2Entries, "L2"), (int)entry, Count(refcounts / clusterBytes, MinRefcountEntries, "Refcount"));
    }

    private static (long L2, long Refcounts) Split(
        BlockdevOptionsQcow2 options, long both, long l2, long refcounts, long l2Max, long refcountMin)
    {
        if (options.L2CacheSize is not null && options.RefcountCacheSize is not null)
        {
            throw new QapiException("cache-size, l2-cache-size and refcount-cache-size may not be set at the same time");
        }

        if (options.L2CacheSize > both)
        {
            throw new QapiException("l2-cache-size may not exceed cache-size");
        }

        if (refcounts > both)
        {
            throw new QapiException("refcount-cache-size may not exceed cache-size");
        }

        if (options.L2CacheSize is not null)
        {
            return (l2, both - l2);
        }

        if (options.RefcountCacheSize is not null)
        {
            return (both - refcounts, refcounts);
        }

        // L2 first, as it is what guests need; the rest is for refcounts.
        return both >= l2Max + refcountMin
            ? (l2Max, both - l2Max)
            : (both - Math.Min(both, refcountMin), Math.Min(both, refcountMin));
    }

    private static long? Size(long? value, string name) => value is null or >= 0
        ? value
        : throw new QapiException($"Parameter '{name}' expects a non-negative number below 2^64");

    private static int Count(long entries, int least, string name) => entries <= int.MaxValue
        ? (int)Math.Max(entries, least)
        : throw new QapiException($"{name} cache size too big");
}
