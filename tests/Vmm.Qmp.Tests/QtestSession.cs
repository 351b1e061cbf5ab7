using System.Net.Sockets;
using System.Text;
using Vmm.TestKit.Processes;

namespace Vmm.Qmp.Tests;

/// <summary>An emulator that has connected to our socket, as test libraries do it.</summary>
internal sealed class QtestSession : IDisposable
{
    private readonly Socket _listener = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
    private readonly Socket _socket;
    private readonly StreamReader _reader;
    private readonly string _log;

    public QtestSession(string binary, string[] arguments)
    {
        string directory = Emulator.NewDirectory();
        _log = Path.Combine(directory, "talk.txt");
        _listener.Bind(new UnixDomainSocketEndPoint(Path.Combine(directory, "qtest.sock")));
        _listener.Listen();
        Emulator = Emulator.StartBinary(binary, true, directory, [.. arguments, "-qtest", "unix:qtest.sock", "-qtest-log", "talk.txt"]);
        if (!_listener.Poll(TimeSpan.FromSeconds(50), SelectMode.SelectRead))
        {
            throw new TimeoutException($"nobody connected: {Emulator.Errors}");
        }

        _socket = _listener.Accept();
        _reader = new StreamReader(new NetworkStream(_socket), Encoding.ASCII);
    }

    public Emulator Emulator { get; }

    /// <summary>All lines up to the answer.</summary>
    public List<string> Ask(string request)
    {
        _socket.Send(Encoding.ASCII.GetBytes(request + "\n"));
        List<string> lines = [];
        do
        {
            lines.Add(_reader.ReadLine() ?? throw new EndOfStreamException($"{request}: {Emulator.Errors}"));
        }
        while (lines[^1].StartsWith("IRQ ", StringComparison.Ordinal));
        return lines;
    }

    /// <summary>Ends the emulator as test libraries do; returns the log of the conversation, without times.</summary>
    public List<string> End()
    {
        Emulator.Qmp().Execute("quit");
        Assert.That(Emulator.WaitExit(), Is.Zero);
        return [.. QtestPeerTests.StripTimes(File.ReadAllLines(_log)).Where(l => l[1] != 'I')];
    }

    public void Dispose()
    {
        _reader.Dispose();
        _socket.Dispose();
        _listener.Dispose();
        Emulator.Dispose();
    }
}
