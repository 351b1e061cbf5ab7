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

/// <content>Images that are known by their file's name: drives, backing files, data files.</content>
public sealed partial class BlockGraph
{
    private const int ProbeBytes = 2048;

    /// <summary>Learns of corrupt images, for the event BLOCK_IMAGE_CORRUPTED. Called on the loop of the node.</summary>
    public Action<ImageCorruption>? OnCorruption { get; set; }

    /// <summary>Takes lines for the operator's terminal that belong to no message of an option. Main loop.</summary>
    public Action<string> Announce { get; set; } = static _ => { };

    /// <summary>Takes warnings about options. Main loop.</summary>
    public Action<string> Warn { get; set; } = static _ => { };

    /// <summary>Opens an image by name.</summary>
    /// <param name="name">A path, a name with a protocol, or "json:" and options.</param>
    /// <param name="format">Its format; null when its contents must tell.</param>
    /// <param name="inherited">What its user hands down.</param>
    public IoTask<BlockNode> OpenImageAsync(string name, string? format, NodeOptions inherited)
    {
        QDict options = [];
        if (format is not null)
        {
            options["driver"] = format;
        }

        return OpenImageAsync(name, options, inherited);
    }

    /// <summary>
    /// Opens an image by name and options in which the driver, the file and its protocol may be left out: the contents, the name or the image
    /// above then say them.
    /// </summary>
    /// <param name="name">A path, a name with a protocol, or "json:" and options; null when the options say everything.</param>
    /// <param name="options">Nested options; scalars as text or as JSON has them. Changed.</param>
    /// <param name="inherited">What its user hands down; null for an image of its own.</param>
    /// <param name="isProtocol">A file is wanted, not an image in it.</param>
    public async IoTask<BlockNode> OpenImageAsync(string? name, QDict options, NodeOptions? inherited, bool isProtocol = false)
    {
        if (name is not null && ImageNames.ReadJson(name) is { } json)
        {
            ImageOptions.Merge(options, json);
            name = null;
        }

        BlockDriverInfo? info = ImageOptions.FindDriver(DriverRegistry, options);
        if (info is null && name is null && !isProtocol && !options.ContainsKey("file"))
        {
            throw new QapiException("Must specify either driver or file");
        }

        NodeOptions common = ImageOptions.ReadCommon(options, inherited);
        if (info?.IsProtocol ?? isProtocol)
        {
            return ImageOptions.IsBlkverify(DriverRegistry, name, options)
                ? await OpenVerifyAsync(name, options, common, inherited)
                : await OpenProtocolAsync(name, options, common, inherited);
        }

        BlockNode? file = await OpenFileOfAsync(name, options, common);
        bool isProbed = info is null;
        List<BlockNode> others = [];
        try
        {
            if (file is not null)
            {
                options["file"] = file.Name;
            }

            if (isProbed)
            {
                options["driver"] = await ProbeAsync(file!, file!.Filename);
            }
            else if (file is null && info!.NeedsFile)
            {
                throw new QapiException("A block device must be specified for \"file\"");
            }

            isProbed &= options.GetString("driver") == "raw";
            if (isProbed && !common.IsReadOnly)
            {
                Announce($"WARNING: Image format was not specified for '{file!.Filename}' and probing guessed raw.\n         Automatically detecting the format is dangerous for raw images, write operations on block 0 will be restricted.\n         Specify the 'raw' format explicitly to remove the restrictions.\n");
            }

            QDict? backing = ImageOptions.TakeBacking(options, Warn);
            int first = _order.Count;
            await OpenOtherChildrenAsync(options, common, others);
            BlockdevOptions complete = ImageOptions.Read(options, isProtocol: false);
            return PutBefore(others, await OpenAsync(complete, inherited, new OpenHints(isProbed, backing, options)), first);
        }
        catch (QapiException)
        {
            await CloseUnusedAsync(others);
            if (file is not null)
            {
                await CloseIfUnusedAsync(file);
            }

            throw;
        }
    }

    private async IoTask<BlockNode> OpenProtocolAsync(string? name, QDict options, NodeOptions common, NodeOptions? inherited)
    {
        List<BlockNode> others = [];
        int first = _order.Count;
        try
        {
            await OpenOtherChildrenAsync(options, common, others);
            return PutBefore(others, await OpenAsync(ImageOptions.CompleteProtocol(DriverRegistry, name, options), inherited, new OpenHints(false, null, options)), first);
        }
        catch (QapiException)
        {
            await CloseUnusedAsync(others);
            throw;
        }
    }

    /// <summary>Opens what a name stands for, without a format over it.</summary>
    public IoTask<BlockNode> OpenFileNodeAsync(string name, NodeOptions inherited) => OpenImageAsync(name, [], inherited, isProtocol: true);

    /// <summary>Opens the backing file of an image that is being opened and makes it its child.</summary>
    /// <param name="node">The image.</param>
    /// <param name="name">The backing file as the image says it; null when it says nothing.</param>
    /// <param name="format">Its format as the image says it; null when it says nothing.</param>
    /// <returns>The file name that the image's own description has led to; null when options have changed it, or there is none.</returns>
    internal async IoTask<string?> OpenBackingAsync(BlockNode node, string? name, string? format)
    {
        QDict? own = node.BackingOptions;
        if (string.IsNullOrEmpty(name) && own is null)
        {
            return null;
        }

        try
        {
            QDict options = own ?? [];
            if (format is not null && !options.ContainsKey("driver"))
            {
                options["driver"] = format;
            }

            bool isNamed = options.TryGetValue("file", out QValue? file) && (file is QString || (file is QDict dict && dict.ContainsKey("filename")));
            string? path = isNamed || string.IsNullOrEmpty(name) ? null : ImageNames.Resolve(name, node.Driver.FileName);
            BlockNode backing = await OpenImageAsync(path, options, node.Options.ForChild(ChildRole.Cow, isFormat: true));
            await AttachOpenedAsync(node, backing, "backing", ChildRole.Cow);
            return own is null ? backing.Filename : null;
        }
        catch (QapiException e)
        {
            throw new QapiException(e.ErrorClass, "Could not open backing file: " + e.Desc, e.Hint);
        }
    }

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

    internal void ReportCorruption(BlockNode node, string message, long offset, long bytes, bool isFatal)
    {
        string format = node.Driver.FormatName;
        Announce(isFatal
            ? $"{format}: Marking image as corrupt: {message}; further corruption events will be suppressed\n"
            : $"{format}: Image is corrupt: {message}; further non-fatal corruption events will be suppressed\n");
        OnCorruption?.Invoke(new ImageCorruption(node, message, offset, bytes, isFatal));
    }

    // The file comes before the image in it: its contents may have to say what the image is.
    private async IoTask<BlockNode?> OpenFileOfAsync(string? name, QDict options, NodeOptions common)
    {
        options.Remove("file", out QValue? given);
        if (given is QString reference)
        {
            return name is null
                ? Find(reference.Value) ?? throw new QapiException($"Cannot find device='{reference.Value}' nor node-name='{reference.Value}'")
                : throw new QapiException("Cannot reference an existing block device with additional options or a new filename");
        }

        return name is null && given is null
            ? null
            : await OpenImageAsync(name, given as QDict ?? [], common.ForChild(ChildRole.Image, isFormat: true), isProtocol: true);
    }
}
