using System.Buffers.Binary;
using System.Text;
using Vmm.Devices.SystemBus;
using Vmm.Memory;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.Devices.FwCfg;

/// <summary>
/// The firmware configuration device: items under 16-bit keys, among them files with names, which firmware and kernels read byte
/// by byte or through DMA.
/// </summary>
/// <remarks>Source: QEMU docs/specs/fw_cfg. Home: the main loop under the machine lock.</remarks>
[QomType("fw_cfg", Parent = "sys-bus-device", UserCreatable = false)]
public abstract partial class FwCfgDevice : SysBusDevice
{
    private const ushort WriteChannel = 0x4000;
    private const int FileNameSize = 56;
    private const int DirectoryEntrySize = 64;
    private const int DmaDescriptorSize = 16;
    private const int DmaChunk = 4096;
    private const ulong DmaSignature = 0x51454d5520434647; // "QEMU CFG"

    private const uint DmaError = 0x01;
    private const uint DmaRead = 0x02;
    private const uint DmaSkip = 0x04;
    private const uint DmaSelect = 0x08;
    private const uint DmaWrite = 0x10;

    private const uint FeatureTraditional = 1;
    private const uint FeatureDma = 2;

    private readonly Dictionary<ushort, FwCfgItem> _items = [];
    private readonly List<(string Name, FwCfgItem Item)> _files = [];
    private readonly byte[] _dmaBuffer = new byte[DmaChunk];
    private FwCfgItem? _current;
    private ushort _currentKey;
    private uint _offset;
    private ulong _dmaAddress;
    private bool _inTransfer;

    /// <summary>The DMA interface exists.</summary>
    [QomProperty("dma_enabled", Default = "true")]
    public bool DmaEnabled { get; set; } = true;

    /// <summary>Number of files that fit.</summary>
    [QomProperty("x-file-slots", Default = "32")]
    public ushort FileSlots { get; set; } = 32;

    /// <summary>The sizes of the ACPI blobs are part of the migration section.</summary>
    [QomProperty("acpi-mr-restore", Default = "true")]
    public bool AcpiMrRestore { get; set; } = true;

    /// <summary>Names of the files in directory order.</summary>
    public IEnumerable<string> FileNames
    {
        get
        {
            foreach ((string name, _) in _files)
            {
                yield return name;
            }
        }
    }

    /// <summary>The machine's configuration device; null when it has none.</summary>
    public static FwCfgDevice? Find(QomTree tree) => tree.Machine?.FindChild("fw_cfg") as FwCfgDevice;

    /// <summary>Adds an item under a fixed key; a second one replaces the first.</summary>
    public void AddItem(ushort key, ReadOnlyMemory<byte> data) => _items[key] = new FwCfgItem(data);

    /// <inheritdoc cref="AddItem(ushort, ReadOnlyMemory{byte})"/>
    public void AddItem(ushort key, IFwCfgSource source) => _items[key] = new FwCfgItem(source);

    /// <summary>Adds a 16-bit item.</summary>
    public void AddInt16(ushort key, ushort value)
    {
        byte[] data = new byte[2];
        BinaryPrimitives.WriteUInt16LittleEndian(data, value);
        AddItem(key, data);
    }

    /// <summary>Adds a 32-bit item.</summary>
    public void AddInt32(ushort key, uint value)
    {
        byte[] data = new byte[4];
        BinaryPrimitives.WriteUInt32LittleEndian(data, value);
        AddItem(key, data);
    }

    /// <summary>Adds a 64-bit item.</summary>
    public void AddInt64(ushort key, ulong value)
    {
        byte[] data = new byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(data, value);
        AddItem(key, data);
    }

    /// <summary>Adds text with a final NUL.</summary>
    public void AddString(ushort key, string text)
    {
        byte[] data = new byte[Encoding.UTF8.GetByteCount(text) + 1];
        Encoding.UTF8.GetBytes(text, data);
        AddItem(key, data);
    }

    /// <summary>Adds a file. Throws "duplicate fw_cfg file name: X", or an error when the directory is full.</summary>
    public void AddFile(string name, ReadOnlyMemory<byte> data) => AddFile(name, new FwCfgItem(data));

    /// <summary>Adds a file whose contents come from <paramref name="source"/>.</summary>
    public void AddFile(string name, IFwCfgSource source) => AddFile(name, new FwCfgItem(source));

