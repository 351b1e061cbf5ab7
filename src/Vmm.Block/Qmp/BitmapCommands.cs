using System.Numerics;
using System.Text;
using Vmm.Block.Bitmaps;
using Vmm.Block.Drivers;
using Vmm.Block.Graph;
using Vmm.Qapi;

namespace Vmm.Block.Qmp;

/// <summary>Commands over dirty bitmaps. Home: main loop; a change drains the node.</summary>
public sealed class BitmapCommands(BlockGraph graph)
{
    private const uint MinGranularity = 512;

    /// <summary>Adds a bitmap.</summary>
    [QmpCommand("block-dirty-bitmap-add", ArgsType = "node:s,name:s,granularity:i?,persistent:b?,disabled:b?", AllowPreconfig = true, Since = "2.4")]
    public async Task Add(string node, string name, uint? granularity, bool? persistent, bool? disabled)
    {
        if (name.Length == 0)
        {
            throw new QapiException("Bitmap name cannot be empty");
        }

        BlockNode owner = graph.Lookup(node, node);
        if (granularity is { } wanted && (wanted < MinGranularity || !BitOperations.IsPow2(wanted)))
        {
            throw new QapiException("Granularity must be power of 2 and at least 512");
        }

        if (persistent ?? false)
        {
            throw new QapiException($"Can't store persistent bitmaps to {node}: Operation not supported");
        }

        if (owner.FindBitmap(name) is not null)
        {
            throw new QapiException("Bitmap already exists: " + name);
        }

        if (Encoding.UTF8.GetByteCount(name) > DirtyBitmap.MaxPersistentName)
        {
            throw new QapiException("Bitmap name too long: " + name);
        }

        ImageDescription image = new();
        owner.Driver.DescribeImage(image);
        await graph.ChangeDrainedAsync(owner, () => owner.AddBitmap(
            new DirtyBitmap(owner, name, granularity ?? DirtyBitmap.DefaultGranularity(image.ClusterSize)) { IsEnabled = !(disabled ?? false) }));
    }

    /// <summary>Removes a bitmap.</summary>
    [QmpCommand("block-dirty-bitmap-remove", ArgsType = "node:s,name:s", AllowPreconfig = true, Since = "2.4")]
    public async Task Remove(string node, string name)
    {
        DirtyBitmap bitmap = Find(node, name);
        bitmap.CheckUsable(allowInconsistent: true);
        await graph.ChangeDrainedAsync(bitmap.Node, () => bitmap.Node.RemoveBitmap(bitmap));
    }

    /// <summary>Makes a bitmap clean.</summary>
    [QmpCommand("block-dirty-bitmap-clear", ArgsType = "node:s,name:s", AllowPreconfig = true, Since = "2.4")]
    public async Task Clear(string node, string name)
    {
        DirtyBitmap bitmap = Find(node, name);
        bitmap.CheckUsable();
        await graph.ChangeDrainedAsync(bitmap.Node, bitmap.Bits.Clear);
    }

    /// <summary>Has a bitmap record writes.</summary>
    [QmpCommand("block-dirty-bitmap-enable", ArgsType = "node:s,name:s", AllowPreconfig = true, Since = "4.0")]
    public async Task Enable(string node, string name)
    {
        DirtyBitmap bitmap = Find(node, name);
        bitmap.CheckUsable();
        await graph.ChangeDrainedAsync(bitmap.Node, () => { bitmap.IsEnabled = true; });
    }

    /// <summary>Has a bitmap record no more writes.</summary>
    [QmpCommand("block-dirty-bitmap-disable", ArgsType = "node:s,name:s", AllowPreconfig = true, Since = "4.0")]
    public async Task Disable(string node, string name)
    {
        DirtyBitmap bitmap = Find(node, name);
        bitmap.CheckUsable();
        await graph.ChangeDrainedAsync(bitmap.Node, () => { bitmap.IsEnabled = false; });
    }

    /// <summary>Adds what other bitmaps have to one; all of them or none.</summary>
    [QmpCommand("block-dirty-bitmap-merge", ArgsType = "node:s,target:s,bitmaps:q", AllowPreconfig = true, Since = "4.0")]
    public async Task Merge(string node, string target, IReadOnlyList<BlockDirtyBitmapOrStr> bitmaps)
    {
        DirtyBitmap destination = Find(node, target);
        List<DirtyBitmap> sources = [];
        foreach (BlockDirtyBitmapOrStr item in bitmaps)
        {
            DirtyBitmap source = item.External is { } external
                ? Find(external.Node, external.Name)
                : destination.Node.FindBitmap(item.Local!) ?? throw NotFound(item.Local!);
            if (source.Bits.Length != destination.Bits.Length)
            {
                throw new QapiException(
                    $"Bitmaps are of different sizes (destination size is {destination.Bits.Length}, source size is {source.Bits.Length}) and can't be merged");
            }

            destination.CheckUsable();
            source.CheckUsable();
            sources.Add(source);
        }

        await graph.ChangeDrainedAsync(destination.Node, () =>
        {
            // The target may be among the sources.
            BitSet merged = destination.Bits.Clone();
            foreach (DirtyBitmap source in sources)
            {
                merged.Merge(source.Bits);
            }

            destination.Restore(merged);
        });
    }

    /// <summary>A digest of a bitmap, for tests.</summary>
    [QmpCommand("x-debug-block-dirty-bitmap-sha256", ArgsType = "node:s,name:s", AllowPreconfig = true, Since = "2.10")]
    [QapiFeature("unstable")]
    public BlockDirtyBitmapSha256 Sha256(string node, string name) => new() { Sha256 = Find(node, name).Bits.Sha256() };

    private static QapiException NotFound(string name) => new($"Dirty bitmap '{name}' not found");

    private DirtyBitmap Find(string node, string name)
    {
        BlockNode owner = graph.Find(node) ?? throw new QapiException($"Node '{node}' not found");
        return owner.FindBitmap(name) ?? throw NotFound(name);
    }
}
