using System.Buffers.Binary;
using System.Globalization;
using System.Text;
using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;

namespace Vmm.Block.Drivers.Images;

/// <summary>VMDK images of VMware: one sparse file, also compressed, or a descriptor and extents in other files; with backing files.</summary>
public sealed class VmdkDriver(BlockdevOptionsGenericCowFormat options, LoopWorkers workers) : MappedImageDriver
{
    private const int MarkerBytes = 12;

    private readonly List<VmdkExtent> _extents = [];
    private VmdkDescriptor _descriptor = VmdkDescriptor.Parse("");

    /// <inheritdoc/>
    public override string FormatName => "vmdk";

    /// <inheritdoc/>
    public override bool SupportsBacking => true;

    private protected override string? BackingName => string.IsNullOrEmpty(_descriptor.ParentName) ? null : _descriptor.ParentName;

    /// <inheritdoc/>
    public override IoTask CloseAsync()
    {
        foreach (VmdkExtent extent in _extents)
        {
            extent.Dispose();
        }

        return IoTask.CompletedTask;
    }

    /// <inheritdoc/>
    public override long GetAllocatedBytes()
    {
        long sum = 0;
        foreach (BlockEdge edge in Node.Children)
        {
            long bytes = (edge.Role & ChildRole.Cow) != 0 ? 0 : edge.Node.Driver.GetAllocatedBytes();
            if (bytes < 0)
            {
                return bytes;
            }

            sum += bytes;
        }

        return sum;
    }

    /// <inheritdoc/>
    public override int ClusterBytes =>
        _extents.Exists(e => !e.IsFlat && e.GrainBytes == _extents[0].GrainBytes) && !_extents.Exists(static e => e.IsFlat) ? _extents[0].GrainBytes : 0;

    /// <inheritdoc/>
    public override void DescribeImage(ImageDescription image)
    {
        image.IsDirty = false;
        image.BackingFile = BackingName;
        image.FullBackingFile = BackingName is { } name ? ImageNames.TryResolve(name, FileName) : null;
        QList extents = new();
        foreach (VmdkExtent extent in _extents)
        {
            QDict entry = new()
            {
                ["filename"] = new QString(extent.File.Filename),
                ["format"] = new QString(extent.Type),
                ["virtual-size"] = QNum.From(extent.Sectors * 512),
            };
            if (extent.IsCompressed)
            {
                entry["compressed"] = QBool.From(true);
            }

            if (!extent.IsFlat)
            {
                entry["cluster-size"] = QNum.From((long)extent.GrainBytes);
            }

            extents.Add(entry);
        }

        image.FormatSpecific = new QDict
        {
            ["type"] = new QString("vmdk"),
            ["data"] = new QDict
            {
                ["create-type"] = new QString(_descriptor.CreateType ?? ""),
                ["cid"] = QNum.From((long)_descriptor.Cid),
                ["parent-cid"] = QNum.From((long)_descriptor.ParentCid),
                ["extents"] = extents,
            },
        };
    }

    /// <inheritdoc/>
    protected override async IoTask OpenImageAsync()
    {
        byte[] magic = new byte[4];
        Check(await ReadBytesAsync(ImageFile, 0, magic), "Could not read from file '" + FileName + "'");
        if (magic.AsSpan().SequenceEqual("KDMV"u8) || magic.AsSpan().SequenceEqual("COWD"u8))
        {
            await OpenSparseAsync(ImageFile, "", null);
            if (_extents is [{ IsEmpty: true }])
            {
                // Nothing but a descriptor, in a file of the other kind.
                _extents.Clear();
                await OpenExtentsAsync();
            }
        }
        else
        {
            _descriptor = VmdkDescriptor.Parse(await ReadTextAsync(0, ImageFile.Length));
            await OpenExtentsAsync();
        }

        foreach (VmdkExtent extent in _extents)
        {
            Size += extent.Sectors * 512;
        }

        if (BackingName is not null && options.Backing is null)
        {
            AutoBacking = await Node.Graph.OpenBackingAsync(Node, BackingName, null);
        }
    }

