using System.Buffers.Binary;
using System.Numerics;
using Vmm.Block.Backend;
using Vmm.Block.Qmp;
using Vmm.EventLoop;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Sockets;
using Vmm.ObjectModel.Virtio;
using Vmm.Qapi;

namespace Vmm.Block.Exports.VhostUser;

/// <summary>
/// A node as a virtio disk for a machine in another process, one front end at a time; others wait until it has gone. Home: main loop; what a
/// connection asks, the loop of the back end.
/// </summary>
internal sealed class VhostUserExport : BlockExport
{
    /// <summary>Entries of a ring unless the driver wants others.</summary>
    internal const int DefaultQueueSize = 128;

    /// <summary>Bytes of the configuration space (virtio 1.2, 5.2.4).</summary>
    internal const int ConfigBytes = 60;

    private const uint MaxSectors = 32768;
    private const uint MinBlockSize = 512;
    private const uint MaxBlockSize = 2 << 20;

    private const ulong CommonFeatures = VirtioBlkFeatures.SizeMax | VirtioBlkFeatures.SegMax | VirtioBlkFeatures.BlockSize | VirtioBlkFeatures.Flush
        | VirtioBlkFeatures.Topology | VirtioBlkFeatures.ConfigWce | VirtioBlkFeatures.Queues | VirtioBlkFeatures.Discard | VirtioBlkFeatures.WriteZeroes
        | VirtioFeatures.NotifyOnEmpty | VirtioFeatures.IndirectDescriptors | VirtioFeatures.EventIndex | VirtioFeatures.Version1
        | VhostUserConnection.FeatureLogAll | VhostUserConnection.FeatureProtocol;

    private readonly EventLoop.EventLoop _mainLoop;
    private readonly SafeFd _listener;
    private readonly FdWatch _watch;
    private readonly ListenerFile _file;
    private readonly uint _blockSize;
    private readonly bool _isWritable;
    private readonly bool _isCached;
    private VhostUserConnection? _connection;

    /// <summary>Serves on a listening, non-blocking socket.</summary>
    internal VhostUserExport(BlockExportOptions options, BlockBackend backend, EventLoop.EventLoop mainLoop, SafeFd listener)
        : base(options.Id, BlockExportType.VhostUserBlk, backend)
    {
        BlockExportOptionsVhostUserBlk own = options.VhostUserBlk!;
        _mainLoop = mainLoop;
        _listener = listener;
        _file = ListenerFile.Of(listener);
        _blockSize = BlockSize(own);
        _isWritable = options.Writable ?? false;
        _isCached = backend.IsWriteCacheEnabled;
        QueueCount = own.NumQueues ?? 1;
        backend.Resized = OnResized;
        _watch = mainLoop.Watch(listener.Fd, FdEvents.Readable, _ => Accept());
    }

    /// <inheritdoc/>
    public override bool IsUsed => _connection is not null;

    /// <summary>A front end may be told to go at any time: it connects again.</summary>
    public override bool NeedsForce => false;

    /// <summary>Number of queues.</summary>
    internal int QueueCount { get; }

    /// <summary>Features offered.</summary>
    internal ulong Features => CommonFeatures | (_isWritable ? 0 : VirtioBlkFeatures.ReadOnly);

    /// <summary>What requests are checked against.</summary>
    internal VirtioBlkTraits Traits => new()
    {
        Length = Backend.Length,
        BlockSize = _blockSize,
        MaxDiscard = MaxSectors,
        MaxZeroes = MaxSectors,
        IsWritable = _isWritable,
        Serial = "vhost_user_blk",
    };

    /// <summary>Checks what can be wrong with options before anything is made.</summary>
    /// <exception cref="QapiException">Something is.</exception>
    internal static void Check(BlockExportOptions options)
    {
        BlockExportOptionsVhostUserBlk own = options.VhostUserBlk!;
        uint size = BlockSize(own);
        if (own.LogicalBlockSize is > uint.MaxValue || size is < MinBlockSize or > MaxBlockSize)
        {
            throw new QapiException($"Property {options.Id}.logical-block-size doesn't take value {own.LogicalBlockSize} "
                + $"(minimum: {MinBlockSize}, maximum: {MaxBlockSize})");
        }

        if (!BitOperations.IsPow2(size))
        {
            throw new QapiException($"Property {options.Id}.logical-block-size doesn't take value '{size}', it's not a power of 2");
        }

        if (own.NumQueues == 0)
        {
            throw new QapiException("num-queues must be greater than 0");
        }
    }

