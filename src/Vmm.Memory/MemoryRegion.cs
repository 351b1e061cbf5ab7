using Vmm.Interop;

namespace Vmm.Memory;

/// <summary>What answers accesses to a region.</summary>
public enum MemoryRegionKind : byte
{
    /// <summary>Nothing by itself; its subregions answer, and what they leave open belongs to regions below.</summary>
    Container,

    /// <summary>Host memory, read and written directly.</summary>
    Ram,

    /// <summary>Host memory; guest writes are dropped.</summary>
    Rom,

    /// <summary>Host memory for reads (while in ROMD mode) and a handler for writes: flash chips.</summary>
    RomDevice,

    /// <summary>A handler for reads and writes.</summary>
    Io,

    /// <summary>A window into another region.</summary>
    Alias,
}

/// <summary>
/// A node of the memory graph: a piece of an address space with a size, at an offset in its parent. Where siblings overlap the
/// higher <see cref="Priority"/> wins, among equals the one added last. Changes take effect at the end of the outermost
/// <see cref="MemoryTransaction"/>, or at once outside of one.
/// </summary>
/// <remarks>Home: the machine lock. Rendered views (<see cref="FlatView"/>) are immutable and read by any thread.</remarks>
public sealed class MemoryRegion
{
    private List<MemoryRegion>? _subregions;
    private List<MemoryRegion>? _mappedAliases;
    private List<AddressSpace>? _spaces;
    private IoEventFdEntry[]? _ioEventFds;
    private bool _enabled = true;
    private bool _readOnly;
    private bool _romdMode = true;
    private ulong _aliasOffset;
    private DirtyClients _dirtyLog;

    private MemoryRegion(MemoryRegionKind kind, string name, UInt128 size, object? owner)
    {
        Kind = kind;
        Name = name;
        Size = size;
        Owner = owner;
    }

    /// <summary>What answers accesses.</summary>
    public MemoryRegionKind Kind { get; }

    /// <summary>Name as <c>info mtree</c> shows it.</summary>
    public string Name { get; }

    /// <summary>Size in bytes, up to 2^64.</summary>
    public UInt128 Size { get; private set; }

    /// <summary>The device or object it belongs to; null for none.</summary>
    public object? Owner { get; }

    /// <summary>Region that contains this one; null when unmapped or a root.</summary>
    public MemoryRegion? Parent { get; private set; }

    /// <summary>Offset in the parent.</summary>
    public ulong Address { get; private set; }

    /// <summary>Rank among overlapping siblings; higher wins.</summary>
    public int Priority { get; private set; }

    /// <summary>Subregions, winners first.</summary>
    public IReadOnlyList<MemoryRegion> Subregions => (IReadOnlyList<MemoryRegion>?)_subregions ?? [];

    /// <summary>Memory behind a RAM, ROM or ROM device region; null for others.</summary>
    public RamBlock? RamBlock { get; private init; }

    /// <summary>Offset of the region in its <see cref="RamBlock"/>; 0 unless the block is shared by several regions.</summary>
    public ulong RamOffset { get; private init; }

    /// <summary>Register handler of an I/O or ROM device region; null for others.</summary>
    public IIoHandler? Handler { get; private init; }

    /// <summary>Accesses accepted and implemented by <see cref="Handler"/>.</summary>
    public IoConstraints Constraints { get; private init; } = IoConstraints.Default;

    /// <summary>True when <see cref="Handler"/> is called without the machine lock.</summary>
    public bool ThreadSafe { get; private init; }

    /// <summary>What an alias shows; null for others.</summary>
    public MemoryRegion? AliasTarget { get; private init; }

    /// <summary>Offset in the target at which an alias begins.</summary>
    public ulong AliasOffset
    {
        get => _aliasOffset;
        set
        {
            if (_aliasOffset != value)
            {
                _aliasOffset = value;
                Changed();
            }
        }
    }

    /// <summary>A disabled region and all within it do not exist for the guest.</summary>
    public bool Enabled
    {
        get => _enabled;
        set
        {
            if (_enabled != value)
            {
                _enabled = value;
                Changed();
            }
        }
    }

    /// <summary>Guest writes to the memory in and below it are dropped.</summary>
    public bool ReadOnly
    {
        get => _readOnly;
        set
        {
            if (_readOnly != value)
            {
                _readOnly = value;
                Changed();
            }
        }
    }

    /// <summary>ROM device only: true while reads see memory, false while they go to the handler.</summary>
    public bool RomdMode
    {
        get => _romdMode;
        set
        {
            if (_romdMode != value)
            {
                _romdMode = value;
                Changed();
            }
        }
    }

