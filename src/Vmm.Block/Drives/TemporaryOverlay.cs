using Vmm.Block.Drivers.Qcow2;
using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.Qapi;

namespace Vmm.Block.Drives;

/// <summary>An image that takes all writes and goes with the program (snapshot=on). Main loop.</summary>
internal static class TemporaryOverlay
{
    /// <summary>Makes an overlay of a node that is not used yet.</summary>
    /// <param name="graph">The graph; changing.</param>
    /// <param name="below">The node; closed when the overlay cannot be made.</param>
    /// <param name="isReadOnly">The overlay is not written.</param>
    /// <param name="discard">What becomes of discards; null for the default.</param>
    /// <param name="zeroes">What becomes of writes of zeroes.</param>
    internal static async IoTask<BlockNode> PutAboveAsync(
        BlockGraph graph, BlockNode below, bool isReadOnly, string? discard, DetectZeroesMode zeroes)
    {
        string? path = null;
        try
        {
            path = MakeFile();
            await CreateAsync(graph, path, below.Length);
            QDict options = new()
            {
                ["driver"] = "qcow2",
                ["file"] = new QDict { ["driver"] = "file", ["filename"] = path },
                ["backing"] = below.Name,
                ["cache"] = new QDict { ["direct"] = "off", ["no-flush"] = "on" },
                ["read-only"] = DriveOptions.OnOff(isReadOnly),
            };
            if (discard is not null)
            {
                options["discard"] = discard;
            }

            BlockNode overlay = await graph.OpenImageAsync(null, options, null);
            overlay.Options = overlay.Options with { DetectZeroes = zeroes };
            return overlay;
        }
        catch (QapiException)
        {
            await graph.CloseIfUnusedAsync(below);
            throw;
        }
        finally
        {
            if (path is not null)
            {
                // It is open: the name is not needed any more, and nothing is left of it whatever happens.
                Libc.Unlink(path);
            }
        }
    }

    private static string MakeFile()
    {
        string directory = Environment.GetEnvironmentVariable("TMPDIR") is { Length: > 0 } own ? own : "/var/tmp";
        Errno errno = Libc.MkStemp(directory + "/vl.XXXXXX", out SafeFd file, out string path);
        using (file)
        {
            return errno == Errno.OK ? path : throw new QapiException($"Could not get temporary filename: {errno.Message()}");
        }
    }

    private static async IoTask CreateAsync(BlockGraph graph, string path, long length)
    {
        BlockNode file = await graph.OpenFileNodeAsync(path, new NodeOptions());
        try
        {
            await Qcow2Creator.CreateAsync(graph, file, new Qcow2CreateOptions { Size = (length + 511) & ~511L });
        }
        finally
        {
            await graph.CloseIfUnusedAsync(file);
        }
    }
}
