using Vmm.Block.Graph;
using Vmm.Block.Nbd;
using Vmm.Block.Options;
using Vmm.EventLoop;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.Sockets;
using Vmm.ObjectModel.Tls;
using Vmm.Qapi;
using Vmm.Qapi.Types;

namespace Vmm.Block.Drivers.Nbd;

/// <summary>
/// A client of an NBD server. When the connection is lost it is made again and again, at growing intervals; requests wait for that as long as
/// reconnect-delay says, counted from the loss, and fail at once afterwards.
/// </summary>
public sealed class NbdDriver : BlockDriver
{
    private const long FirstRetryNs = 1_000_000_000;
    private const long LongestRetryNs = 16_000_000_000;
    private const long OpenRetryNs = 200_000_000;

    private readonly SocketAddressLegacy _server;
    private readonly string _export;
    private readonly string? _givenExport;
    private readonly string? _bitmap;
    private readonly long _reconnectNs;
    private readonly long _openNs;
    private readonly LoopWorkers _workers;
    private readonly TlsSetup? _tls;
    private readonly string? _tlsId;
    private readonly string? _hostName;
    private readonly LoopWaitQueue _waiting = new();
    private readonly LoopWaitQueue _sleeping = new();
    private SafeFd? _given;
    private NbdLink? _link;
    private NbdExportInfo _info = new();
    private LoopTimer? _deadline;
    private LoopTimer? _retry;
    private bool _isClosed;
    private bool _isReconnecting;
    private bool _hasGivenUp;

    /// <summary>A client that is not connected yet.</summary>
    /// <param name="options">What to be.</param>
    /// <param name="workers">Where names are looked up.</param>
    /// <param name="objects">Finds an operator's objects by their ids.</param>
    /// <param name="fds">Finds the socket of an address of type fd.</param>
    /// <exception cref="QapiException">The options cannot be served.</exception>
    public NbdDriver(BlockdevOptionsNbd options, LoopWorkers workers, Func<string, QomObject?> objects, Func<string, SafeFd> fds)
    {
        _server = options.Server.ToLegacy();
        _givenExport = options.Export;
        _export = options.Export ?? "";
        _reconnectNs = (options.ReconnectDelay ?? 0) * 1_000_000_000L;
        _openNs = (options.OpenTimeout ?? 0) * 1_000_000_000L;
        _workers = workers;
        if (NbdWire.ByteCount(_export) > NbdLimits.MaxString)
        {
            throw new QapiException("export name too long to send to server");
        }

        _bitmap = options.XDirtyBitmap;
        if (_bitmap is not null && NbdWire.ByteCount(_bitmap) > NbdLimits.MaxString)
        {
            throw new QapiException("x-dirty-bitmap query too long to send to server");
        }

        _tlsId = options.TlsCreds;
        _hostName = options.TlsHostname;
        _tls = _tlsId is null
            ? null
            : new TlsSetup(TlsCredentials.Find(objects, _tlsId, isServer: false), new TlsPeerPolicy(objects, _hostName ?? _server.Inet?.Host));
        if (_server.Type == SocketAddressType.Fd)
        {
            _given = SocketEndpoints.Connect(_server, fds);
        }
    }

    /// <inheritdoc/>
    public override string FormatName => "nbd";

    /// <inheritdoc/>
    public override BlockRequestFlags SupportedWriteFlags => _info.Has(NbdExportFlags.SendFua) ? BlockRequestFlags.Fua : 0;

    /// <inheritdoc/>
    public override BlockRequestFlags SupportedZeroFlags => BlockRequestFlags.MayUnmap
        | (_info.Has(NbdExportFlags.SendFua) ? BlockRequestFlags.Fua : 0)
        | (_info.Has(NbdExportFlags.SendFastZero) ? BlockRequestFlags.NoFallback : 0);

    /// <inheritdoc/>
    public override string? ExactFilename
    {
        get
        {
            if (_server.Type == SocketAddressType.Fd)
            {
                return null;
            }

            string name = _givenExport is null ? "" : "/" + _givenExport;
            if (_server.Unix is { } unix)
            {
                return $"nbd+unix://{name}?socket={unix.Path}";
            }

            string host = _server.Inet!.Host.Contains(':') ? $"[{_server.Inet.Host}]" : _server.Inet.Host;
            return $"nbd://{host}:{_server.Inet.Port}{name}";
        }
    }

    /// <inheritdoc/>
    public override void DescribeOptions(QDict options)
    {
        if (_server.Fd is { } fd)
        {
            options["server.type"] = "fd";
            options["server.str"] = fd.Str;
        }
        else if (_server.Unix is { } unix)
        {
            options["server.type"] = "unix";
            options["server.path"] = unix.Path;
        }
        else
        {
            options["server.type"] = "inet";
            options["server.host"] = _server.Inet!.Host;
            options["server.port"] = _server.Inet.Port;
        }

        if (_givenExport is not null)
        {
            options["export"] = _givenExport;
        }

        if (_tlsId is not null)
        {
            options["tls-creds"] = _tlsId;
        }

        if (_hostName is not null)
        {
            options["tls-hostname"] = _hostName;
        }
    }

