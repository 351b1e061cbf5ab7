using Vmm.ObjectModel.Chardevs;
using Vmm.ObjectModel.Qom;

namespace Vmm.TestKit.Devices;

/// <summary>A character back end in memory: collects what the guest writes, can be blocked, can send.</summary>
public sealed class FakeChardev : Chardev
{
    private static readonly QomTypeInfo s_type = new() { Name = "chardev-fake", Parent = "chardev", Factory = static () => new FakeChardev() };
    private Action? _writable;

    /// <summary>Everything written.</summary>
    public List<byte> Written { get; } = [];

    /// <summary>Writes take nothing while set.</summary>
    public bool Blocked { get; set; }

    /// <summary>Times that <see cref="AcceptInput"/> was called.</summary>
    public int Accepts { get; private set; }

    /// <inheritdoc/>
    public override QomTypeInfo Type => s_type;

    /// <inheritdoc/>
    public override int Write(ReadOnlySpan<byte> data)
    {
        if (Blocked)
        {
            return 0;
        }

        foreach (byte b in data)
        {
            Written.Add(b);
        }

        return data.Length;
    }

    /// <inheritdoc/>
    public override void AcceptInput() => Accepts++;

    /// <inheritdoc/>
    public override bool WatchWritable(Action writable)
    {
        _writable = writable;
        return Blocked;
    }

    /// <summary>Ends or continues the blocking and tells the front end.</summary>
    public void Unblock(bool stillBlocked = false)
    {
        Blocked = stillBlocked;
        Action? writable = _writable;
        _writable = null;
        writable?.Invoke();
    }

    /// <summary>Sends as much as the front end takes; returns how many bytes that was.</summary>
    public int Send(ReadOnlySpan<byte> data)
    {
        ICharHandler handler = Frontend!.Handler!;
        int sent = 0;
        while (sent < data.Length)
        {
            int room = handler.CanReceive();
            if (room <= 0)
            {
                break;
            }

            int n = Math.Min(room, data.Length - sent);
            handler.Receive(data.Slice(sent, n));
            sent += n;
        }

        return sent;
    }

    /// <summary>Passes an event.</summary>
    public void Raise(ChardevEvent ev) => SendEvent(ev);
}
