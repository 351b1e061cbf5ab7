using System.Numerics;
using Vmm.ObjectModel.Block;
using Vmm.ObjectModel.Objects;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.Virtio;
using Vmm.Qapi;

namespace Vmm.Devices.Virtio;

/// <summary>A switch whose third position leaves the choice to the back end.</summary>
[QapiEnum]
[QapiName("OnOffAuto")]
public enum WriteCacheMode
{
    /// <summary>As the back end has it.</summary>
    Auto,

    /// <summary>Writes are complete only after a flush.</summary>
    On,

    /// <summary>Each write is complete by itself.</summary>
    Off,
}

/// <content>Properties and what they may be.</content>
public sealed partial class VirtioBlk
{
    private const uint MinBlockSize = 512;
    private const uint MaxBlockSize = 2 << 20;
    private const uint MaxSectors = 0x7fffffff >> SectorBits;
    private const uint NoGranularity = uint.MaxValue;
    private const ushort AutomaticQueues = ushort.MaxValue;

    private IOThreadObject? _ioThread;

    /// <summary>A device without back end.</summary>
    public VirtioBlk()
    {
        AddProperty(new QomPropertyInfo(
            "iothread",
            "link<iothread>",
            static o => ((VirtioBlk)o)._ioThread?.CanonicalPath ?? "",
            static (o, input) => ((VirtioBlk)o)._ioThread = (IOThreadObject?)input.ReadLink("iothread"))
        {
            IsDeviceProperty = true,
            Target = static o => ((VirtioBlk)o)._ioThread,
        });
    }

    /// <summary>Name of a node or of a back end.</summary>
    [QomProperty("drive", Description = "Node name or ID of a block device to use as a backend")]
    public string Drive { get; set; } = "";

    /// <summary>Smallest unit that the guest addresses; 0 for 512.</summary>
    [QomProperty("logical_block_size", IsSize = true, Default = "0", Description = "A power of two between 512 B and 2 MiB")]
    public ulong LogicalBlockSize { get; set; }

    /// <summary>Unit in which writes are best; 0 for the logical one.</summary>
    [QomProperty("physical_block_size", IsSize = true, Default = "0", Description = "A power of two between 512 B and 2 MiB")]
    public ulong PhysicalBlockSize { get; set; }

    /// <summary>Smallest length that is good, in bytes.</summary>
    [QomProperty("min_io_size", IsSize = true, Default = "0")]
    public ulong MinIoSize { get; set; }

    /// <summary>Best length, in bytes.</summary>
    [QomProperty("opt_io_size", IsSize = true, Default = "0")]
    public ulong OptIoSize { get; set; }

    /// <summary>Alignment of discards in bytes; all ones for the logical block size.</summary>
    [QomProperty("discard_granularity", IsSize = true, Default = "4294967295")]
    public ulong DiscardGranularity { get; set; } = NoGranularity;

    /// <summary>Whether writes need flushes.</summary>
    [QomProperty("write-cache", Default = "\"auto\"", Description = "on/off/auto")]
    public WriteCacheMode WriteCache { get; set; }

    /// <summary>Others may write to the medium.</summary>
    [QomProperty("share-rw", Default = "false")]
    public bool ShareWrites { get; set; }

    /// <summary>Policy for failed reads.</summary>
    [QomProperty("rerror", Type = "BlockdevOnError", Default = "\"auto\"", Description = "Error handling policy, report/ignore/enospc/stop/auto")]
    public BlockErrorPolicy ReadErrors { get; set; }

    /// <summary>Policy for failed writes.</summary>
    [QomProperty("werror", Type = "BlockdevOnError", Default = "\"auto\"", Description = "Error handling policy, report/ignore/enospc/stop/auto")]
    public BlockErrorPolicy WriteErrors { get; set; }

    /// <summary>Cylinders; 0 to compute them.</summary>
    [QomProperty("cyls", Default = "0")]
    public uint Cylinders { get; set; }

    /// <summary>Heads.</summary>
    [QomProperty("heads", Default = "0")]
    public uint Heads { get; set; }

    /// <summary>Sectors of a track.</summary>
    [QomProperty("secs", Default = "0")]
    public uint TrackSectors { get; set; }

    /// <summary>What the guest sees as the disk's serial number; 20 characters of it.</summary>
    [QomProperty("serial")]
    public string Serial { get; set; } = "";

    /// <summary>The guest may switch the write cache.</summary>
    [QomProperty("config-wce", Default = "true", Description = "on/off")]
    public bool ConfigWce { get; set; } = true;