    /// <inheritdoc/>
    public override IoTask<long> GetLengthAsync() => new((long)_info.Size);

    /// <inheritdoc/>
    public override async IoTask OpenAsync()
    {
        long start = Node.Loop.Clocks.NowNs(ClockType.Realtime);
        while (true)
        {
            try
            {
                Take(await ConnectAsync());
                break;
            }
            catch (QapiException) when (Node.Loop.Clocks.NowNs(ClockType.Realtime) - start < _openNs)
            {
            }

            await SleepAsync(OpenRetryNs);
        }

        if (_bitmap is not null && _info.ContextId is null)
        {
            await CloseAsync();
            throw new QapiException($"Could not open image: {Errno.EINVAL.Message()}");
        }

        if (_info.Has(NbdExportFlags.ReadOnly))
        {
            try
            {
                Node.RequireReadOnly("request on write denied without write permission");
            }
            catch (QapiException)
            {
                await CloseAsync();
                throw;
            }
        }
    }

    /// <inheritdoc/>
    public override IoTask CloseAsync()
    {
        _isClosed = true;
        _deadline?.Dispose();
        _retry?.Dispose();
        _sleeping.WakeAll();
        _waiting.WakeAll();
        _link?.Close();
        _link = null;
        _given?.Dispose();
        return IoTask.CompletedTask;
    }

    /// <inheritdoc/>
    public override void OnLoopChanged() => _link?.MoveTo(Node.Loop);

    /// <inheritdoc/>
    public override void RefreshLimits(ref BlockLimits limits)
    {
        int min = (int)_info.MinBlock;
        limits.RequestAlignment = Math.Max(1, min);
        limits.MaxTransfer = (int)Math.Min(_info.MaxBlock, NbdLimits.MaxPayload) / min * min;
        limits.OptTransfer = (int)Math.Min(_info.OptBlock, NbdLimits.MaxPayload);
        limits.MemoryAlignment = 1;
        limits.MaxIov = 1024;
    }

    /// <inheritdoc/>
    public override async IoTask<int> ReadAsync(long offset, IoVectors data, BlockRequestFlags flags) =>
        (await RequestAsync(NbdCommand.Read, 0, offset, data.Size, data)).Result;

    /// <inheritdoc/>
    public override async IoTask<int> WriteAsync(long offset, IoVectors data, BlockRequestFlags flags) =>
        (await RequestAsync(NbdCommand.Write, Fua(flags), offset, data.Size, data)).Result;

    /// <inheritdoc/>
    public override async IoTask<int> WriteZeroesAsync(long offset, long bytes, BlockRequestFlags flags)
    {
        bool isFast = (flags & BlockRequestFlags.NoFallback) != 0;
        if (!_info.Has(NbdExportFlags.SendWriteZeroes) || (isFast && !_info.Has(NbdExportFlags.SendFastZero)))
        {
            return BlockResult.NotSupported;
        }

        NbdCommandFlags how = Fua(flags)
            | ((flags & BlockRequestFlags.MayUnmap) == 0 ? NbdCommandFlags.NoHole : 0)
            | (isFast ? NbdCommandFlags.FastZero : 0);
        return (await RequestAsync(NbdCommand.WriteZeroes, how, offset, bytes, null)).Result;
    }

    /// <inheritdoc/>
    public override async IoTask<int> DiscardAsync(long offset, long bytes) =>
        _info.Has(NbdExportFlags.SendTrim) ? (await RequestAsync(NbdCommand.Trim, 0, offset, bytes, null)).Result : 0;

    /// <inheritdoc/>
    public override async IoTask<int> FlushToDiskAsync() =>
        _info.Has(NbdExportFlags.SendFlush) ? (await RequestAsync(NbdCommand.Flush, 0, 0, 0, null)).Result : 0;

