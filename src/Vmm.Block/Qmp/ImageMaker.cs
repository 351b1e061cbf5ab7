using Vmm.Block.Drivers;
using Vmm.Block.Drivers.Qcow2;
using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Qmp;

/// <summary>Makes the files of commands that take the name of one that is to be. Main loop.</summary>
internal static class ImageMaker
{
    /// <summary>Opens a file as the target of a job.</summary>
    /// <param name="graph">The graph.</param>
    /// <param name="path">Name of the file.</param>
    /// <param name="format">Format; null when its contents must tell.</param>
    /// <param name="nodeName">Name of the node; null for a generated one.</param>
    /// <param name="hasBacking">The backing file that it names is opened as well.</param>
    /// <param name="source">Caching and discards are those of this node.</param>
    /// <param name="isSparse">Zeroes take no space in it, wherever they come from.</param>
    internal static IoTask<BlockNode> OpenAsync(
        BlockGraph graph, string path, string? format, string? nodeName, bool hasBacking, BlockNode source, bool isSparse)
    {
        QDict options = [];
        if (isSparse)
        {
            options["discard"] = "unmap";
            options["detect-zeroes"] = "unmap";
        }

        if (!hasBacking && format != "raw")
        {
            options["backing"] = QNull.Instance;
        }

        if (format is not null)
        {
            options["driver"] = format;
        }

        if (nodeName is not null)
        {
            options["node-name"] = nodeName;
        }

        return graph.OpenImageAsync(path, options, source.Options with { IsReadOnly = false, IsForceShare = false, DetectZeroes = DetectZeroesMode.Off });
    }

    /// <summary>Makes an image of a size.</summary>
    /// <param name="graph">The graph.</param>
    /// <param name="path">Name of the file.</param>
    /// <param name="format">Format.</param>
    /// <param name="length">Bytes of the disk.</param>
    /// <param name="backing">Name of the backing file; null for none.</param>
    /// <param name="backingFormat">Its format.</param>
    /// <exception cref="QapiException">The format cannot be made, or the file cannot be written.</exception>
    internal static async IoTask MakeAsync(BlockGraph graph, string path, string format, long length, string? backing, string? backingFormat)
    {
        if (!BlockdevDriverQapi.TryParse(format, out BlockdevDriver driver))
        {
            throw new QapiException($"Unknown file format '{format}'");
        }

        if (driver is not (BlockdevDriver.Raw or BlockdevDriver.Qcow2))
        {
            throw new QapiException($"Format driver '{format}' does not support image creation");
        }

        if (driver == BlockdevDriver.Raw && backing is not null)
        {
            throw new QapiException("Backing file not supported for file format 'raw'");
        }

        length = (length + 511) & ~511L;
        BlockdevCreateOptions file = new()
        {
            Driver = BlockdevDriver.File,
            File = new BlockdevCreateOptionsFile { Filename = path, Size = driver == BlockdevDriver.Raw ? (ulong)length : 0 },
        };
        await graph.DriverRegistry.Find(BlockdevDriver.File).CreateImage!(graph, file);
        if (driver == BlockdevDriver.Raw)
        {
            return;
        }

        BlockNode node = await graph.OpenFileNodeAsync(path, new NodeOptions());
        try
        {
            await Qcow2Creator.CreateAsync(
                graph, node, new Qcow2CreateOptions { Size = length, BackingFile = backing, BackingFormat = backing is null ? null : backingFormat });
        }
        finally
        {
            await graph.CloseIfUnusedAsync(node);
        }
    }
}