    /// <summary>Adds a file whose contents are made each time the guest selects it; <paramref name="initial"/> until then.</summary>
    public void AddFile(string name, ReadOnlyMemory<byte> initial, Func<ReadOnlyMemory<byte>> onSelect) =>
        AddFile(name, new FwCfgItem(initial) { OnSelect = onSelect });

    /// <summary>Adds a file that the guest may write through DMA.</summary>
    public void AddWritableFile(string name, byte[] data, Action<uint, uint>? onWrite = null) =>
        AddFile(name, new FwCfgItem(data) { Writable = data, OnWrite = onWrite });

    /// <summary>Replaces a file's contents, or adds the file when there is none of that name.</summary>
    public void ModifyFile(string name, ReadOnlyMemory<byte> data)
    {
        foreach ((string existing, FwCfgItem item) in _files)
        {
            if (existing == name)
            {
                item.Replace(data);
                return;
            }
        }

        AddFile(name, data);
    }

    /// <inheritdoc/>
    public override void Reset()
    {
        Select(FwCfgKeys.Signature);
        _dmaAddress = 0;
    }

    /// <inheritdoc/>
    protected override void RealizeDevice()
    {
        AddItem(FwCfgKeys.Signature, "QEMU"u8.ToArray());
        AddInt32(FwCfgKeys.Id, FeatureTraditional | (DmaEnabled ? FeatureDma : 0));
        _items[FwCfgKeys.FileDir] = new FwCfgItem(default(ReadOnlyMemory<byte>)) { OnSelect = MakeDirectory };
        MapRegions();
        Reset();
    }

    /// <summary>Maps selector, data and DMA registers.</summary>
    protected abstract void MapRegions();

    /// <summary>Selects an item and rewinds it.</summary>
    protected void Select(ushort key)
    {
        _offset = 0;
        _currentKey = key;
        _items.TryGetValue((ushort)(key & ~WriteChannel), out _current);
        _current?.Select();
    }

    /// <summary>Reads the next byte; 0 beyond the end and of unknown items.</summary>
    protected byte ReadByte()
    {
        if (_current is not { } item || _offset >= item.Length)
        {
            return 0;
        }

        byte value = 0;
        item.Read(_offset, new Span<byte>(ref value));
        _offset++;
        return value;
    }

    /// <summary>Reads the DMA registers, which show a signature.</summary>
    protected static ulong ReadDmaRegister(ulong offset, int size)
    {
        ulong value = BinaryPrimitives.ReverseEndianness(DmaSignature) >> ((int)(offset & 7) * 8);
        return size >= 8 ? value : value & ((1ul << (size * 8)) - 1);
    }

    /// <summary>Writes the DMA registers: the high half, then the low half, which starts the transfer, or both at once.</summary>
    protected void WriteDmaRegister(ulong offset, ulong value, int size)
    {
        if (size == 8 && offset == 0)
        {
            _dmaAddress = BinaryPrimitives.ReverseEndianness(value);
            Transfer();
        }
        else if (size == 4 && offset == 0)
        {
            _dmaAddress = (ulong)BinaryPrimitives.ReverseEndianness((uint)value) << 32;
        }
        else if (size == 4 && offset == 4)
        {
            _dmaAddress |= BinaryPrimitives.ReverseEndianness((uint)value);
            Transfer();
        }
    }

    private void AddFile(string name, FwCfgItem item)
    {
        if (_files.Count >= FileSlots)
        {
            throw new QapiException(QapiErrorClass.GenericError, $"fw_cfg has no room for file {name}");
        }

        if (name.Length > FileNameSize - 1)
        {
            name = name[..(FileNameSize - 1)];
        }

        int at = 0;
        foreach ((string existing, _) in _files)
        {
            int order = string.CompareOrdinal(existing, name);
            if (order == 0)
            {
                throw new QapiException(QapiErrorClass.GenericError, $"duplicate fw_cfg file name: {name}");
            }

            at += order < 0 ? 1 : 0;
        }

        _files.Insert(at, (name, item));
        AssignKeys();
    }

    // Keys follow the names' order, so that they do not depend on the order in which devices were made.
    private void AssignKeys()
    {
        for (int i = 0; i < _files.Count; i++)
        {
            _items[(ushort)(FwCfgKeys.FileFirst + i)] = _files[i].Item;
        }
    }

