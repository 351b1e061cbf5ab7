using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Graph;

/// <content>Nodes by name with children beside their file, whose options may leave out what their names say.</content>
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
        int first = _order.Count;
        try
        {
            await OpenVerifiedAsync(options, "raw", common.ForChild(ChildRole.Filtered | ChildRole.Primary, isFormat: false), isProtocol: true, opened);
            await OpenVerifiedAsync(options, "test", common.ForChild(ChildRole.Data, isFormat: false), isProtocol: false, opened);
            return PutBefore(opened, await OpenAsync(ImageOptions.CompleteProtocol(DriverRegistry, null, options), inherited), first);
        }
        catch (QapiException)
        {
            await CloseUnusedAsync(opened);
            throw;
        }
    }

    private async IoTask OpenOtherChildrenAsync(QDict options, NodeOptions common, List<BlockNode> opened)
    {
        (string? child, ChildRole role, bool isFormat) = options.GetString("driver") switch
        {
            "blkdebug" => ("image", ChildRole.Filtered | ChildRole.Primary, false),
            "qcow2" => ("data-file", ChildRole.Data, true),
            _ => default,
        };
        if (child is not null && options.TryGetValue(child, out QValue? given) && given is QDict definition)
        {
            BlockNode node = await OpenImageAsync(null, definition, common.ForChild(role, isFormat), isProtocol: true);
            opened.Add(node);
            options[child] = node.Name;
        }
    }

    // A node comes before its children other than its file, though their names had to be known first.
    private BlockNode PutBefore(List<BlockNode> opened, BlockNode node, int first)
    {
        int count = opened.Count == 0 ? 0 : _order.IndexOf(node) - first;
        if (count > 0)
        {
            List<BlockNode> moved = _order.GetRange(first, count);
            _order.InsertRange(first + count + 1, moved);
            _order.RemoveRange(first, count);
        }

        return node;
    }

    private async IoTask CloseUnusedAsync(List<BlockNode> opened)
    {
        foreach (BlockNode node in opened)
        {
            await CloseIfUnusedAsync(node);
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
