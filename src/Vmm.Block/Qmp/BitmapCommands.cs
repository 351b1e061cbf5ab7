using Vmm.Block.Graph;
using Vmm.Qapi;

namespace Vmm.Block.Qmp;

/// <summary>Commands over dirty bitmaps. Home: main loop; a change drains the node.</summary>
public sealed class BitmapCommands(TransactionRunner transactions)
{
    private BlockGraph Graph => transactions.Jobs.Graph;

    /// <summary>Adds a bitmap.</summary>
    [QmpCommand("block-dirty-bitmap-add", ArgsType = "node:s,name:s,granularity:i?,persistent:b?,disabled:b?", AllowPreconfig = true, Since = "2.4")]
    public async Task Add(string node, string name, uint? granularity, bool? persistent, bool? disabled) =>
        await transactions.RunAsync(new AddBitmapAction(Graph, new BlockDirtyBitmapAdd
        {
            Node = node,
            Name = name,
            Granularity = granularity,
            Persistent = persistent,
            Disabled = disabled,
        }));

    /// <summary>Removes a bitmap.</summary>
    [QmpCommand("block-dirty-bitmap-remove", ArgsType = "node:s,name:s", AllowPreconfig = true, Since = "2.4")]
    public async Task Remove(string node, string name) =>
        await transactions.RunAsync(new RemoveBitmapAction(Graph, Named(node, name)));

    /// <summary>Makes a bitmap clean.</summary>
    [QmpCommand("block-dirty-bitmap-clear", ArgsType = "node:s,name:s", AllowPreconfig = true, Since = "2.4")]
    public async Task Clear(string node, string name) =>
        await transactions.RunAsync(new ClearBitmapAction(Graph, Named(node, name)));

    /// <summary>Has a bitmap record writes.</summary>
    [QmpCommand("block-dirty-bitmap-enable", ArgsType = "node:s,name:s", AllowPreconfig = true, Since = "4.0")]
    public async Task Enable(string node, string name) =>
        await transactions.RunAsync(new EnableBitmapAction(Graph, Named(node, name), isEnabled: true));

    /// <summary>Has a bitmap record no more writes.</summary>
    [QmpCommand("block-dirty-bitmap-disable", ArgsType = "node:s,name:s", AllowPreconfig = true, Since = "4.0")]
    public async Task Disable(string node, string name) =>
        await transactions.RunAsync(new EnableBitmapAction(Graph, Named(node, name), isEnabled: false));

    /// <summary>Adds what other bitmaps have to one; all of them or none.</summary>
    [QmpCommand("block-dirty-bitmap-merge", ArgsType = "node:s,target:s,bitmaps:q", AllowPreconfig = true, Since = "4.0")]
    public async Task Merge(string node, string target, IReadOnlyList<BlockDirtyBitmapOrStr> bitmaps) =>
        await transactions.RunAsync(new MergeBitmapAction(Graph, new BlockDirtyBitmapMerge { Node = node, Target = target, Bitmaps = bitmaps }));

    /// <summary>A digest of a bitmap, for tests.</summary>
    [QmpCommand("x-debug-block-dirty-bitmap-sha256", ArgsType = "node:s,name:s", AllowPreconfig = true, Since = "2.10")]
    [QapiFeature("unstable")]
    public BlockDirtyBitmapSha256 Sha256(string node, string name) => new() { Sha256 = BitmapAction.Find(Graph, node, name).Bits.Sha256() };

    private static BlockDirtyBitmap Named(string node, string name) => new() { Node = node, Name = name };
}
