using Vmm.Block.Backend;
using Vmm.Block.Exports;
using Vmm.Qapi;
using Vmm.Qapi.Types;

namespace Vmm.Block.Qmp;

/// <summary>The terminal commands about the NBD server. Home: main loop.</summary>
public sealed class ExportHmpCommands(BlockExportFactory factory, BlockBackends backends, ExportCommands commands)
{
    /// <summary>Starts the NBD server, and exports all back ends if asked to.</summary>
    [HmpCommand(
        "nbd_server_start",
        ArgsType = "all:-a,writable:-w,uri:s",
        Params = "nbd_server_start [-a] [-w] host:port",
        Help = "serve block devices on the given host and port")]
    public async ValueTask NbdServerStart(HmpContext context, bool all, bool writable, string uri)
    {
        if (writable && !all)
        {
            throw new QapiException("-w only valid together with -a");
        }

        factory.StartServer(Parse(uri), null, null, 0, context.Session);
        if (!all)
        {
            return;
        }

        try
        {
            foreach (BlockBackend backend in backends.All.ToArray())
            {
                if (backend.Name.Length > 0 && backend.IsInserted)
                {
                    await commands.NbdServerAdd(backend.Name, writable, null, null, null);
                }
            }
        }
        catch (QapiException)
        {
            await factory.StopServerAsync();
            throw;
        }
    }

    /// <summary>Exports a node.</summary>
    [HmpCommand(
        "nbd_server_add",
        ArgsType = "writable:-w,device:B,name:s?",
        Params = "nbd_server_add [-w] device [name]",
        Help = "export a block device via NBD")]
    public ValueTask NbdServerAdd(HmpContext context, bool writable, string device, string? name) =>
        new(commands.NbdServerAdd(device, writable, name, null, null));

    /// <summary>Ends an export.</summary>
    [HmpCommand(
        "nbd_server_remove",
        ArgsType = "force:-f,name:s",
        Params = "nbd_server_remove [-f] name",
        Help = "remove an export previously exposed via NBD")]
    public void NbdServerRemove(HmpContext context, bool force, string name) =>
        commands.NbdServerRemove(name, force ? BlockExportRemoveMode.Hard : BlockExportRemoveMode.Safe);

    /// <summary>Stops the NBD server.</summary>
    [HmpCommand("nbd_server_stop", Params = "nbd_server_stop", Help = "stop serving block devices using the NBD protocol")]
    public ValueTask NbdServerStop(HmpContext context) => new(commands.NbdServerStop());

    // "unix:PATH", "fd:NAME", "HOST:PORT", "[V6]:PORT".
    private static SocketAddressLegacy Parse(string text)
    {
        if (text.StartsWith("unix:", StringComparison.Ordinal))
        {
            string path = text[5..];
            return path.Length > 0
                ? new SocketAddressLegacy { Type = SocketAddressType.Unix, Unix = new UnixSocketAddress { Path = path } }
                : throw new QapiException("invalid Unix socket address");
        }

        if (text.StartsWith("fd:", StringComparison.Ordinal))
        {
            return text.Length > 3
                ? new SocketAddressLegacy { Type = SocketAddressType.Fd, Fd = new StringWrapper { Str = text[3..] } }
                : throw new QapiException("invalid file descriptor address");
        }

        int colon = text.LastIndexOf(':');
        if (colon < 0 || colon == text.Length - 1)
        {
            throw new QapiException($"error parsing address '{text}'");
        }

        string host = text[..colon];
        if (host.StartsWith('['))
        {
            host = host.EndsWith(']') ? host[1..^1] : throw new QapiException($"error parsing IPv6 address '{text}'");
        }

        return new SocketAddressLegacy
        {
            Type = SocketAddressType.Inet,
            Inet = new InetSocketAddress { Host = host, Port = text[(colon + 1)..] },
        };
    }
}
