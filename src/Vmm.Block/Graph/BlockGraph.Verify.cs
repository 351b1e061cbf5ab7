using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Graph;

/// <content>Comparing filters by name: the one node that needs an image beside its file.</content>
public sealed partial class BlockGraph
{
    private async IoTask<BlockNode> OpenVerifyAsync(string? name, QDict options, NodeOptions common, NodeOptions? inherited)
    {
        if (name is not null)
        {
            ImageNames.ParseBlkverify(name, options);
        }

        options["driver"] = "blkverify";
        List<BlockNode> opened = [];
        try
        {
            await OpenVerifiedAsync(options, "raw", common.ForChild(ChildRole.Filtered | ChildRole.Primary, isFormat: false), isProtocol: true, opened);
            await OpenVerifiedAsync(options, "test", common.ForChild(ChildRole.Data, isFormat: false), isProtocol: false, opened);
            return await OpenAsync(ImageOptions.CompleteProtocol(DriverRegistry, null, options), inherited);
        }
        catch (QapiException)
        {
            foreach (BlockNode node in opened)
            {
                await CloseIfUnusedAsync(node);
            }

            throw;
        }
    }

    private async IoTask OpenVerifiedAsync(QDict options, string child, NodeOptions inherited, bool isProtocol, List<BlockNode> opened)
    {
        options.Remove(isProtocol ? "x-raw" : "x-image", out QValue? name);
        if (name is null && !options.ContainsKey(child))
        {
            throw new QapiException($"A block device must be specified for \"{child}\"");
        }

        options.TryGetValue(child, out QValue? given);
        if (given is QString)
        {
            return;
        }

        BlockNode node = await OpenImageAsync((name as QString)?.Value, given as QDict ?? [], inherited, isProtocol);
        opened.Add(node);
        options[child] = node.Name;
    }
}
