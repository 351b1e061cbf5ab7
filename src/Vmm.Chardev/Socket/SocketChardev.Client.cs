using Vmm.EventLoop;
using Vmm.Interop;
using Vmm.ObjectModel.Sockets;
using Vmm.Qapi;
using Vmm.Qapi.Types;

namespace Vmm.Chardevs;

/// <content>Connecting again and again without blocking.</content>
public sealed partial class SocketChardev
{
    private const long NsPerSecond = 1_000_000_000;

    private readonly LoopTimer? _reconnect;
    private List<SockAddr> _candidates = [];
    private int _nextCandidate;
    private SafeFd? _connecting;
    private FdWatch? _connectWatch;
    private bool _failureReported;

    private void ScheduleReconnect() => _reconnect?.ArmAfter(_options.Reconnect!.Value * NsPerSecond);

    private void BeginReconnect()
    {
        if (Host.Workers is { } workers && _address.Type == SocketAddressType.Inet && !SocketEndpoints.IsNumeric(_address.Inet!))
        {
            _ = ResolveInBackground(workers);
            return;
        }

        try
        {
            BeginWith(SocketEndpoints.Candidates(_address));
        }
        catch (QapiException e)
        {
            ConnectFailed(e);
        }
    }

    private async Task ResolveInBackground(WorkerPool workers)
    {
        List<SockAddr> candidates = [];
        QapiException? failure = null;
        try
        {
            SocketAddressLegacy address = _address;
            candidates = await workers.RunAsync(() => SocketEndpoints.Candidates(address)).ConfigureAwait(true);
        }
        catch (QapiException e)
        {
            failure = e;
        }

        await Host.Loop.SwitchTo();
        if (IsDisposed)
        {
            return;
        }

        if (failure is not null)
        {
            ConnectFailed(failure);
        }
        else
        {
            BeginWith(candidates);
        }
    }

    private void BeginWith(List<SockAddr> candidates)
    {
        _candidates = candidates;
        _nextCandidate = 0;
        TryNextCandidate(Errno.OK);
    }

    private void TryNextCandidate(Errno errno)
    {
        while (_nextCandidate < _candidates.Count)
        {
            errno = SocketEndpoints.BeginConnect(_address, _candidates[_nextCandidate++], out SafeFd socket);
            if (errno == Errno.OK)
            {
                Connected(socket);
                return;
            }

            if (errno == Errno.EINPROGRESS)
            {
                _connecting = socket;
                _connectWatch = Host.Loop.Watch(socket.Fd, FdEvents.Writable, OnConnectDone);
                return;
            }

            socket.Dispose();
        }

        ConnectFailed(SocketEndpoints.ConnectFailed(_address, errno));
    }

    private void OnConnectDone(FdEvents ready)
    {
        SafeFd socket = _connecting!;
        _connectWatch!.Dispose();
        _connectWatch = null;
        _connecting = null;
        Errno errno = Libc.SocketError(socket.Fd);
        if (errno == Errno.OK)
        {
            Connected(socket);
            return;
        }

        socket.Dispose();
        TryNextCandidate(errno);
    }

    private void Connected(SafeFd socket)
    {
        _failureReported = false;
        Attach(socket);
    }

    // Told once, not at every attempt.
    private void ConnectFailed(QapiException error)
    {
        if (!_failureReported)
        {
            _failureReported = true;
            Host.Report($"Unable to connect character device {Label}: {error.Desc}");
        }

        ScheduleReconnect();
    }

    private void StopConnecting()
    {
        _connectWatch?.Dispose();
        _connectWatch = null;
        _connecting?.Dispose();
        _connecting = null;
    }
}
