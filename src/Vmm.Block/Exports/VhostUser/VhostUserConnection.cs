using System.Buffers.Binary;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Logging;
using Vmm.ObjectModel.Virtio;

namespace Vmm.Block.Exports.VhostUser;

/// <summary>
/// A front end of an export (vhost-user specification). Its messages and rings may hold anything: what is wrong ends the connection and nothing
/// else. Memory, rings and features change only while no request is under way. Home: the loop of the export's back end.
/// </summary>
internal sealed partial class VhostUserConnection : IVirtQueueOwner
{
    /// <summary>The protocol has features of its own.</summary>
    internal const ulong FeatureProtocol = 1ul << 30;

    /// <summary>Written pages are logged.</summary>
    internal const ulong FeatureLogAll = 1ul << 26;

    private const ulong VringIndexMask = 0xff;
    private const ulong VringNoFd = 0x100;
    private const uint BackendConfigChange = 2;

    private readonly VhostUserExport _export;
    private readonly VhostUserSocket _socket;
    private readonly VhostUserMemory _memory = new();
    private readonly VhostUserRing[] _rings;
    private readonly NativeBuffer _kickCount = new(sizeof(ulong));
    private SafeFd? _backendChannel;

    internal VhostUserConnection(VhostUserExport export, SafeFd socket, EventLoop.EventLoop loop)
    {
        _export = export;
        Loop = loop;
        _socket = new VhostUserSocket(socket, loop);
        _rings = new VhostUserRing[export.QueueCount];
        for (int i = 0; i < _rings.Length; i++)
        {
            VirtQueue queue = new(this, i, VhostUserExport.DefaultQueueSize);
            queue.Attach(_memory);
            _rings[i] = new VhostUserRing(queue, loop, _kickCount, Serve);
        }
    }

    /// <inheritdoc/>
    public ulong GuestFeatures { get; private set; }

    /// <inheritdoc/>
    public bool IsBroken { get; private set; }

    internal EventLoop.EventLoop Loop { get; }

    /// <inheritdoc/>
    public void Break(string what)
    {
        if (!IsBroken)
        {
            MachineLog.Write(LogItems.GuestErrors, "vhost-user-blk: " + what);
            IsBroken = true;
            _socket.Close();
        }
    }

    /// <inheritdoc/>
    public void InterruptQueue(int queue) => _rings[queue].Call();

    /// <summary>Ends the connection soon. Any thread.</summary>
    internal void Abort() => Loop.RunOrPost(_socket.Close);

    /// <summary>Serves the front end to the end of the connection, on <see cref="Loop"/>.</summary>
    internal async IoTask RunAsync()
    {
        while (!IsBroken && await _socket.ReadAsync() && await HandleAsync())
        {
        }

        IsBroken = true;
        _socket.Close();
        await DrainAsync();
        foreach (VhostUserRing ring in _rings)
        {
            ring.Dispose();
        }

        _memory.Dispose();
        _backendChannel?.Dispose();
        _kickCount.Dispose();
    }

    /// <summary>Tells the front end that the configuration space has changed. Home loop.</summary>
    internal void NotifyConfig()
    {
        if (_backendChannel is { } channel && !IsBroken)
        {
            Span<byte> message = stackalloc byte[VhostUserHeader.Bytes];
            VhostUserHeader.Write(message, BackendConfigChange, VhostUserHeader.Version, 0);

            // A front end that does not read its messages will not miss one.
            _ = Libc.Send(channel.Fd, message, Libc.MSG_DONTWAIT | Libc.MSG_NOSIGNAL);
        }
    }

    // False ends the connection.
    private async IoTask<bool> HandleAsync()
    {
        switch (_socket.Header.Request)
        {
            case VhostUserRequest.GetFeatures:
                return await ReplyAsync(_export.Features);
            case VhostUserRequest.GetProtocolFeatures:
                return await ReplyAsync((ulong)VhostUserProtocolFeatures.All);
            case VhostUserRequest.GetQueueNum:
                return await ReplyAsync((ulong)_rings.Length);
            case VhostUserRequest.GetMaxMemSlots:
                return await ReplyAsync(VhostUserLimits.MaxSlots);
            case VhostUserRequest.GetConfig:
                return await _socket.ReplyAsync(ReadConfig(_socket.Payload));
            case VhostUserRequest.GetVringBase:
                return await StopRingAsync();
            case VhostUserRequest.SetLogBase:
                return await SetLogAsync() && await ReplyAsync(0);
            case VhostUserRequest.SetFeatures or VhostUserRequest.SetMemTable or VhostUserRequest.AddMemReg or VhostUserRequest.RemMemReg:
                await DrainAsync();
                break;
        }

        if (IsBroken || !Apply())
        {
            MachineLog.Write(LogItems.GuestErrors, $"vhost-user-blk: message {(uint)_socket.Header.Request} refused");
            return false;
        }

        return !_socket.Header.NeedsReply || await ReplyAsync(0);
    }