    private protected override int CheckBacking() =>
        Node.Backing!.Node.Driver is VmdkDriver parent && parent._descriptor.Cid != _descriptor.ParentCid ? BlockResult.Invalid : 0;

    private protected override async IoTask<(int Result, ImageExtent Extent)> FindAsync(long offset, long bytes)
    {
        foreach (VmdkExtent extent in _extents)
        {
            long length = extent.Sectors * 512;
            if (offset < length)
            {
                return await extent.FindAsync(offset, Math.Min(bytes, length - offset));
            }

            offset -= length;
        }

        return (BlockResult.Io, default);
    }

    private protected override async IoTask<int> ReadPackedAsync(long offset, ImageExtent place, IoVectors data)
    {
        foreach (VmdkExtent extent in _extents)
        {
            long length = extent.Sectors * 512;
            if (offset < length)
            {
                return await ReadGrainAsync(extent, place.Offset, (int)(offset % extent.GrainBytes), data);
            }

            offset -= length;
        }

        return BlockResult.Io;
    }

    private static async IoTask<int> ReadGrainAsync(VmdkExtent extent, long place, int within, IoVectors data)
    {
        int packed = 2 * extent.GrainBytes;
        if (extent.HasMarkers)
        {
            byte[] marker = new byte[MarkerBytes];
            int result = await ReadBytesAsync(extent.File, place, marker);
            uint size = BinaryPrimitives.ReadUInt32LittleEndian(marker.AsSpan(8));
            if (result < 0 || size == 0 || size > packed)
            {
                return result < 0 ? result : BlockResult.Invalid;
            }

            packed = (int)size;
            place += MarkerBytes;
        }

        return await extent.Packed!.ReadAsync(place, packed, extent.GrainBytes, within, data, isWhole: false);
    }

    private async IoTask<string> ReadTextAsync(long offset, long length)
    {
        byte[] text = new byte[Math.Clamp(Math.Min(length, ImageFile.Length - offset), 0, VmdkDescriptor.MaxBytes)];
        Check(await ReadBytesAsync(ImageFile, offset, text), "Could not read from file '" + FileName + "'");
        int end = text.AsSpan().IndexOf((byte)0);
        return Encoding.UTF8.GetString(text, 0, end < 0 ? text.Length : end);
    }

    private async IoTask OpenSparseAsync(BlockNode file, string type, long? sectors)
    {
        byte[] bytes = new byte[VmdkHeader.Bytes];
        Check(await ReadBytesAsync(file, 0, bytes), "Could not read header from file '" + file.Filename + "'");
        VmdkHeader header = VmdkHeader.Parse(bytes);
        if (file == ImageFile && header.IsVersion4 && header.DescriptorSector > 0)
        {
            _descriptor = VmdkDescriptor.Parse(await ReadTextAsync(header.DescriptorSector * 512, header.DescriptorSectors * 512));
        }

        if (header.IsVersion4 && header.Sectors == 0)
        {
            _extents.Add(VmdkExtent.Empty(file));
            return;
        }

        if (header.DirectorySector == VmdkHeader.DirectoryAtEnd)
        {
            byte[] footer = new byte[VmdkHeader.FooterBytes];
            Check(await ReadBytesAsync(file, Math.Max(file.Length - footer.Length, 0), footer), "Could not read footer");
            header = VmdkHeader.Parse(VmdkHeader.FromFooter(footer));
        }

        long expected = header.DataSector * 512;
        if (file.Length < expected)
        {
            throw new QapiException($"File truncated, expecting at least {expected} bytes");
        }

        _extents.Add(VmdkExtent.Sparse(file, type, header, sectors ?? header.Sectors, workers));
    }