    // Made when the guest looks: what a file contains may not be known before, nor how much it is.
    private ReadOnlyMemory<byte> MakeDirectory()
    {
        byte[] directory = new byte[4 + (FileSlots * DirectoryEntrySize)];
        BinaryPrimitives.WriteUInt32BigEndian(directory, (uint)_files.Count);
        for (int i = 0; i < _files.Count; i++)
        {
            (string name, FwCfgItem item) = _files[i];
            Span<byte> entry = directory.AsSpan(4 + (i * DirectoryEntrySize), DirectoryEntrySize);
            BinaryPrimitives.WriteUInt32BigEndian(entry, item.Length);
            BinaryPrimitives.WriteUInt16BigEndian(entry[4..], (ushort)(FwCfgKeys.FileFirst + i));
            Encoding.ASCII.GetBytes(name, entry[8..]);
        }

        return directory;
    }

    private uint SizeOfFile(string name)
    {
        foreach ((string existing, FwCfgItem item) in _files)
        {
            if (existing == name)
            {
                return item.Length;
            }
        }

        return 0;
    }

    /// <summary>
    /// Carries out the descriptor at the DMA address: big-endian control, length and address. Its control word becomes 0, or 1 after
    /// an error; a descriptor that cannot be read is answered in the same way where that is possible.
    /// </summary>
    private void Transfer()
    {
        ulong at = _dmaAddress;
        _dmaAddress = 0;
        if (_inTransfer)
        {
            // A descriptor that makes the device write to its own registers.
            return;
        }

        _inTransfer = true;
        RunDescriptor(at);
        _inTransfer = false;
    }

    private void RunDescriptor(ulong at)
    {
        Span<byte> descriptor = stackalloc byte[DmaDescriptorSize];
        if (Machine.Memory.Read(at, descriptor) != MemTxResult.Ok)
        {
            WriteDmaResult(at, DmaError);
            return;
        }

        uint control = BinaryPrimitives.ReadUInt32BigEndian(descriptor);
        uint length = BinaryPrimitives.ReadUInt32BigEndian(descriptor[4..]);
        ulong address = BinaryPrimitives.ReadUInt64BigEndian(descriptor[8..]);
        if ((control & DmaSelect) != 0)
        {
            Select((ushort)(control >> 16));
        }

        bool ok = true;
        if ((control & DmaRead) != 0)
        {
            ok = DmaToGuest(address, length);
        }
        else if ((control & DmaWrite) != 0)
        {
            ok = DmaFromGuest(address, length);
        }
        else if ((control & DmaSkip) != 0 && _current is { } item)
        {
            _offset += Math.Min(length, item.Length - Math.Min(_offset, item.Length));
        }

        WriteDmaResult(at, ok ? 0 : DmaError);
    }

    private void WriteDmaResult(ulong at, uint control)
    {
        Span<byte> result = stackalloc byte[4];
        BinaryPrimitives.WriteUInt32BigEndian(result, control);
        Machine.Memory.Write(at, result);
    }

    private bool DmaToGuest(ulong address, uint length)
    {
        while (length > 0)
        {
            int chunk = (int)Math.Min(length, DmaChunk);
            Span<byte> buffer = _dmaBuffer.AsSpan(0, chunk);
            int valid = _current is { } item && _offset < item.Length ? (int)Math.Min((uint)chunk, item.Length - _offset) : 0;
            if (valid > 0)
            {
                _current!.Read(_offset, buffer[..valid]);
                _offset += (uint)valid;
            }

            buffer[valid..].Clear();
            if (Machine.Memory.Write(address, buffer) != MemTxResult.Ok)
            {
                return false;
            }

            address += (ulong)chunk;
            length -= (uint)chunk;
        }

        return true;
    }

    private bool DmaFromGuest(ulong address, uint length)
    {
        if (_current is not { Writable: { } storage } item || _offset > item.Length || length > item.Length - _offset)
        {
            return false;
        }

        if (Machine.Memory.Read(address, storage.AsSpan((int)_offset, (int)length)) != MemTxResult.Ok)
        {
            return false;
        }

        uint start = _offset;
        _offset += length;
        item.OnWrite?.Invoke(start, length);
        return true;
    }
}
