using Vmm.EventLoop;
using Vmm.Interop;
using Vmm.Interop.Tls;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.Tls;
using Vmm.Qapi;
using Vmm.TestKit.Tls;

namespace Vmm.Fuzz.Tests.Blocks;

/// <summary>
/// A peer that knows no secret and sends anything, in a handshake or, after a good one, in place of the peer that was known: it is never let
/// in, nothing that it sends comes out, and the session does not say more than it is let to.
/// The first byte chooses: bit 0 our end (client or server), bit 1 the credentials (certificates or a key), bit 2 after a handshake.
/// </summary>
internal sealed class TlsTarget : FuzzTarget
{
    private static readonly Clocks s_clocks = new();
    private static readonly Lazy<QomTree> s_tree = new(MakeObjects);

    private readonly byte[] _buffer = new byte[20_000];

    public override string Name => "tls";

    public override int Iterations => 400;

    public override int MaxLength => 8192;

    public override IReadOnlyList<byte[]> Dictionary { get; } =
    [
        [0x16, 3, 1],
        [0x16, 3, 3, 0x40, 0],
        [0x17, 3, 3, 0, 1],
        [0x15, 3, 3, 0, 2, 2, 40],
        [0x15, 3, 3, 0, 2, 1, 0],
        [0x14, 3, 3, 0, 1, 1],
        [1, 0, 0, 100, 3, 3],
        [2, 0, 0, 70, 3, 3],
        [11, 0, 1, 0, 0, 0, 253],
        [0, 0x2b, 0, 3, 2, 3, 4],
        [0x13, 1, 0x13, 2],
        [0xff, 0xff, 0xff],
    ];

    // Only error texts are managed memory.
    public override long AllocationLimit(int inputLength) => (1 << 20) + (64L * inputLength);

    public override string Execute(ReadOnlySpan<byte> input)
    {
        if (!GnuTls.IsAvailable || input.IsEmpty)
        {
            return "nothing";
        }

        bool isServer = (input[0] & 1) != 0;
        bool isLate = (input[0] & 4) != 0;
        string kind = isLate || (input[0] & 2) != 0 ? "psk" : "x509";
        Libc.SocketPair(Libc.SOCK_STREAM | Libc.SOCK_NONBLOCK, out SafeFd ours, out SafeFd theirs);
        using (ours)
        using (theirs)
        using (TlsSession session = Begin(kind, isServer, ours))
        {
            if (isLate)
            {
                using TlsSession good = Begin(kind, !isServer, theirs);
                for (int i = 0; i < 100 && !(session.IsEstablished && good.IsEstablished); i++)
                {
                    session.Handshake();
                    good.Handshake();
                }

                Require(session.IsEstablished && good.IsEstablished, "a good handshake does not end");
                while (session.Read(_buffer) > 0)
                {
                }

                return Attack(session, theirs, input[1..], isLate);
            }

            return Attack(session, theirs, input[1..], isLate);
        }
    }

    private string Attack(TlsSession session, SafeFd theirs, ReadOnlySpan<byte> bytes, bool isLate)
    {
        long said = 0;
        for (int turn = 0; turn < 1000; turn++)
        {
            if (!bytes.IsEmpty)
            {
                int part = Math.Min(bytes.Length, 1 + (turn * 37));
                bytes = Libc.Send(theirs.Fd, bytes[..part], Libc.MSG_DONTWAIT) > 0 ? bytes[part..] : default;
            }
            else if (turn > 0)
            {
                Libc.Shutdown(theirs.Fd, Libc.SHUT_WR);
            }

            string? end = isLate ? ReadOnce(session) : ShakeOnce(session);
            int n;
            while ((n = Libc.Recv(theirs.Fd, _buffer, Libc.MSG_DONTWAIT)) > 0)
            {
                said += n;
            }

            Require(said < 1 << 17, "more is said than anybody asked for");
            if (end is not null)
            {
                return $"{(isLate ? "late " : "")}{end} {said / 256}";
            }
        }

        throw new FuzzFindingException("the session does not come to an end");
    }

    private static string? ShakeOnce(TlsSession session)
    {
        try
        {
            session.Handshake();
        }
        catch (QapiException e)
        {
            return Shape(e.Desc);
        }

        Require(!session.IsEstablished, "somebody is let in who knows no secret");
        return null;
    }

    private string? ReadOnce(TlsSession session)
    {
        int n = session.Read(_buffer);
        Require(n <= 0, "bytes come out that the known peer has not sent");
        Require(n != 0, "an end is told that the known peer has not told");
        return n == -(int)Errno.EAGAIN ? null : $"{n}";
    }

    private static TlsSession Begin(string kind, bool isServer, SafeFd socket)
    {
        QomObject? Find(string id) => s_tree.Value.Objects.FindChild(id);
        TlsCredentials credentials = TlsCredentials.Find(Find, $"{kind}-{(isServer ? "server" : "client")}", isServer);
        return TlsSession.Create(credentials, new TlsPeerPolicy(Find, "localhost"), s_clocks, socket);
    }

    private static QomTree MakeObjects()
    {
        QomTree tree = new(new QomTypeRegistry());
        string folder = Directory.CreateTempSubdirectory("vmm-fuzz-tls-").FullName;
        TlsFiles.Full(folder);
        ObjectFactory factory = new(new ObjectContext(tree, null!, s_clocks));
        foreach (string end in (string[])["server", "client"])
        {
            factory.Add(Options("x509", end, folder));
            factory.Add(Options("psk", end, folder));
        }

        // Each handshake of a server reads its file of keys.
        AppDomain.CurrentDomain.ProcessExit += (_, _) => Directory.Delete(folder, recursive: true);
        return tree;
    }

    private static QDict Options(string kind, string end, string folder) => new()
    {
        ["qom-type"] = "tls-creds-" + kind,
        ["id"] = $"{kind}-{end}",
        ["endpoint"] = end,
        ["dir"] = folder,
    };
}
