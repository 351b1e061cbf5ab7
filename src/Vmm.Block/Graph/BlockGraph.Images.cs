using Vmm.Block.Drivers;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;

namespace Vmm.Block.Graph;

/// <summary>An image was found to contradict itself.</summary>
/// <param name="Node">The image.</param>
/// <param name="Message">How.</param>
/// <param name="Offset">Where in its file; -1 when that is not known.</param>
/// <param name="Bytes">For how many bytes; -1 when that is not known.</param>
/// <param name="IsFatal">The image is not usable any more.</param>
public readonly record struct ImageCorruption(BlockNode Node, string Message, long Offset, long Bytes, bool IsFatal);

/// <content>Images that are known by their file's name: backing files, data files.</content>
public sealed partial class BlockGraph
{
    private const int ProbeBytes = 2048;

    /// <summary>Learns of corrupt images, for the event BLOCK_IMAGE_CORRUPTED. Called on the loop of the node.</summary>
    public Action<ImageCorruption>? OnCorruption { get; set; }

    /// <summary>Opens an image by name.</summary>
    /// <param name="name">A path, or "json:" and options.</param>
    /// <param name="format">Its format; null when its contents must tell.</param>
    /// <param name="inherited">What its user hands down.</param>
    public async IoTask<BlockNode> OpenImageAsync(string name, string? format, NodeOptions inherited)
    {
        if (ImageNames.ReadJson(name) is { } json)
        {
            return await OpenAsync(json, inherited);
        }

        BlockNode file = await OpenFileNodeAsync(name, inherited.ForChild(ChildRole.Image, isFormat: true));
        try
        {
            format ??= await ProbeAsync(file, name);
            return await OpenAsync(ImageNames.FormatOver(format, file.Name), inherited);
        }
        catch (QapiException)
        {
            await CloseIfUnusedAsync(file);
            throw;
        }
    }

    /// <summary>Opens what a name stands for, without a format over it.</summary>
    public IoTask<BlockNode> OpenFileNodeAsync(string name, NodeOptions inherited) =>
        OpenAsync(ImageNames.ReadJson(name) ?? ImageNames.ProtocolFor(name), inherited);

    /// <summary>The format that the contents of a file look most like; "raw" when they look like nothing.</summary>
    public async IoTask<string> ProbeAsync(BlockNode file, string? name)
    {
        using NativeBuffer head = new(ProbeBytes, zeroed: true);
        int length = (int)Math.Min(file.Length, ProbeBytes);
        if (length > 0)
        {
            IoVectors data = IoVectors.Rent(head.Vector(0, length));
            int result = await file.ReadAsync(0, data);
            data.Return();
            if (result < 0)
            {
                throw new QapiException("Could not read image for determining its format: " + BlockResult.Text(result));
            }
        }

        return DriverRegistry.Probe(head.Span[..length], name);
    }

    /// <summary>Makes a node that was opened for it a child of another; closes it when that fails.</summary>
    internal async IoTask AttachOpenedAsync(BlockNode parent, BlockNode child, string name, ChildRole role)
    {
        try
        {
            Attach(parent, child, name, role, BlockPermissions.None, BlockPermissions.All);
        }
        catch (QapiException)
        {
            await CloseIfUnusedAsync(child);
            throw;
        }
    }

    internal void ReportCorruption(BlockNode node, string message, long offset, long bytes, bool isFatal) =>
        OnCorruption?.Invoke(new ImageCorruption(node, message, offset, bytes, isFatal));
}
