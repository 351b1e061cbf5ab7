using System.Runtime.InteropServices;
using Vmm.Monitor;
using Vmm.ObjectModel.Chardevs;
using Vmm.ObjectModel.Fds;

namespace Vmm.System.Wiring;

/// <summary>
/// The stream of a monitor over a character device. While others have the focus of a device that a terminal shares with them, the output of
/// the terminal waits. Home: the main loop.
/// </summary>
public sealed class CharMonitorChannel : IMonitorChannel, ICharHandler, IDisposable
{
    private readonly CharFrontend _frontend = new();
    private readonly FdSets _fdSets;
    private readonly Action _onWritable;
    private readonly bool _isTerminal;
    private IMonitorChannelHandler? _handler;
    private bool _connected;
    private bool _lostFocus;
    private bool _writableWanted;

    /// <summary>Takes hold of a character device.</summary>
    /// <param name="backend">The device.</param>
    /// <param name="fdSets">Sets that live as long as monitors are connected.</param>
    /// <param name="isTerminal">For a person, whose typing the session echoes; otherwise for a program.</param>
    /// <exception cref="Qapi.QapiException">The device is in use.</exception>
    public CharMonitorChannel(Chardev backend, FdSets fdSets, bool isTerminal)
    {
        _fdSets = fdSets;
        _isTerminal = isTerminal;
        _onWritable = OnDeviceWritable;
        _frontend.Connect(backend);
    }

    private bool MayWrite => !_isTerminal || !_lostFocus;

    /// <inheritdoc/>
    public void Attach(IMonitorChannelHandler handler)
    {
        _handler = handler;
        _frontend.SetEcho(!_isTerminal);
        _frontend.SetHandler(this);
    }

    /// <inheritdoc/>
    public void Detach()
    {
        _frontend.SetHandler(null);
        SetConnected(false);
        _handler = null;
    }

    /// <inheritdoc/>
    public int Write(ReadOnlySpan<byte> data)
    {
        if (!_connected)
        {
            return data.Length;
        }

        int taken = 0;
        while (taken < data.Length && MayWrite)
        {
            int n = _frontend.Write(data[taken..]);
            if (n <= 0)
            {
                break;
            }

            taken += n;
        }

        return taken;
    }

    /// <inheritdoc/>
    public void RequestWritable()
    {
        _writableWanted = true;
        if (MayWrite)
        {
            _frontend.WatchWritable(_onWritable);
        }
    }

    /// <inheritdoc/>
    public void ResumeInput() => _frontend.AcceptInput();

    /// <inheritdoc/>
    public SafeHandle? TakeReceivedFd() => _frontend.TakeReceivedFd();

    /// <summary>Lets go of the device.</summary>
    public void Dispose()
    {
        Detach();
        _frontend.Disconnect();
    }

    int ICharHandler.CanReceive() => _connected ? _handler!.CanReceive : 0;

    void ICharHandler.Receive(ReadOnlySpan<byte> data) => _handler?.Receive(data);

    void ICharHandler.OnEvent(ChardevEvent ev)
    {
        switch (ev)
        {
            case ChardevEvent.Opened when !_connected:
                SetConnected(true);
                _handler?.OnOpened();
                break;
            case ChardevEvent.Closed when _connected:
                _writableWanted = false;
                SetConnected(false);
                _handler?.OnClosed();
                break;
            case ChardevEvent.MuxOut:
                _handler?.OnFocus(false);
                _lostFocus = true;
                break;
            case ChardevEvent.MuxIn:
                _lostFocus = false;
                OnDeviceWritable();
                _handler?.OnFocus(true);
                break;
        }
    }

    private void OnDeviceWritable()
    {
        if (_writableWanted && _connected && MayWrite)
        {
            _writableWanted = false;
            _handler?.OnWritable();
        }
    }

    private void SetConnected(bool connected)
    {
        if (connected == _connected)
        {
            return;
        }

        _connected = connected;
        if (connected)
        {
            _fdSets.MonitorOpened();
        }
        else
        {
            _fdSets.MonitorClosed();
        }
    }
}
