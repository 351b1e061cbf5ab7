using System.Buffers.Binary;
using System.Numerics;
using Vmm.EventLoop.Tasks;
using Vmm.ObjectModel.Block;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.Virtio;
using Vmm.Qapi;

namespace Vmm.Devices.Virtio;

/// <summary>A disk (QOM <c>virtio-blk-device</c>).</summary>
/// <remarks>Source: virtio 1.2, 5.2. Requests run on the home loop of the back end.</remarks>
[QomType("virtio-blk-device", Category = "Storage")]
public sealed partial class VirtioBlk : VirtioDevice, IBlockDevice
{
    private const int SectorBits = 9;
    private const int ConfigBytesOfAll = 36;
    private const int ConfigBytesWithDiscard = 48;
    private const int ConfigBytesWithZeroes = 57;
    private const ushort UnadjustedSegments = 128;

    private IBlockBackend? _backend;
    private bool _originalWriteCache;

    /// <inheritdoc/>
    public override ushort DeviceId => 2;

    /// <inheritdoc/>
    public override ulong LegacyFeatures => VirtioBlkFeatures.Scsi;

    /// <inheritdoc/>
    public string QdevName => Id ?? CanonicalPath ?? "";

    /// <inheritdoc/>
    protected override int ConfigBytes =>
        OffersWriteZeroes ? ConfigBytesWithZeroes : OffersDiscard ? ConfigBytesWithDiscard : ConfigBytesOfAll;

    private IBlockBackend Backend => _backend!;

    /// <inheritdoc/>
    public void DrainBegin() => Quiesce();

    /// <inheritdoc/>
    public void DrainEnd() => Unquiesce();

    /// <inheritdoc/>
    public void OnResized()
    {
        if (IsRealized)
        {
            NotifyConfig();
        }
    }

    /// <inheritdoc/>
    protected override void RealizeDevice()
    {
        CheckProperties();
        if (Drive.Length == 0)
        {
            throw new QapiException("drive property not set");
        }

        IBlockBackend backend = Machine.Blocks.Take(Drive)
            ?? throw new QapiException($"Property '{Type.Name}.drive' can't find value '{Drive}'");
        try
        {
            if (!backend.IsInserted)
            {
                throw new QapiException("Device needs media, but drive is empty");
            }

            CheckBlocks();
            if (_ioThread is not null && !Transport.IoEventFd)
            {
                throw new QapiException("ioeventfd is required for iothread");
            }

            backend.Attach(this, backend.IsReadOnly, ShareWrites);
        }
        catch
        {
            Machine.Blocks.Return(backend);
            throw;
        }

        _backend = backend;
        try
        {
            Configure(backend);
        }
        catch
        {
            UnrealizeDevice();
            throw;
        }
    }

    /// <inheritdoc/>
    protected override void UnrealizeDevice()
    {
        if (_backend is not { } backend)
        {
            return;
        }

        if (_ioThread is not null)
        {
            _ioThread.Users--;
            Machine.MainLoop.RunUntil(backend.SetLoopAsync(Machine.MainLoop));
        }

        backend.Detach(this);
        Machine.Blocks.Return(backend);
        _backend = null;
    }

    /// <inheritdoc/>
    protected override ulong GetFeatures(ulong common)
    {
        ulong features = common | VirtioBlkFeatures.SegMax | VirtioBlkFeatures.Geometry | VirtioBlkFeatures.Topology | VirtioBlkFeatures.BlockSize
            | VirtioBlkFeatures.Flush;
        if ((features & VirtioFeatures.Version1) == 0)
        {
            features = (features & ~VirtioFeatures.AnyLayout) | VirtioBlkFeatures.Scsi;
        }

        features |= ConfigWce ? VirtioBlkFeatures.ConfigWce : 0;
        features |= OffersDiscard ? VirtioBlkFeatures.Discard : 0;
        features |= OffersWriteZeroes ? VirtioBlkFeatures.WriteZeroes : 0;
        features |= QueueCount > 1 ? VirtioBlkFeatures.Queues : 0;
        features &= Backend.IsWriteCacheEnabled || ConfigWce ? ulong.MaxValue : ~VirtioBlkFeatures.Flush;
        return Backend.IsReadOnly ? features | VirtioBlkFeatures.ReadOnly : features;
    }

