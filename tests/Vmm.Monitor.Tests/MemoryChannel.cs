using System.Runtime.InteropServices;
using System.Text;
using Vmm.Monitor;

namespace Vmm.Monitor.Tests;

/// <summary>A channel in memory: the test is the other side.</summary>
internal sealed class MemoryChannel : IMonitorChannel
{
    private readonly List<byte> _output = [];
    private readonly Queue<(byte[] Data, SafeHandle[] Fds)> _input = new();
    private readonly Queue<SafeHandle> _fds = new();
    private IMonitorChannelHandler? _handler;
    private bool _wantsWritable;
    private bool _delivering;

    /// <summary>How many more bytes of output are taken.</summary>
    public int Room { get; set; } = int.MaxValue;

    public int WriteCalls { get; private set; }

    public bool IsInputBlocked => _input.Count > 0;

    public string Output => Encoding.UTF8.GetString(_output.ToArray());

    public void Attach(IMonitorChannelHandler handler)
    {
        _handler = handler;
        handler.OnOpened();
    }

    public void Detach() => _handler = null;

    public int Write(ReadOnlySpan<byte> data)
    {
        WriteCalls++;
        int taken = Math.Min(Room, data.Length);
        Room -= taken;
        _output.AddRange(data[..taken]);
        return taken;
    }

    public void RequestWritable() => _wantsWritable = true;

    public void ResumeInput() => Deliver();

    public SafeHandle? TakeReceivedFd() => _fds.TryDequeue(out SafeHandle? fd) ? fd : null;

    public string TakeOutput()
    {
        string output = Output;
        _output.Clear();
        return output;
    }

    public void Send(string text, params SafeHandle[] fds) => Send(Encoding.UTF8.GetBytes(text), fds);

    public void Send(byte[] data, params SafeHandle[] fds)
    {
        _input.Enqueue((data, fds));
        Deliver();
    }

    public void MakeRoom(int bytes)
    {
        Room = bytes;
        if (_wantsWritable)
        {
            _wantsWritable = false;
            _handler!.OnWritable();
        }
    }

    public void Disconnect() => _handler!.OnClosed();

    public void Connect() => _handler!.OnOpened();

    private void Deliver()
    {
        if (_delivering)
        {
            return;
        }

        _delivering = true;
        while (_input.TryPeek(out (byte[] Data, SafeHandle[] Fds) next) && _handler!.CanReceive > 0)
        {
            int count = Math.Min(next.Data.Length, _handler.CanReceive);
            _input.Dequeue();
            foreach (SafeHandle fd in next.Fds)
            {
                _fds.Enqueue(fd);
            }

            _handler.Receive(next.Data.AsSpan(0, count));
            while (_fds.TryDequeue(out SafeHandle? unread))
            {
                unread.Dispose();
            }

            if (count < next.Data.Length)
            {
                _input.Enqueue((next.Data[count..], []));
            }
        }

        _delivering = false;
    }
}

internal sealed class FakeFd : SafeHandle
{
    public FakeFd(int number)
        : base(-1, ownsHandle: true) => SetHandle(number);

    public override bool IsInvalid => false;

    public int Number => (int)handle;

    protected override bool ReleaseHandle() => true;
}