    /// <summary>Fills the configuration space, which is zero before.</summary>
    internal void FillConfig(Span<byte> config)
    {
        BinaryPrimitives.WriteUInt64LittleEndian(config, (ulong)Math.Max(Backend.Length, 0) >> VirtioBlkRequest.SectorBits);
        BinaryPrimitives.WriteUInt32LittleEndian(config[12..], DefaultQueueSize - 2);
        BinaryPrimitives.WriteUInt32LittleEndian(config[20..], _blockSize);
        BinaryPrimitives.WriteUInt16LittleEndian(config[26..], 1);
        BinaryPrimitives.WriteUInt32LittleEndian(config[28..], 1);

        // A driver that reads 0 here never flushes: this is how it is, not 0 as long as nobody has written it.
        config[VirtioBlkFeatures.WceOffset] = (byte)(Backend.IsWriteCacheEnabled ? 1 : 0);
        BinaryPrimitives.WriteUInt16LittleEndian(config[34..], (ushort)QueueCount);
        BinaryPrimitives.WriteUInt32LittleEndian(config[36..], MaxSectors);
        BinaryPrimitives.WriteUInt32LittleEndian(config[40..], 1);
        BinaryPrimitives.WriteUInt32LittleEndian(config[44..], _blockSize >> VirtioBlkRequest.SectorBits);
        BinaryPrimitives.WriteUInt32LittleEndian(config[48..], MaxSectors);
        BinaryPrimitives.WriteUInt32LittleEndian(config[52..], 1);
    }

    /// <summary>A front end writes to the configuration space: the switch of the write cache. False for anything else.</summary>
    internal bool TryWriteConfig(ReadOnlySpan<byte> payload)
    {
        const int Fields = 12;
        if (payload.Length <= Fields || BinaryPrimitives.ReadUInt32LittleEndian(payload) != VirtioBlkFeatures.WceOffset
            || BinaryPrimitives.ReadUInt32LittleEndian(payload[4..]) != 1 || BinaryPrimitives.ReadUInt32LittleEndian(payload[8..]) != 0)
        {
            return false;
        }

        Backend.IsWriteCacheEnabled = payload[Fields] != 0;
        return true;
    }

    /// <summary>A front end has chosen its features: without the switch of the cache, and without flushes, each write is to be complete.</summary>
    internal void OnFeatures(ulong features)
    {
        if ((features & VirtioBlkFeatures.ConfigWce) == 0)
        {
            Backend.IsWriteCacheEnabled = _isCached && (features & VirtioBlkFeatures.Flush) != 0;
        }
    }

    /// <summary>Serves a connected, non-blocking socket; nobody else is being served.</summary>
    internal void Serve(SafeFd socket)
    {
        _watch.Interest = FdEvents.None;
        ServeAsync(socket).Forget();
    }

    /// <inheritdoc/>
    protected override void OnShutDown()
    {
        Backend.Resized = null;
        _watch.Dispose();
        _file.Remove();
        _listener.Dispose();

        _connection?.Abort();
    }

    /// <inheritdoc/>
    protected override void OnEnded()
    {
    }

    private static uint BlockSize(BlockExportOptionsVhostUserBlk options) => options.LogicalBlockSize switch
    {
        null or 0 => MinBlockSize,
        > uint.MaxValue => uint.MaxValue,
        { } size => (uint)size,
    };

    private void Accept()
    {
        if (_connection is null && Libc.Accept(_listener.Fd, Libc.SOCK_NONBLOCK | Libc.SOCK_CLOEXEC, out SafeFd socket) == Errno.OK)
        {
            Serve(socket);
        }
    }

    private async IoTask ServeAsync(SafeFd socket)
    {
        EventLoop.EventLoop loop = Backend.Loop;
        VhostUserConnection connection = new(this, socket, loop);
        _connection = connection;
        await loop.SwitchTo();
        await connection.RunAsync();
        Backend.IsWriteCacheEnabled = _isCached;
        await _mainLoop.SwitchTo();
        _connection = null;
        if (IsShuttingDown)
        {
            EndIfUnused();
        }
        else
        {
            _watch.Interest = FdEvents.Readable;
        }
    }

    private void OnResized()
    {
        if (_connection is { } connection)
        {
            connection.Loop.RunOrPost(connection.NotifyConfig);
        }
    }
}