    /// <inheritdoc/>
    public override async IoTask<BlockStatus> StatusAsync(long offset, long bytes, bool wantZero)
    {
        if (_info.ContextId is null)
        {
            return new BlockStatus(BlockStatusFlags.Data | BlockStatusFlags.OffsetValid, bytes, offset, Node);
        }

        (int result, long extent, ulong state) = await RequestAsync(NbdCommand.BlockStatus, NbdCommandFlags.RequestOne, offset, bytes, null);
        if (result < 0)
        {
            return BlockStatus.Error(result);
        }

        // A server may cut ranges as it likes; the node's alignment is kept by leaving the rest of a block out, or by taking all of it.
        long known = Math.Min(extent, bytes) & ~(long)(_info.MinBlock - 1);
        if (known == 0)
        {
            return new BlockStatus(BlockStatusFlags.Data | BlockStatusFlags.OffsetValid, _info.MinBlock, offset, Node);
        }

        BlockStatusFlags flags = BlockStatusFlags.OffsetValid
            | ((state & NbdLimits.StateHole) != 0 ? 0 : BlockStatusFlags.Data)
            | ((state & NbdLimits.StateZero) != 0 ? BlockStatusFlags.Zero : 0);
        return new BlockStatus(flags, known, offset, Node);
    }

    private static NbdCommandFlags Fua(BlockRequestFlags flags) => (flags & BlockRequestFlags.Fua) != 0 ? NbdCommandFlags.Fua : 0;

    private async IoTask<(int Result, long Extent, ulong State)> RequestAsync(
        NbdCommand command, NbdCommandFlags flags, long offset, long length, IoVectors? data)
    {
        while (true)
        {
            if (_link is { } link)
            {
                // The next connection may have other headers than the last one: each tells what is too much for it.
                long part = Math.Min(length, link.MaxLength);
                (int Result, long Extent, ulong State) reply = await link.RequestAsync(command, flags, offset, part, data);
                if (!link.IsLost || reply.Result != BlockResult.Io)
                {
                    if (part == length || reply.Result < 0 || command == NbdCommand.BlockStatus)
                    {
                        return reply;
                    }

                    offset += part;
                    length -= part;
                    continue;
                }
            }

            // What was lost with its connection is sent again over the next one.
            if (_isClosed || _reconnectNs == 0 || _hasGivenUp)
            {
                return (BlockResult.Io, 0, 0);
            }

            if (_link is null)
            {
                await _waiting.WaitAsync();
            }
        }
    }

    private async IoTask<NbdLink> ConnectAsync()
    {
        NbdSocket socket = new(await ReachAsync(), Node.Loop);
        try
        {
            using NbdHandshake handshake = new(socket, _export, _bitmap ?? NbdLimits.BaseAllocation, _tls);
            return new NbdLink(socket, await handshake.RunAsync(), OnLost);
        }
        catch (QapiException)
        {
            socket.Close();
            throw;
        }
    }

    // A socket that was given lasts for one connection: there is no way to another one.
    private async IoTask<SafeFd> ReachAsync()
    {
        if (_server.Type != SocketAddressType.Fd)
        {
            return await new NbdConnector(_workers, _server).ConnectAsync();
        }

        SafeFd socket = _given ?? throw new QapiException($"File descriptor '{_server.Fd!.Str}' is not a socket");
        _given = null;
        socket.SetNonBlocking(true);
        return socket;
    }

    private void Take(NbdLink link)
    {
        _link = link;
        _info = link.Info;
        _hasGivenUp = false;
        _deadline?.Cancel();
        link.ReceiveAsync().Forget();
        _waiting.WakeAll();
    }

    private void OnLost(NbdLink link)
    {
        if (_link != link)
        {
            return;
        }

        _link = null;
        if (_isClosed)
        {
            return;
        }

        if (_reconnectNs > 0)
        {
            _deadline ??= Node.Loop.CreateTimer(ClockType.Realtime, GiveUp);
            _deadline.ArmAfter(_reconnectNs);
        }

        if (!_isReconnecting)
        {
            ReconnectAsync().Forget();
        }
    }

    private void GiveUp()
    {
        _hasGivenUp = true;
        _waiting.WakeAll();
    }

    private async IoTask ReconnectAsync()
    {
        _isReconnecting = true;
        for (long delay = FirstRetryNs; !_isClosed && _link is null; delay = Math.Min(2 * delay, LongestRetryNs))
        {
            try
            {
                NbdLink link = await ConnectAsync();

                // Users of the node count on what it could do before.
                if (_isClosed || link.Info.Size < (ulong)Node.Length || link.Info.MinBlock > _info.MinBlock
                    || (_bitmap is not null && link.Info.ContextId is null)
                    || (link.Info.Has(NbdExportFlags.ReadOnly) && !Node.Options.IsReadOnly))
                {
                    link.Close();
                }
                else
                {
                    Take(link);
                    break;
                }
            }
            catch (QapiException)
            {
                // The server is not back yet.
            }

            await SleepAsync(delay);
        }

        _isReconnecting = false;
    }

    private async IoTask SleepAsync(long ns)
    {
        if (_isClosed)
        {
            return;
        }

        _retry?.Dispose();
        _retry = Node.Loop.CreateTimer(ClockType.Realtime, _sleeping.WakeAll);
        _retry.ArmAfter(ns);
        await _sleeping.WaitAsync();
    }
}
