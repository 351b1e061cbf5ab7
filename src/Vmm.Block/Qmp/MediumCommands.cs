using Vmm.Block.Backend;
using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;

namespace Vmm.Block.Qmp;

/// <summary>Whether a new medium is written.</summary>
[QapiEnum]
public enum BlockdevChangeReadOnlyMode
{
    /// <summary>As the one before.</summary>
    Retain,

    /// <summary>No.</summary>
    ReadOnly,

    /// <summary>Yes.</summary>
    ReadWrite,
}

/// <summary>Commands that change the medium of a back end. Home: main loop.</summary>
public sealed class MediumCommands(BlockGraph graph, BlockBackends backends)
{
    /// <summary>Takes the medium out, opening the tray first.</summary>
    [QmpCommand("eject", ArgsType = "force:-f,device:B,id:s?", Since = "0.14")]
    public Task Eject(bool? force, [QapiRelaxed, QapiFeature("deprecated")] string? device, string? id) => graph.ChangeAsync(async () =>
    {
        Target target = Resolve(device, id);
        target.OpenTray(force ?? false);
        await RemoveAsync(target);
    }).AsTask();

    /// <summary>Opens the tray.</summary>
    [QmpCommand("blockdev-open-tray", ArgsType = "device:s,force:b?,id:s?", Since = "2.5")]
    public void OpenTray([QapiRelaxed, QapiFeature("deprecated")] string? device, bool? force, string? id) =>
        Resolve(device, id).OpenTray(force ?? false, mayWait: true);

    /// <summary>Closes the tray.</summary>
    [QmpCommand("blockdev-close-tray", ArgsType = "device:s,id:s?", Since = "2.5")]
    public void CloseTray([QapiRelaxed, QapiFeature("deprecated")] string? device, string? id) => Resolve(device, id).CloseTray();

    /// <summary>Takes the medium out of an open tray.</summary>
    [QmpCommand("blockdev-remove-medium", ArgsType = "id:s", Since = "2.12")]
    public Task RemoveMedium(string id) => graph.ChangeAsync(() => RemoveAsync(Resolve(null, id))).AsTask();

    /// <summary>Puts a node into an open tray.</summary>
    [QmpCommand("blockdev-insert-medium", ArgsType = "id:s,node-name:s", Since = "2.12")]
    public void InsertMedium(string id, string nodeName) => Insert(Resolve(null, id), nodeName);

    /// <summary>Takes the medium out of an open tray, as old clients ask for it.</summary>
    [QmpCommand("x-blockdev-remove-medium", ArgsType = "device:s", Since = "2.5")]
    public Task OldRemoveMedium(string device) => graph.ChangeAsync(() => RemoveAsync(Resolve(device, null))).AsTask();

    /// <summary>Puts a node into an open tray, as old clients ask for it.</summary>
    [QmpCommand("x-blockdev-insert-medium", ArgsType = "device:s,node-name:s", Since = "2.5")]
    public void OldInsertMedium(string device, string nodeName) => Insert(Resolve(device, null), nodeName);

    /// <summary>Changes the medium: opens the image and the tray, and closes it again.</summary>
    [QmpCommand(
        "blockdev-change-medium",
        ArgsType = "device:B,filename:F,format:s?,read-only-mode:s?,id:s?,force:b?",
        Since = "2.5")]
    public Task ChangeMedium(
        [QapiRelaxed, QapiFeature("deprecated")] string? device,
        string filename,
        string? format,
        BlockdevChangeReadOnlyMode? readOnlyMode,
        string? id,
        bool? force) => graph.ChangeAsync(async () =>
    {
        Target target = Resolve(device, id);
        BlockNode node = await OpenAsync(target.Backend, filename, format, readOnlyMode ?? BlockdevChangeReadOnlyMode.Retain);
        try
        {
            target.OpenTray(force ?? false);
            await RemoveAsync(target);
            target.Insert(node);
        }
        catch (QapiException)
        {
            await graph.CloseIfUnusedAsync(node);
            throw;
        }

        target.CloseTray();
    }).AsTask();

    /// <summary>Changes the medium, as old clients ask for it.</summary>
    [QmpCommand("change", ArgsType = "device:B,target:F,arg:s?", Since = "0.14")]
    public Task Change(string device, string target, string? arg) => device == "vnc"
        ? throw new QapiException("The feature 'vnc' is not enabled")
        : ChangeMedium(device, target, arg, null, null, null);

