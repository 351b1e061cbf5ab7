using System.Diagnostics;
using System.Net.Sockets;
using Vmm.Block.Backend;
using Vmm.Block.Exports;
using Vmm.Block.Qmp;
using Vmm.EventLoop.Tasks;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;
using Vmm.Qapi.Types;

namespace Vmm.Block.Tests.Nbd;

/// <summary>An NBD server of ours on a socket in the test's folder, and peers that run while the loop turns.</summary>
public abstract class NbdFixture : BlockFixture
{
    private readonly List<Process> _background = [];

    protected BlockExportFactory Exporting { get; private set; } = null!;

    protected List<string> Deleted { get; } = [];

    /// <summary>The operator's objects.</summary>
    protected QomTree Tree { get; private set; } = null!;

    protected string SocketPath => Path.Combine(Folder, "s");

    protected string Uri(string export) => $"nbd+unix:///{export}?socket={SocketPath}";

    [SetUp]
    public void MakeFactory()
    {
        Tree = new QomTree(new QomTypeRegistry());
        Graph.DriverRegistry.FindObject = id => Tree.Objects.FindChild(id);
        Exporting = new BlockExportFactory(Graph, Graph.DriverRegistry.FindObject);
        Deleted.Clear();
        Exporting.Exports.OnDeleted = Deleted.Add;
    }

    [TearDown]
    public void EndPeers()
    {
        foreach (Process process in _background)
        {
            process.Kill();
            process.WaitForExit();
            process.Dispose();
        }

        _background.Clear();
        if (Exporting.Server is not null)
        {
            Loop.RunUntil(Exporting.StopServerAsync());
        }
    }

    protected static void Need(params string[] programs)
    {
        foreach (string program in programs)
        {
            if (!File.Exists("/usr/bin/" + program))
            {
                Assert.Ignore(program + " is not installed");
            }
        }
    }

    protected void StartServer(uint maxConnections = 0, string? tls = null, string? authorization = null) => Exporting.StartServer(
        new SocketAddressLegacy { Type = SocketAddressType.Unix, Unix = new UnixSocketAddress { Path = SocketPath } },
        tls,
        authorization,
        maxConnections,
        null);

    /// <summary>Makes an operator's object; the JSON is what object-add takes.</summary>
    protected void AddObject(string json) =>
        new ObjectFactory(new ObjectContext(Tree, Loop, Loop.Clocks)).Add((QDict)QValue.Parse(json));

    /// <summary>Adds an export; the JSON is what block-export-add takes.</summary>
    protected void Export(string json) =>
        Loop.RunUntil(Exporting.AddAsync(BlockExportOptions.QapiRead(QValue.Parse(json), new QapiReader(), null)));

    /// <summary>Runs a program while the loop serves; its output and exit status.</summary>
    protected (int Code, string Text) Peer(string program, params string[] arguments)
    {
        using Process process = Start(program, arguments);
        process.StandardInput.Close();
        Task<(int, string)> ended = Task.Run(async () =>
        {
            Task<string> error = process.StandardError.ReadToEndAsync();
            string output = await process.StandardOutput.ReadToEndAsync();
            await process.WaitForExitAsync();
            return (process.ExitCode, output + await error);
        });
        ended.ContinueWith(_ => Loop.Post(static () => { }), TaskScheduler.Default);
        while (!ended.IsCompleted)
        {
            Loop.RunOnce(block: true);
        }

        return ended.Result;
    }

    /// <summary>As <see cref="Peer"/>; the program must succeed.</summary>
    protected string Good(string program, params string[] arguments)
    {
        (int code, string text) = Peer(program, arguments);
        Assert.That(code, Is.Zero, program + " " + string.Join(' ', arguments) + "\n" + text);
        return text;
    }

    /// <summary>Starts a server and waits until its socket listens.</summary>
    protected Process Background(string socket, string program, params string[] arguments)
    {
        Process process = Start(program, arguments);
        _background.Add(process);
        bool listens = SpinWait.SpinUntil(() => IsListening(socket) || process.HasExited, TimeSpan.FromSeconds(60));
        Assert.That(process.HasExited, Is.False, program);
        Assert.That(listens, program);
        return process;
    }

    // The file is there from bind on, connections are refused until listen; trying one would use up a server for a single client.
    private static bool IsListening(string socket)
    {
        const string accepts = " 00010000 ";
        return File.ReadLines("/proc/net/unix").Any(l => l.EndsWith(' ' + socket, StringComparison.Ordinal) && l.Contains(accepts, StringComparison.Ordinal));
    }

    protected void Stop(Process process)
    {
        process.Kill();
        process.WaitForExit();
        _background.Remove(process);
    }

    /// <summary>A connection that is no NBD client.</summary>
    protected Socket Connect()
    {
        Socket socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        socket.Connect(new UnixDomainSocketEndPoint(SocketPath));
        return socket;
    }

    /// <summary>A file of data and holes, which a seed determines.</summary>
    protected string SparseFile(string name, int bytes, int seed)
    {
        string path = NewFile(name, bytes);
        Random random = new(seed);
        using FileStream file = File.OpenWrite(path);
        for (int i = 0; i < 12; i++)
        {
            byte[] part = new byte[random.Next(1, bytes / 20)];
            random.NextBytes(part);
            file.Position = random.Next(bytes - part.Length);
            file.Write(part);
        }

        return path;
    }

    private Process Start(string program, string[] arguments)
    {
        ProcessStartInfo start = new(Path.Combine("/usr/bin", program))
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            RedirectStandardInput = true,
            WorkingDirectory = Folder,
        };
        foreach (string argument in arguments)
        {
            start.ArgumentList.Add(argument);
        }

        return Process.Start(start)!;
    }
}