    /// <inheritdoc/>
    protected override void FillConfig(Span<byte> config)
    {
        uint block = (uint)LogicalBlockSize;
        BinaryPrimitives.WriteUInt64LittleEndian(config, (ulong)Math.Max(Backend.Length, 0) >> SectorBits);
        BinaryPrimitives.WriteUInt32LittleEndian(config[8..], 0);
        BinaryPrimitives.WriteUInt32LittleEndian(config[12..], (uint)(AdjustsSegments ? QueueSize : UnadjustedSegments) - 2);
        BinaryPrimitives.WriteUInt16LittleEndian(config[16..], (ushort)Cylinders);
        config[18] = (byte)Heads;
        config[19] = (byte)TrackSectors;
        BinaryPrimitives.WriteUInt32LittleEndian(config[20..], block);
        config[24] = (byte)BitOperations.Log2((uint)(PhysicalBlockSize / LogicalBlockSize));
        config[25] = 0;
        BinaryPrimitives.WriteUInt16LittleEndian(config[26..], (ushort)(MinIoSize / block));
        BinaryPrimitives.WriteUInt32LittleEndian(config[28..], (uint)(OptIoSize / block));
        config[VirtioBlkFeatures.WceOffset] = (byte)(Backend.IsWriteCacheEnabled ? 1 : 0);
        config[33] = 0;
        BinaryPrimitives.WriteUInt16LittleEndian(config[34..], QueueCount);
        if (config.Length >= ConfigBytesWithDiscard)
        {
            ulong granularity = DiscardGranularity == NoGranularity || !ReportsGranularity ? block : DiscardGranularity;
            BinaryPrimitives.WriteUInt32LittleEndian(config[36..], OffersDiscard ? MaxDiscard : 0);
            BinaryPrimitives.WriteUInt32LittleEndian(config[40..], OffersDiscard ? 1u : 0);
            BinaryPrimitives.WriteUInt32LittleEndian(config[44..], OffersDiscard ? (uint)(granularity >> SectorBits) : 0);
        }

        if (config.Length >= ConfigBytesWithZeroes)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(config[48..], MaxZeroes);
            BinaryPrimitives.WriteUInt32LittleEndian(config[52..], 1);
            config[56] = 1;
        }
    }

    /// <inheritdoc/>
    protected override void ApplyConfig(ReadOnlySpan<byte> config) => Backend.IsWriteCacheEnabled = config[VirtioBlkFeatures.WceOffset] != 0;

    /// <inheritdoc/>
    protected override void OnStatus(byte status)
    {
        // A driver that cannot switch the cache and does not flush wants every write to be complete (virtio 1.2, 5.2.5.2).
        if ((status & VirtioFeatures.StatusDriverOk) != 0 && (GuestFeatures & VirtioBlkFeatures.ConfigWce) == 0)
        {
            Backend.IsWriteCacheEnabled = (GuestFeatures & VirtioBlkFeatures.Flush) != 0;
        }
    }

    /// <inheritdoc/>
    protected override void OnReset()
    {
        Backend.IsWriteCacheEnabled = _originalWriteCache;
        while (_stopped.TryDequeue(out VirtioBlkRequest? request))
        {
            _free.Push(request);
        }
    }

    private void Configure(IBlockBackend backend)
    {
        backend.SetErrorPolicy(ReadErrors, WriteErrors);
        if (WriteCache != WriteCacheMode.Auto)
        {
            backend.IsWriteCacheEnabled = WriteCache == WriteCacheMode.On;
        }

        _originalWriteCache = backend.IsWriteCacheEnabled;
        GuessGeometry(backend.Length >> SectorBits);
        for (int i = 0; i < QueueCount; i++)
        {
            AddQueue(QueueSize);
        }

        if (_ioThread is { } thread)
        {
            Machine.MainLoop.RunUntil(backend.SetLoopAsync(thread.Thread.Loop));
            thread.Users++;
            UseLoop(thread.Thread.Loop);
        }
    }

    private void GuessGeometry(long sectors)
    {
        if (Cylinders != 0 || Heads != 0 || TrackSectors != 0)
        {
            return;
        }

        Heads = 16;
        TrackSectors = 63;
        Cylinders = (uint)Math.Clamp(sectors / (16 * 63), 2, 16383);
    }
}