    /// <summary>Passwords are not set this way any more.</summary>
    [QmpCommand("block_passwd", ArgsType = "device:s?,node-name:s?,password:s", Since = "0.14")]
    public static void BlockPasswd(string? device, string? nodeName, string password) =>
        throw new QapiException("Setting block passwords directly is no longer supported");

    private Target Resolve(string? device, string? id) => new(backends.Resolve(device, id), device ?? id!);

    private async IoTask RemoveAsync(Target target)
    {
        target.CheckRemovable();
        target.CheckOpen($"Tray of device '{target.Name}' is not open");
        BlockBackend backend = target.Backend;
        if (backend.Root is not { } node)
        {
            return;
        }

        node.CheckNotInUse();
        backend.IsRootReadOnly = node.IsReadOnly;
        backend.RootDetectZeroes = node.Options.DetectZeroes;
        backend.RootCache = (node.Options.IsDirect, node.Options.IsNoFlush);
        await node.DrainAsync();
        backend.Remove();
        node.DrainEnd();
        await graph.CloseIfUnusedAsync(node);
        if (target.Device?.IsTrayOpen is null)
        {
            target.Device?.ChangeMedium(isLoaded: false);
        }
    }

    private void Insert(Target target, string nodeName)
    {
        BlockNode node = graph.Find(nodeName) ?? throw new QapiException($"Node '{nodeName}' not found");
        foreach (BlockEdge edge in node.Parents)
        {
            if (edge.Parent is BlockBackend)
            {
                throw new QapiException($"Node '{nodeName}' is already in use");
            }
        }

        target.Insert(node);
    }

    private async IoTask<BlockNode> OpenAsync(BlockBackend backend, string filename, string? format, BlockdevChangeReadOnlyMode mode)
    {
        bool isReadOnly = mode == BlockdevChangeReadOnlyMode.Retain ? backend.IsReadOnly : mode == BlockdevChangeReadOnlyMode.ReadOnly;
        (bool isDirect, bool isNoFlush) = backend.Root is { } root ? (root.Options.IsDirect, root.Options.IsNoFlush) : backend.RootCache;
        QDict options = new()
        {
            ["read-only"] = isReadOnly,
            ["cache"] = new QDict { ["direct"] = isDirect, ["no-flush"] = isNoFlush },
        };
        if (format is not null)
        {
            options["driver"] = format;
        }

        DetectZeroesMode zeroes = backend.Root?.Options.DetectZeroes ?? backend.RootDetectZeroes;
        BlockNode node = await graph.OpenImageAsync(filename, options, null);
        node.Options = node.Options with { DetectZeroes = zeroes };
        return node;
    }

    /// <summary>A back end as a command has named it.</summary>
    private readonly record struct Target(BlockBackend Backend, string Name)
    {
        internal IBlockDevice? Device => Backend.Device;

        internal void CheckRemovable()
        {
            if (Device is { IsRemovable: false })
            {
                throw new QapiException($"Device '{Name}' is not removable");
            }
        }

        internal void CheckOpen(string message)
        {
            if (Device?.IsTrayOpen == false)
            {
                throw new QapiException(message);
            }
        }

        // A locked tray is opened by the guest, which has been asked; some commands are content with that.
        internal void OpenTray(bool isForced, bool mayWait = false)
        {
            CheckRemovable();
            if (Device is not { IsTrayOpen: false } device)
            {
                return;
            }

            bool isLocked = device.IsLocked;
            if (isLocked)
            {
                device.RequestEject(isForced);
            }

            if (!isLocked || isForced)
            {
                device.ChangeMedium(isLoaded: false);
            }
            else if (!mayWait)
            {
                throw new QapiException($"Device '{Name}' is locked and force was not specified, wait for tray to open and try again");
            }
        }

        internal void CloseTray()
        {
            CheckRemovable();
            if (Device is { IsTrayOpen: true } device)
            {
                device.ChangeMedium(isLoaded: true);
            }
        }

        internal void Insert(BlockNode node)
        {
            if (Device is { IsRemovable: false })
            {
                throw new QapiException("Device is not removable");
            }

            CheckOpen("Tray of the device is not open");
            if (Backend.IsInserted)
            {
                throw new QapiException("There already is a medium in the device");
            }

            Backend.Insert(node);
            if (Device?.IsTrayOpen is null)
            {
                Device?.ChangeMedium(isLoaded: true);
            }
        }
    }
}
