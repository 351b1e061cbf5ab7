using Vmm.Block.Drivers.Debug;
using Vmm.Block.Graph;
using Vmm.Block.Options;

namespace Vmm.Block.Drivers;

/// <content>Filters that operators put into the graph.</content>
public sealed partial class BlockDriverRegistry
{
    private void AddFilters()
    {
        const ChildRole Filtered = ChildRole.Filtered | ChildRole.Primary;
        Add(BlockdevDriver.Blkdebug, new BlockDriverInfo
        {
            IsProtocol = true,
            Protocols = ["blkdebug"],
            ParseName = (name, options) => ImageNames.ParseBlkdebug(this, name, options),
            Create = static o => new BlkdebugDriver(o.Blkdebug!),
            Children = static o => [new ChildDefinition("image", Filtered, o.Blkdebug!.Image)],
        });
        Add(BlockdevDriver.Blkverify, new BlockDriverInfo
        {
            IsProtocol = true,
            Protocols = ["blkverify"],
            Create = static _ => new BlkverifyDriver(),
            Children = static o =>
            [
                new ChildDefinition("raw", Filtered, o.Blkverify!.Raw),
                new ChildDefinition("test", ChildRole.Data, o.Blkverify.Test),
            ],
        });
        Add(BlockdevDriver.Compress, new BlockDriverInfo
        {
            NeedsFile = true,
            Create = static _ => new CompressDriver(),
            Children = static o => [new ChildDefinition("file", Filtered, o.Generic!.File)],
        });
        Add(BlockdevDriver.Preallocate, new BlockDriverInfo
        {
            NeedsFile = true,
            Create = static o => new PreallocateDriver(o.Preallocate!),
            Children = static o => [new ChildDefinition("file", Filtered, o.Preallocate!.File)],
        });
        Add(BlockdevDriver.SnapshotAccess, new BlockDriverInfo
        {
            NeedsFile = true,
            Create = static _ => new SnapshotAccessDriver(),
            Children = static o => [new ChildDefinition("file", ChildRole.Data | ChildRole.Primary, o.Generic!.File)],
        });
    }
}