    /// <summary>Request queues; 65535 for 1.</summary>
    [QomProperty("num-queues", Default = "65535")]
    public ushort QueueCount { get; set; } = AutomaticQueues;

    /// <summary>Entries of a queue.</summary>
    [QomProperty("queue-size", Default = "256")]
    public ushort QueueSize { get; set; } = 256;

    /// <summary>Offer as many segments as the queue holds.</summary>
    [QomProperty("seg-max-adjust", Default = "true")]
    public bool AdjustsSegments { get; set; } = true;

    /// <summary>Offer discards.</summary>
    [QomProperty("discard", Default = "true", Description = "on/off")]
    public bool OffersDiscard { get; set; } = true;

    /// <summary>Tell the guest the granularity of discards.</summary>
    [QomProperty("report-discard-granularity", Default = "true")]
    public bool ReportsGranularity { get; set; } = true;

    /// <summary>Offer to write zeroes.</summary>
    [QomProperty("write-zeroes", Default = "true", Description = "on/off")]
    public bool OffersWriteZeroes { get; set; } = true;

    /// <summary>Longest discard in sectors of 512 bytes.</summary>
    [QomProperty("max-discard-sectors", Default = "4194303")]
    public uint MaxDiscard { get; set; } = MaxSectors;

    /// <summary>Longest run of zeroes in sectors of 512 bytes.</summary>
    [QomProperty("max-write-zeroes-sectors", Default = "4194303")]
    public uint MaxZeroes { get; set; } = MaxSectors;

    private void CheckProperties()
    {
        CheckBlockSize("logical_block_size", LogicalBlockSize);
        CheckBlockSize("physical_block_size", PhysicalBlockSize);
        if (QueueCount == AutomaticQueues)
        {
            QueueCount = 1;
        }

        if (QueueCount == 0)
        {
            throw new QapiException("num-queues property must be larger than 0");
        }

        if (QueueCount > MaxQueues)
        {
            throw new QapiException($"num-queues must be at most {MaxQueues}");
        }

        if (QueueSize <= 2)
        {
            throw new QapiException($"invalid queue-size property ({QueueSize}), must be > 2");
        }

        if (!BitOperations.IsPow2((uint)QueueSize) || QueueSize > VirtQueue.MaxSize)
        {
            throw new QapiException($"invalid queue-size property ({QueueSize}), must be a power of 2 (max {VirtQueue.MaxSize})");
        }
    }

    // After the back end is there: unset sizes are 512.
    private void CheckBlocks()
    {
        LogicalBlockSize = LogicalBlockSize == 0 ? MinBlockSize : LogicalBlockSize;
        PhysicalBlockSize = PhysicalBlockSize == 0 ? Math.Max(LogicalBlockSize, MinBlockSize) : PhysicalBlockSize;
        if (LogicalBlockSize > PhysicalBlockSize)
        {
            throw new QapiException("logical_block_size > physical_block_size not supported");
        }

        CheckMultiple("min_io_size", MinIoSize);
        if (MinIoSize / LogicalBlockSize > ushort.MaxValue)
        {
            throw new QapiException("min_io_size must not exceed 65535 logical blocks");
        }

        CheckMultiple("opt_io_size", OptIoSize);
        if (DiscardGranularity != NoGranularity)
        {
            CheckMultiple("discard_granularity", DiscardGranularity);
        }

        if (OffersDiscard && MaxDiscard is 0 or > MaxSectors)
        {
            throw new QapiException($"invalid max-discard-sectors property ({MaxDiscard}), must be between 1 and {MaxSectors}");
        }

        if (OffersWriteZeroes && MaxZeroes is 0 or > MaxSectors)
        {
            throw new QapiException($"invalid max-write-zeroes-sectors property ({MaxZeroes}), must be between 1 and {MaxSectors}");
        }
    }

    private static void CheckBlockSize(string name, ulong size)
    {
        if (size != 0 && (size < MinBlockSize || size > MaxBlockSize))
        {
            throw new QapiException($"Property .{name} doesn't take value {size} (minimum: {MinBlockSize}, maximum: {MaxBlockSize})");
        }

        if (size != 0 && !BitOperations.IsPow2(size))
        {
            throw new QapiException($"Property .{name} doesn't take value '{size}', it's not a power of 2");
        }
    }

    private void CheckMultiple(string name, ulong value)
    {
        if (value % LogicalBlockSize != 0)
        {
            throw new QapiException($"{name} must be a multiple of logical_block_size");
        }
    }
}