    private async IoTask OpenExtentsAsync()
    {
        string type = _descriptor.CreateType ?? throw new QapiException("invalid VMDK image descriptor");
        if (type is not ("monolithicFlat" or "vmfs" or "vmfsSparse" or "twoGbMaxExtentSparse" or "twoGbMaxExtentFlat"))
        {
            throw new QapiException($"Unsupported image type '{type}'");
        }

        // The file itself has the descriptor only.
        Node.File!.Role = ChildRole.Metadata | ChildRole.Primary;
        IReadOnlyList<VmdkExtentLine> lines = _descriptor.Extents;
        for (int i = 0; i < lines.Count; i++)
        {
            bool isFlat = lines[i].Type is "FLAT" or "VMFS";
            ChildRole role = isFlat ? ChildRole.Data : ChildRole.Data | ChildRole.Metadata;
            string path = ImageNames.Resolve(lines[i].Name, FileName);
            BlockNode file = await Node.Graph.OpenFileNodeAsync(path, Node.Options.ForChild(role, isFormat: true));
            await Node.Graph.AttachOpenedAsync(Node, file, string.Create(CultureInfo.InvariantCulture, $"extents.{i}"), role);
            if (isFlat)
            {
                _extents.Add(VmdkExtent.Flat(file, lines[i]));
            }
            else
            {
                await OpenSparseAsync(file, lines[i].Type, lines[i].Sectors);
            }
        }
    }
}

/// <summary>A part of a VMDK disk. Home: the node's loop.</summary>
internal sealed class VmdkExtent : IDisposable
{
    private VmdkHeader? _header;
    private PagedTable? _tables;
    private long _flatOffset;

    private VmdkExtent(BlockNode file, string type, long sectors)
    {
        File = file;
        Type = type;
        Sectors = sectors;
    }

    internal BlockNode File { get; }

    internal string Type { get; }

    internal long Sectors { get; }

    internal bool IsFlat => _header is null;

    internal bool IsEmpty => IsFlat && Sectors == 0;

    internal bool IsCompressed => _header?.IsCompressed ?? false;

    internal bool HasMarkers => _header!.HasMarkers;

    internal int GrainBytes => _header?.GrainBytes ?? 0;

    internal PackedBlocks? Packed { get; private init; }

    /// <inheritdoc/>
    public void Dispose()
    {
        _tables?.Dispose();
        Packed?.Dispose();
    }

    internal static VmdkExtent Empty(BlockNode file) => new(file, "", 0);

    internal static VmdkExtent Flat(BlockNode file, VmdkExtentLine line) => new(file, line.Type, line.Sectors) { _flatOffset = line.Offset * 512 };

    internal static VmdkExtent Sparse(BlockNode file, string type, VmdkHeader header, long sectors, LoopWorkers workers) =>
        new(file, type, sectors)
        {
            _header = header,
            _tables = new PagedTable(file, 0, 4, isBigEndian: false),
            Packed = header.IsCompressed ? new PackedBlocks(file, workers) : null,
        };

    internal async IoTask<(int Result, ImageExtent Extent)> FindAsync(long offset, long bytes)
    {
        if (_header is null)
        {
            return (0, new ImageExtent(ImageKind.Data, bytes, File, _flatOffset + offset));
        }

        long grain = offset / GrainBytes;
        long within = offset % GrainBytes;
        bytes = Math.Min(bytes, GrainBytes - within);
        ImageExtent hole = new(ImageKind.Hole, bytes);
        long index = grain / _header.TableEntries;
        if (index >= _header.DirectoryEntries)
        {
            return (0, hole);
        }

        // Tables lie at sectors, so that a file is one table of 32-bit numbers.
        var (result, table) = await _tables!.GetAsync(((long)_header.DirectorySector * 128) + index);
        if (result < 0 || table == 0)
        {
            return (result, hole);
        }

        (result, ulong sector) = await _tables.GetAsync(((long)table * 128) + (grain % _header.TableEntries));
        if (result < 0 || sector == 0)
        {
            return (result, hole);
        }

        if (sector == 1 && _header.HasZeroGrains)
        {
            return (0, new ImageExtent(ImageKind.Zero, bytes));
        }

        long place = (long)sector * 512;
        return (0, IsCompressed
            ? new ImageExtent(ImageKind.Packed, bytes, File, place)
            : new ImageExtent(ImageKind.Data, bytes, File, place + within));
    }
}
