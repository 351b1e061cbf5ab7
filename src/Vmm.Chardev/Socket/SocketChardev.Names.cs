using System.Globalization;
using Vmm.Interop;
using Vmm.Qapi.Types;

namespace Vmm.Chardevs;

/// <content>The names that query-chardev shows.</content>
public sealed partial class SocketChardev
{
    private string Protocol => _options.Telnet == true ? "telnet" : _options.Websocket == true ? "websocket" : "tcp";

    private string ServerSuffix => _isServer ? ",server=on" : "";

    private string DisconnectedName()
    {
        switch (_address.Type)
        {
            case SocketAddressType.Inet:
                return $"disconnected:{Protocol}:{_address.Inet!.Host}:{_address.Inet.Port}{ServerSuffix}";
            case SocketAddressType.Unix:
                UnixSocketAddress unix = _address.Unix!;
                string kind = unix.Abstract == true ? unix.Tight ?? true ? ",abstract=on,tight=on" : ",abstract=on" : "";
                return $"disconnected:unix:{unix.Path}{kind}{ServerSuffix}";
            default:
                return $"disconnected:fd:{_address.Fd!.Str}{ServerSuffix}";
        }
    }

    private string ConnectedName(SockAddr local)
    {
        if (local.Family == Libc.AF_UNIX)
        {
            return $"unix:{(local.IsAbstract ? "" : local.Host)}{ServerSuffix}";
        }

        Libc.GetPeerName(_connection!.Fd, out SockAddr peer);
        return $"{Protocol}:{HostPort(local)}{ServerSuffix} <-> {HostPort(peer)}";
    }

    private static string HostPort(SockAddr address)
    {
        string port = address.Port.ToString(CultureInfo.InvariantCulture);
        return address.Family == Libc.AF_INET6 ? $"[{address.Host}]:{port}" : $"{address.Host}:{port}";
    }
}
