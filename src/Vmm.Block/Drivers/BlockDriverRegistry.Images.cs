using Vmm.Block.Drivers.Crypto;
using Vmm.Block.Drivers.Images;
using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.Sockets;
using Vmm.Qapi;

namespace Vmm.Block.Drivers;

/// <content>Image formats of other programs.</content>
public sealed partial class BlockDriverRegistry
{
    /// <summary>The text of a secret object by its id; throws a <see cref="QapiException"/> when there is none.</summary>
    public Func<string, string> FindSecret { get; set; } = static id => throw new QapiException($"No secret with id '{id}'");

    /// <summary>Finds an operator's object by its id; null when there is none. Main loop, or the loop of a node.</summary>
    public Func<string, QomObject?> FindObject { get; set; } = static _ => null;

    /// <summary>
    /// Finds the descriptor that an option names: by number, or among those that the monitor has been given from which the option comes.
    /// Whoever changes it while a node is opened puts it back. Main loop.
    /// </summary>
    public Func<string, SafeFd> FindFd { get; set; } = static name => SocketEndpoints.FindFd(null, name);

    private static List<ChildDefinition> CowChildren(BlockdevOptionsGenericCowFormat options)
    {
        List<ChildDefinition> children = [new ChildDefinition("file", ChildRole.Image, options.File)];
        if (options.Backing?.ToRef() is { } backing)
        {
            children.Add(new ChildDefinition("backing", ChildRole.Cow, backing));
        }

        return children;
    }

    private void AddImages(LoopWorkers workers)
    {
        AddImage(BlockdevDriver.Bochs, static () => new BochsDriver(), static (head, _) => BochsHeader.Probe(head));
        AddImage(BlockdevDriver.Cloop, () => new CloopDriver(workers), static (head, _) => CloopHeader.Probe(head));
        AddImage(BlockdevDriver.Dmg, () => new DmgDriver(workers), static (_, name) => DmgDriver.Probe(name));
        AddImage(BlockdevDriver.Parallels, static () => new ParallelsDriver(), static (head, _) => ParallelsHeader.Probe(head));
        AddImage(BlockdevDriver.Vdi, static () => new VdiDriver(), static (head, _) => VdiHeader.Probe(head));
        AddImage(BlockdevDriver.Vhdx, static () => new VhdxDriver(), static (head, _) => VhdxFormat.Probe(head));
        AddImage(BlockdevDriver.Vpc, static () => new VpcDriver(), static (head, _) => VpcDriver.Probe(head));
        Add(BlockdevDriver.Qed, new BlockDriverInfo
        {
            NeedsFile = true,
            Create = static o => new QedDriver(o.GenericCow!),
            Children = static o => CowChildren(o.GenericCow!),
            Probe = static (head, _) => QedHeader.Probe(head),
        });
        Add(BlockdevDriver.Vmdk, new BlockDriverInfo
        {
            NeedsFile = true,
            Create = o => new VmdkDriver(o.GenericCow!, workers),
            Children = static o => CowChildren(o.GenericCow!),
            Probe = static (head, _) => VmdkDescriptor.Probe(head),
        });
        Add(BlockdevDriver.Luks, new BlockDriverInfo
        {
            NeedsFile = true,
            Create = o => new LuksDriver(o.Luks!, workers, FindSecret),
            Children = static o => [new ChildDefinition("file", ChildRole.Image, o.Luks!.File)],
            Probe = static (head, _) => LuksHeader.Probe(head),
            CanAmend = true,
            CreateImage = (graph, o) => LuksCreation.CreateAsync(graph, o.Luks!, FindSecret, workers),
        });
    }

    private void AddImage(BlockdevDriver driver, Func<BlockDriver> create, ImageProbe probe) => Add(driver, new BlockDriverInfo
    {
        NeedsFile = true,
        Create = _ => create(),
        Children = static o => [new ChildDefinition("file", ChildRole.Image, o.Generic!.File)],
        Probe = probe,
    });
}
