using System.Runtime.InteropServices;
using Vmm.Qapi;

namespace Vmm.Monitor;

/// <summary>What QMP and HMP sessions have in common: a name, a selected vCPU, descriptors, buffered output. Home: the main loop.</summary>
public abstract class MonitorSession : IMonitorSession, IMonitorChannelHandler
{
    /// <summary>Largest amount of input that is taken at once, in bytes.</summary>
    protected const int ReceiveLimit = 64 * 1024;

    private readonly Dictionary<string, SafeHandle> _namedFds = [];
    private readonly IMonitorChannel _channel;

    private protected MonitorSession(MonitorCore core, IMonitorChannel channel, string? name)
    {
        Core = core;
        Name = name;
        _channel = channel;
        Output = new OutputBuffer(channel);
    }

    /// <inheritdoc/>
    public string? Name { get; }

    /// <inheritdoc/>
    public abstract bool IsHmp { get; }

    /// <inheritdoc/>
    public int CpuIndex { get; set; } = -1;

    /// <summary>Whether the other side is connected.</summary>
    public bool IsOpen { get; private set; }

    /// <inheritdoc/>
    public abstract int CanReceive { get; }

    /// <summary>The monitors this one belongs to.</summary>
    internal MonitorCore Core { get; }

    private protected OutputBuffer Output { get; }

    private protected IMonitorChannel Channel => _channel;

    /// <inheritdoc/>
    public abstract SafeHandle? TakeReceivedFd();

    /// <inheritdoc/>
    public void AddNamedFd(string name, SafeHandle fd)
    {
        CloseNamedFd(name);
        _namedFds.Add(name, fd);
    }

    /// <inheritdoc/>
    public bool CloseNamedFd(string name)
    {
        SafeHandle? fd = TakeNamedFd(name);
        fd?.Dispose();
        return fd != null;
    }

    /// <inheritdoc/>
    public SafeHandle? TakeNamedFd(string name)
    {
        _namedFds.Remove(name, out SafeHandle? fd);
        return fd;
    }

    /// <inheritdoc/>
    public abstract void Receive(ReadOnlySpan<byte> data);

    /// <inheritdoc/>
    public void OnOpened()
    {
        IsOpen = true;
        Opened();
    }

    /// <inheritdoc/>
    public void OnClosed()
    {
        if (IsOpen)
        {
            IsOpen = false;
            Output.Clear();
            Closed();
            Core.SessionClosed();
        }
    }

    /// <inheritdoc/>
    public virtual void OnFocus(bool focused)
    {
    }

    /// <inheritdoc/>
    public void OnWritable()
    {
        Output.OnWritable();
        if (Output.Pending == 0)
        {
            Drained();
        }
    }

    /// <summary>Hands out buffered output as far as the other side takes it.</summary>
    public void Flush() => Output.Flush();

    internal void Start() => _channel.Attach(this);

    internal void Stop()
    {
        _channel.Detach();
        OnClosed();
        foreach (SafeHandle fd in _namedFds.Values)
        {
            fd.Dispose();
        }

        _namedFds.Clear();
    }

    private protected abstract void Opened();

    private protected abstract void Closed();

    private protected abstract void Drained();
}