    private bool Apply()
    {
        ReadOnlySpan<byte> payload = _socket.Payload;
        switch (_socket.Header.Request)
        {
            case VhostUserRequest.SetOwner or VhostUserRequest.ResetOwner or VhostUserRequest.SetLogFd or VhostUserRequest.SetVringErr:
                return true;
            case VhostUserRequest.SetProtocolFeatures:
                return TryReadU64(payload, out ulong protocol) && (protocol & ~(ulong)VhostUserProtocolFeatures.All) == 0;
            case VhostUserRequest.SetFeatures:
                return TryReadU64(payload, out ulong features) && SetFeatures(features);
            case VhostUserRequest.SetMemTable:
                return SetMemTable(payload);
            case VhostUserRequest.AddMemReg:
                return payload.Length >= 8 + VhostUserLimits.RegionBytes && _memory.Count < VhostUserLimits.MaxSlots
                    && AddRegion(payload[8..], 0) && PlaceRings();
            case VhostUserRequest.RemMemReg:
                return payload.Length >= 8 + VhostUserLimits.RegionBytes && VhostUserRegion.TryRead(payload[8..], out VhostUserRegion region)
                    && _memory.Remove(region) && PlaceRings();
            case VhostUserRequest.SetVringNum:
                return TryRing(payload, out VhostUserRing ring, out uint size) && SetSize(ring, size);
            case VhostUserRequest.SetVringBase:
                return TryRing(payload, out ring, out uint index) && SetBase(ring, index);
            case VhostUserRequest.SetVringAddr:
                return SetAddresses(payload);
            case VhostUserRequest.SetVringEnable:
                return TryRing(payload, out ring, out uint enable) && Enable(ring, enable != 0);
            case VhostUserRequest.SetVringKick:
                return TryEvent(payload, out ring, out EventFd? kick) && Start(ring, kick);
            case VhostUserRequest.SetVringCall:
                return TryEvent(payload, out ring, out EventFd? call) && SetCall(ring, call);
            case VhostUserRequest.SetBackendFd:
                return SetBackendChannel();
            case VhostUserRequest.SetConfig:
                return _export.TryWriteConfig(payload);
            default:
                return false;
        }
    }

    private async IoTask<bool> StopRingAsync()
    {
        if (!TryRing(_socket.Payload, out VhostUserRing ring, out _))
        {
            return false;
        }

        ring.Stop();
        await DrainAsync();
        return await ReplyAsync((uint)ring.Queue.Index | ((ulong)ring.Base << 32));
    }

    private async IoTask<bool> SetLogAsync()
    {
        await DrainAsync();
        ReadOnlySpan<byte> payload = _socket.Payload;
        if (payload.Length < 16 || _socket.FdCount != 1)
        {
            return false;
        }

        using SafeFd file = _socket.TakeFd(0);
        return _memory.SetLog(file, BinaryPrimitives.ReadUInt64LittleEndian(payload), BinaryPrimitives.ReadUInt64LittleEndian(payload[8..]));
    }

    private bool SetFeatures(ulong features)
    {
        // The specification lets a front end switch logging on and off at any time; everything else is said once.
        if ((features & ~_export.Features) != 0 || (features & VirtioFeatures.Version1) == 0)
        {
            return false;
        }

        GuestFeatures = features;
        _memory.IsLogging = (features & FeatureLogAll) != 0;
        _export.OnFeatures(features);
        if ((features & FeatureProtocol) == 0)
        {
            foreach (VhostUserRing ring in _rings)
            {
                Enable(ring, isEnabled: true);
            }
        }

        return true;
    }

    private bool SetMemTable(ReadOnlySpan<byte> payload)
    {
        if (payload.Length < 8)
        {
            return false;
        }

        uint count = BinaryPrimitives.ReadUInt32LittleEndian(payload);
        if (count > VhostUserLimits.MaxTable || count != _socket.FdCount || payload.Length < 8 + (count * VhostUserLimits.RegionBytes))
        {
            return false;
        }

        _memory.Clear();
        for (int i = 0; i < count; i++)
        {
            if (!AddRegion(payload[(8 + (i * VhostUserLimits.RegionBytes))..], i))
            {
                return false;
            }
        }

        return PlaceRings();
    }

    private bool AddRegion(ReadOnlySpan<byte> payload, int fd)
    {
        if (fd >= _socket.FdCount || !VhostUserRegion.TryRead(payload, out VhostUserRegion region))
        {
            return false;
        }

        using SafeFd file = _socket.TakeFd(fd);
        return _memory.Add(region, file);
    }

    private bool SetBackendChannel()
    {
        if (_socket.FdCount != 1)
        {
            return false;
        }

        _backendChannel?.Dispose();
        _backendChannel = _socket.TakeFd(0);
        return true;
    }

    private byte[] ReadConfig(ReadOnlySpan<byte> payload)
    {
        const int Fields = 12;
        if (payload.Length < Fields)
        {
            return [];
        }

        uint offset = BinaryPrimitives.ReadUInt32LittleEndian(payload);
        uint size = BinaryPrimitives.ReadUInt32LittleEndian(payload[4..]);
        if (offset > VhostUserExport.ConfigBytes || size > VhostUserExport.ConfigBytes - offset)
        {
            return [];
        }

        Span<byte> config = stackalloc byte[VhostUserExport.ConfigBytes];
        config.Clear();
        _export.FillConfig(config);
        byte[] reply = new byte[Fields + size];
        payload[..Fields].CopyTo(reply);
        config.Slice((int)offset, (int)size).CopyTo(reply.AsSpan(Fields));
        return reply;
    }

    private IoTask<bool> ReplyAsync(ulong value)
    {
        byte[] payload = new byte[sizeof(ulong)];
        BinaryPrimitives.WriteUInt64LittleEndian(payload, value);
        return _socket.ReplyAsync(payload);
    }

    private static bool TryReadU64(ReadOnlySpan<byte> payload, out ulong value)
    {
        bool isThere = payload.Length >= sizeof(ulong);
        value = isThere ? BinaryPrimitives.ReadUInt64LittleEndian(payload) : 0;
        return isThere;
    }
}