    /// <summary>Clients that want to know which pages of this region are written.</summary>
    public DirtyClients DirtyLog => _dirtyLog;

    /// <summary>Registered event descriptors, in order of addition.</summary>
    internal IoEventFdEntry[]? IoEventFds => Volatile.Read(ref _ioEventFds);

    /// <summary>True for regions that answer accesses by themselves.</summary>
    public bool Terminates => Kind is not (MemoryRegionKind.Container or MemoryRegionKind.Alias);

    /// <summary>True when reads and writes go to host memory (RAM and ROM, not ROM devices).</summary>
    public bool IsRam => Kind is MemoryRegionKind.Ram or MemoryRegionKind.Rom;

    /// <summary>View rendered with this region as root; null when out of date.</summary>
    internal FlatView? RenderedView { get; set; }

    /// <summary>A region that only groups others.</summary>
    public static MemoryRegion Container(string name, UInt128 size, object? owner = null) =>
        new(MemoryRegionKind.Container, name, size, owner);

    /// <summary>RAM over the whole of <paramref name="block"/>.</summary>
    public static MemoryRegion Ram(string name, RamBlock block, object? owner = null) =>
        new(MemoryRegionKind.Ram, name, block.UsedSize, owner) { RamBlock = block };

    /// <summary>ROM over the whole of <paramref name="block"/>; <paramref name="block"/> stays writable for the host.</summary>
    public static MemoryRegion Rom(string name, RamBlock block, object? owner = null) =>
        new(MemoryRegionKind.Rom, name, block.UsedSize, owner) { RamBlock = block, _readOnly = true };

    /// <summary>Memory that reads directly and whose writes go to <paramref name="handler"/>.</summary>
    public static MemoryRegion RomDevice(
        string name, RamBlock block, IIoHandler handler, IoConstraints? constraints = null, object? owner = null) =>
        new(MemoryRegionKind.RomDevice, name, block.UsedSize, owner)
        {
            RamBlock = block, Handler = handler, Constraints = constraints ?? IoConstraints.Default,
        };

    /// <summary>
    /// Registers. With <paramref name="threadSafe"/> the handler is called on any thread without the machine lock.
    /// </summary>
    public static MemoryRegion Io(
        string name,
        UInt128 size,
        IIoHandler handler,
        IoConstraints? constraints = null,
        bool threadSafe = false,
        object? owner = null) =>
        new(MemoryRegionKind.Io, name, size, owner)
        {
            Handler = handler, Constraints = constraints ?? IoConstraints.Default, ThreadSafe = threadSafe,
        };

    /// <summary>A window of <paramref name="size"/> bytes into <paramref name="target"/> at <paramref name="offset"/>.</summary>
    public static MemoryRegion Alias(string name, MemoryRegion target, ulong offset, UInt128 size, object? owner = null) =>
        new(MemoryRegionKind.Alias, name, size, owner) { AliasTarget = target, _aliasOffset = offset };

    /// <summary>The 64 KiB port space <c>io</c>: ports that nobody claims read as all ones.</summary>
    public static MemoryRegion PortSpace(object? owner = null) =>
        Io("io", 0x10000, UnassignedPorts.Instance, new IoConstraints(1, 8, 1, 8, Unaligned: false), threadSafe: true, owner);

    /// <summary>
    /// Maps <paramref name="child"/> at <paramref name="offset"/>. A region is in at most one place (aliases show it elsewhere).
    /// </summary>
    public void AddSubregion(ulong offset, MemoryRegion child, int priority = 0)
    {
        if (child.Parent is not null)
        {
            throw new InvalidOperationException($"Region '{child.Name}' is already mapped in '{child.Parent.Name}'");
        }

        child.Parent = this;
        child.Address = offset;
        child.Priority = priority;
        Insert(child);
        child.AliasTarget?.AddMappedAlias(child);
        child.Changed();
    }

    /// <summary>Takes <paramref name="child"/> out; does nothing when it is not in here.</summary>
    public void RemoveSubregion(MemoryRegion child)
    {
        if (child.Parent != this)
        {
            return;
        }

        MemoryTransaction.Begin();
        child.Changed();
        _subregions!.Remove(child);
        child.Parent = null;
        if (child._spaces is null)
        {
            child.AliasTarget?._mappedAliases?.Remove(child);
        }

        MemoryTransaction.Commit();
    }

    /// <summary>Moves the region within its parent; among equals it then counts as added last.</summary>
    public void SetAddress(ulong offset)
    {
        if (Address == offset)
        {
            return;
        }

        Address = offset;
        Reinsert();
    }

    /// <summary>Changes the rank among siblings.</summary>
    public void SetPriority(int priority)
    {
        if (Priority != priority)
        {
            Priority = priority;
            Reinsert();
        }
    }

