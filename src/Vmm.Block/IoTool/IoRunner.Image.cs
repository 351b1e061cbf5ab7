using Vmm.Block.Backend;
using Vmm.Block.Drivers;
using Vmm.Block.Drives;
using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.Block.Qmp;
using Vmm.Interop;
using Vmm.Qapi;

namespace Vmm.Block.IoTool;

/// <content>What an image is, and options that it gets while it is used.</content>
internal sealed partial class IoRunner
{
    private static void Raise(int signal) => Libc.Kill(Libc.GetPid(), signal);

    private void ShowInfo(BlockBackend backend, HmpContext context)
    {
        BlockNode node = backend.Root ?? throw new QapiException(BlockResult.Text(BlockResult.NoMedium));
        string name = node.Driver.FormatName;
        print($"format name: {name}\n");
        if (BlockdevDriverQapi.TryParse(name, out BlockdevDriver kind) && graph.DriverRegistry.TryFind(kind) is { Protocols: [var protocol, ..] })
        {
            print($"format name: {protocol}\n");
        }

        BlockNode described = node;
        while (described.Driver is FilterDriver or RawDriver && described.Primary is { } below)
        {
            described = below.Node;
        }

        if (described.Driver.FormatName is "null-co" or "null-aio" or "nbd" or "http" or "https" or "bochs" or "cloop" or "dmg" or "parallels")
        {
            return;
        }

        print($"cluster size: {IoText.Size(described.Driver.ClusterBytes)}\nvm state offset: {IoText.Size(described.Driver.VmStateOffset)}\n");
        ImageDescription image = new();
        node.Driver.DescribeImage(image);
        if (image.FormatSpecific?.GetDict("data") is { } data)
        {
            print("Format specific information:\n");
            BlockHmpText.Print(context, data, 1);
        }
    }

    private async Task ReopenAsync(BlockBackend backend, IoCommand command, IoArguments arguments)
    {
        BlockNode node = backend.Root ?? throw new QapiException(BlockResult.Text(BlockResult.NoMedium));
        if (arguments.Has('r') && arguments.Has('w'))
        {
            throw new QapiException("Only one -r/-w option may be given");
        }

        QDict options = ImageOptions.Copy(node.OwnOptions ?? []);
        options["driver"] = node.Driver.FormatName;
        options["node-name"] = node.Name;
        foreach (BlockEdge edge in node.Children)
        {
            options[edge.Name] = edge.Node.Name;
        }

        if (arguments.Has('r') || arguments.Has('w'))
        {
            options["read-only"] = arguments.Has('r');
        }

        bool? isWriteBack = null;
        if (arguments.Has('c'))
        {
            (bool direct, bool writeBack, bool noFlush) = DriveOptions.ParseCache(arguments.Value('c'))
                ?? throw new QapiException($"Invalid cache option: {arguments.Value('c')}");
            options["cache"] = new QDict { ["direct"] = direct, ["no-flush"] = noFlush };
            isWriteBack = writeBack;
        }

        if (arguments.Words.Count > 0)
        {
            throw new IoUsageException(command.Line);
        }

        if (arguments.Has('o'))
        {
            ImageOptions.Override(options, arguments.Value('o'));
            if (options.GetString("driver") != node.Driver.FormatName)
            {
                throw new QapiException("Cannot change the option 'driver'");
            }
        }

        if (isWriteBack is { } wanted && wanted != backend.IsWriteCacheEnabled)
        {
            if (backend.Device is not null)
            {
                throw new QapiException("Cannot change cache.writeback: Device attached");
            }

            backend.IsWriteCacheEnabled = wanted;
        }

        BlockdevOptions complete = ImageOptions.ReadChanged(options);
        await graph.ChangeAsync(() => graph.ReopenAsync([complete]));
    }
}
