using System.Runtime.InteropServices;
using System.Text;
using Vmm.EventLoop;
using Vmm.Interop;
using Vmm.ObjectModel.Chardevs;
using Vmm.ObjectModel.Fds;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;
using IODirectory = System.IO.Directory;

namespace Vmm.Chardevs.Tests;

/// <summary>A loop, a registry and a directory for one test.</summary>
internal sealed class ChardevWorld : IDisposable
{
    private const long PatienceNs = 20_000_000_000;

    private readonly MachineLock _lock = new();
    private bool _late;

    public ChardevWorld()
    {
        _lock.Enter();
        Clocks = new Clocks();
        Loop = new EventLoop.EventLoop("test", Clocks, _lock);
        Loop.Bind();
        Host = new ChardevHost(Loop, Fds)
        {
            Report = Reports.Add,
            Announce = Announcements.Add,
            Quit = () => Quits++,
            Objects = id => Tree!.Objects.FindChild(id),
        };
        var types = new QomTypeRegistry();
        types.AddCatalog(ChardevQomTypes.Register);
        Tree = new QomTree(types);
        Registry = new ChardevRegistry(Host, Tree.Chardevs);
        Registry.MachineReady();
        Directory = IODirectory.CreateTempSubdirectory("vmm-chardev").FullName;
    }

    public Clocks Clocks { get; }

    public EventLoop.EventLoop Loop { get; }

    public FdSets Fds { get; } = new();

    public ChardevHost Host { get; }

    public QomTree Tree { get; }

    public ChardevRegistry Registry { get; }

    public string Directory { get; }

    public List<string> Reports { get; } = [];

    public List<string> Announcements { get; } = [];

    public int Quits { get; private set; }

    public string PathOf(string name) => Path.Combine(Directory, name);

    /// <summary>Makes a back end from the JSON text of a chardev-add backend; single quotes will do.</summary>
    public Chardev Add(string id, string backend, IMonitorSession? session = null) => Registry.Add(id, Backend(backend), session);

    public static ChardevBackend Backend(string json) => ChardevBackend.QapiRead(QValue.Parse(json), new QapiReader(), "backend");

    /// <summary>Turns the loop until something holds; fails after a long time, so that a defect does not hang the run.</summary>
    public void Until(Func<bool> condition)
    {
        _late = false;
        using LoopTimer patience = Loop.CreateTimer(ClockType.Realtime, () => _late = true);
        patience.ArmAfter(PatienceNs);
        while (!condition())
        {
            Assert.That(_late, Is.False, "waited in vain");
            Loop.RunOnce(block: true);
        }
    }

    /// <summary>Turns the loop until it has nothing to do at once.</summary>
    public void Settle()
    {
        for (int i = 0; i < 1000 && Loop.RunOnce(block: false); i++)
        {
        }
    }

    public void Dispose()
    {
        Registry.Close();
        Loop.Dispose();
        _lock.Exit();
        IODirectory.Delete(Directory, recursive: true);
    }
}

/// <summary>A front end that remembers what it got and takes as much as it is told to.</summary>
internal sealed class Recorder : ICharHandler
{
    public Recorder(Chardev? backend = null, bool setOpen = true)
    {
        if (backend is not null)
        {
            Frontend.Connect(backend);
            Frontend.SetHandler(this, setOpen);
        }
    }

    public CharFrontend Frontend { get; } = new();

    public List<byte> Bytes { get; } = [];

    public List<ChardevEvent> Events { get; } = [];

    public List<int> Sizes { get; } = [];

    public List<SafeFd> Fds { get; } = [];

    public int Limit { get; set; } = int.MaxValue;

    public bool TakesFds { get; set; }

    public bool AllowsChange { get; set; }

    public int Changed { get; private set; }

    public string Text => Encoding.Latin1.GetString(CollectionsMarshal.AsSpan(Bytes));

    public int CanReceive() => Limit;