    /// <summary>Changes the size.</summary>
    public void SetSize(UInt128 size)
    {
        if (Size != size)
        {
            Size = size;
            Changed();
        }
    }

    /// <inheritdoc cref="Enabled"/>
    public void SetEnabled(bool enabled) => Enabled = enabled;

    /// <inheritdoc cref="ReadOnly"/>
    public void SetReadOnly(bool readOnly) => ReadOnly = readOnly;

    /// <summary>Adds or removes clients of the dirty log.</summary>
    public void SetDirtyLog(DirtyClients clients, bool on)
    {
        DirtyClients wanted = on ? _dirtyLog | clients : _dirtyLog & ~clients;
        if (wanted != _dirtyLog)
        {
            _dirtyLog = wanted;
            Changed();
        }
    }

    /// <summary>
    /// Guest writes of <paramref name="size"/> bytes at <paramref name="offset"/> (size 0: of any size) signal
    /// <paramref name="fd"/> instead of calling the handler; with <paramref name="dataMatch"/> only writes of that value.
    /// </summary>
    public void AddIoEventFd(ulong offset, int size, ulong? dataMatch, EventFd fd)
    {
        Volatile.Write(ref _ioEventFds, [.. _ioEventFds ?? [], new IoEventFdEntry(offset, size, dataMatch, fd)]);
        Changed();
    }

    /// <summary>Undoes <see cref="AddIoEventFd"/> of the same arguments.</summary>
    public void RemoveIoEventFd(ulong offset, int size, ulong? dataMatch, EventFd fd)
    {
        int index = _ioEventFds is null ? -1 : Array.IndexOf(_ioEventFds, new IoEventFdEntry(offset, size, dataMatch, fd));
        if (index >= 0)
        {
            IoEventFdEntry[] old = _ioEventFds!;
            Volatile.Write(ref _ioEventFds, old.Length == 1 ? null : [.. old[..index], .. old[(index + 1)..]]);
            Changed();
        }
    }

    /// <inheritdoc/>
    public override string ToString() => $"{Name} ({Kind}, {Size:x})";

    internal void AddSpace(AddressSpace space)
    {
        (_spaces ??= []).Add(space);
        AliasTarget?.AddMappedAlias(this);
    }

    internal void RemoveSpace(AddressSpace space)
    {
        _spaces?.Remove(space);
        RenderedView = null;
        if (_spaces is { Count: 0 })
        {
            _spaces = null;
            if (Parent is null)
            {
                AliasTarget?._mappedAliases?.Remove(this);
            }
        }
    }

    private void AddMappedAlias(MemoryRegion alias)
    {
        _mappedAliases ??= [];
        if (!_mappedAliases.Contains(alias))
        {
            _mappedAliases.Add(alias);
        }
    }

    private void Insert(MemoryRegion child)
    {
        List<MemoryRegion> list = _subregions ??= [];
        int i = 0;
        while (i < list.Count && list[i].Priority > child.Priority)
        {
            i++;
        }

        list.Insert(i, child);
    }

    private void Reinsert()
    {
        if (Parent is { } parent)
        {
            parent._subregions!.Remove(this);
            parent.Insert(this);
            Changed();
        }
    }

    private void Changed()
    {
        MemoryTransaction.Begin();
        MarkSpaces();
        MemoryTransaction.Commit();
    }

    private void MarkSpaces()
    {
        for (MemoryRegion? region = this; region is not null; region = region.Parent)
        {
            region.RenderedView = null;
            if (region._spaces is not null)
            {
                foreach (AddressSpace space in region._spaces)
                {
                    MemoryTransaction.Add(space);
                }
            }

            if (region._mappedAliases is not null)
            {
                foreach (MemoryRegion alias in region._mappedAliases)
                {
                    alias.MarkSpaces();
                }
            }
        }
    }

    private sealed class UnassignedPorts : IIoHandler
    {
        public static readonly UnassignedPorts Instance = new();

        public ulong Read(ulong offset, int size) => ulong.MaxValue;

        public void Write(ulong offset, ulong value, int size)
        {
        }
    }
}

/// <summary>One event descriptor registered on a region; <paramref name="Size"/> 0 stands for any size.</summary>
public readonly record struct IoEventFdEntry(ulong Offset, int Size, ulong? DataMatch, EventFd Fd);

/// <summary>Who wants to know about written pages (bit mask).</summary>
[Flags]
public enum DirtyClients : byte
{
    /// <summary>Nobody.</summary>
    None = 0,

    /// <summary>Display adapters redrawing from a frame buffer.</summary>
    Vga = 1,

    /// <summary>Live migration and other readers of all RAM.</summary>
    Migration = 2,
}
