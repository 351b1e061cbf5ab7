using System.Text;
using Vmm.Machines.Qtest;
using Vmm.ObjectModel.Chardevs;
using Vmm.TestKit.Devices;

namespace Vmm.Machines.Tests.Qtest;

/// <summary>A qtest server on an in-memory character device, in front of a PC's chipset.</summary>
internal sealed class QtestHarness : IDisposable
{
    private readonly FakeChardev _chardev = new() { Label = "qtest" };
    private readonly QtestServer _server;

    public QtestHarness()
    {
        Board = new PcTestBoard();
        var frontend = new CharFrontend();
        frontend.Connect(_chardev);
        _server = new QtestServer(frontend, Board.Machine.Objects, Board.Machine, null);
        _chardev.Raise(ChardevEvent.Opened);
    }

    public PcTestBoard Board { get; }

    /// <summary>Sends bytes, however they are split.</summary>
    public void Send(ReadOnlySpan<byte> bytes) => _chardev.Send(bytes);

    /// <summary>Sends a line and takes all lines that come back.</summary>
    public string[] Ask(string line)
    {
        Send(Encoding.ASCII.GetBytes(line + "\n"));
        return Take();
    }

    /// <summary>Takes all lines that came.</summary>
    public string[] Take()
    {
        string text = Encoding.ASCII.GetString([.. _chardev.Written]);
        _chardev.Written.Clear();
        return text.Split('\n', StringSplitOptions.RemoveEmptyEntries);
    }

    public void Dispose()
    {
        _server.Dispose();
        Board.Dispose();
    }
}