    public void Receive(ReadOnlySpan<byte> data)
    {
        Assert.That(data.Length, Is.LessThanOrEqualTo(Limit).And.GreaterThan(0));
        Bytes.AddRange(data);
        Sizes.Add(data.Length);
        while (TakesFds && Frontend.TakeReceivedFd() is { } fd)
        {
            Fds.Add(fd);
        }
    }

    public void OnEvent(ChardevEvent ev) => Events.Add(ev);

    public bool OnBackendChange() => AllowsChange;

    public void OnBackendChanged() => Changed++;
}

/// <summary>A monitor with descriptors to give.</summary>
internal sealed class FakeSession : IMonitorSession
{
    private readonly Dictionary<string, SafeHandle> _named = [];

    public Queue<SafeHandle> Received { get; } = new();

    public string? Name => "test";

    public bool IsHmp => false;

    public int CpuIndex { get; set; } = -1;

    public SafeHandle? TakeReceivedFd() => Received.TryDequeue(out SafeHandle? fd) ? fd : null;

    public void AddNamedFd(string name, SafeHandle fd)
    {
        CloseNamedFd(name);
        _named[name] = fd;
    }

    public bool CloseNamedFd(string name)
    {
        if (_named.Remove(name, out SafeHandle? fd))
        {
            fd.Dispose();
            return true;
        }

        return false;
    }

    public SafeHandle? TakeNamedFd(string name) => _named.Remove(name, out SafeHandle? fd) ? fd : null;
}

/// <summary>A raw socket of the other side, non-blocking.</summary>
internal sealed class Peer : IDisposable
{
    private Peer(SafeFd socket)
    {
        socket.SetNonBlocking(true);
        Socket = socket;
    }

    public SafeFd Socket { get; }

    public static Peer Unix(string path) => Connect(SockAddr.Unix(path)!);

    public static Peer Abstract(string name) => Connect(SockAddr.UnixAbstract(name)!);

    public static Peer Tcp(int port) => Connect(SockAddr.InetV4([127, 0, 0, 1], port));

    public static (Peer Peer, SafeFd Other) Pair()
    {
        Check(Libc.SocketPair(Libc.SOCK_STREAM, out SafeFd first, out SafeFd second));
        return (new Peer(first), second);
    }

    public static Peer Of(SafeFd socket) => new(socket);

    public static void Check(Errno errno) => Assert.That(errno, Is.EqualTo(Errno.OK));

    public void Send(string text) => Send(Encoding.Latin1.GetBytes(text));

    public void Send(ReadOnlySpan<byte> data)
    {
        int n = Libc.Send(Socket.Fd, data);
        Assert.That(n, Is.EqualTo(data.Length));
    }

    public void SendWithFds(string text, params int[] fds)
    {
        int n = Libc.SendWithFds(Socket.Fd, Encoding.Latin1.GetBytes(text), fds);
        Assert.That(n, Is.EqualTo(text.Length));
    }

    /// <summary>What can be read now; null at the end of the stream.</summary>
    public string? Read()
    {
        byte[] buffer = new byte[65536];
        int n = Libc.Recv(Socket.Fd, buffer);
        return n == 0 || n == -(int)Errno.ECONNRESET ? null : n < 0 ? "" : Encoding.Latin1.GetString(buffer, 0, n);
    }

    /// <summary>Exactly that many bytes, waited for.</summary>
    public string Read(int count)
    {
        byte[] buffer = new byte[count];
        for (int have = 0; have < count;)
        {
            int n = Libc.Recv(Socket.Fd, buffer.AsSpan(have));
            if (n == -(int)Errno.EAGAIN)
            {
                Assert.That(Libc.Poll(Socket.Fd, Libc.POLLIN, 20_000), Is.GreaterThan(0), "waited in vain");
                continue;
            }

            Assert.That(n, Is.GreaterThan(0));
            have += n;
        }

        return Encoding.Latin1.GetString(buffer);
    }

    public void Dispose() => Socket.Dispose();

    private static Peer Connect(SockAddr address)
    {
        Check(Libc.Socket(address.Family, Libc.SOCK_STREAM, 0, out SafeFd socket));
        Check(Libc.Connect(socket.Fd, address));
        return new Peer(socket);
    }
}
