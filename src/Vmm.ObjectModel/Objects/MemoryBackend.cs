using Vmm.Memory;
using Vmm.ObjectModel.Accel;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.ObjectModel.Objects;

/// <summary>
/// Guest RAM that users configure and machines map (QOM <c>memory-backend</c>). Properties can be set until the memory exists;
/// a few can be changed afterwards. Home: main loop.
/// </summary>
public abstract partial class MemoryBackend : QomObject, IUserCreatable
{
    private const int MaxHostNodes = 128;

    private readonly ulong[] _hostNodes = new ulong[MaxHostNodes / 64];
    private RamList? _ram;
    private ThreadContext? _preallocContext;
    private bool _prealloc;
    private bool _reserve = true;
    private bool? _merge;
    private bool? _dump;

    /// <summary>Bytes.</summary>
    public ulong Size { get; private set; }

    /// <summary>Map shared, so that other processes see what the guest writes.</summary>
    public bool Share { get; protected set; }

    /// <summary>All pages are touched when the memory is made.</summary>
    public bool Prealloc => _prealloc;

    /// <summary>Threads that touch pages.</summary>
    public uint PreallocThreads { get; private set; } = 1;

    /// <summary>The host may merge equal pages.</summary>
    public bool Merge => _merge ?? true;

    /// <summary>Core dumps of the process contain the memory.</summary>
    public bool Dump => _dump ?? true;

    /// <summary>Swap space or huge pages are reserved.</summary>
    public bool Reserve => _reserve;

    /// <summary>How <see cref="HostNodes"/> are used.</summary>
    public RamNumaPolicy Policy { get; private set; }

    /// <summary>The RAM block's id in migrations is the object's path instead of its id.</summary>
    public bool UseCanonicalPath { get; private set; }

    /// <summary>The memory; null before completion.</summary>
    public RamBlock? Block { get; private set; }

    /// <summary>The memory as a region that a machine can map; null before completion.</summary>
    public MemoryRegion? Region { get; private set; }

    /// <summary>True while a machine or device uses the memory; it cannot be deleted then, and its block has a name to migrate by.</summary>
    public bool IsMapped
    {
        get;
        set
        {
            field = value;
            NameBlock();
        }
    }

    /// <inheritdoc/>
    public virtual IReadOnlyList<string> RequiredProperties => ["size"];

    /// <inheritdoc/>
    public bool CanBeDeleted => !IsMapped;

    /// <summary>Host NUMA nodes, ascending.</summary>
    public List<ushort> HostNodes()
    {
        var result = new List<ushort>();
        for (int i = 0; i < MaxHostNodes; i++)
        {
            if ((_hostNodes[i / 64] >> (i % 64) & 1) != 0)
            {
                result.Add((ushort)i);
            }
        }

        return result;
    }

    /// <inheritdoc/>
    public void Complete(ObjectContext context)
    {
        string name = Name ?? Type.Name;
        _merge ??= context.MergeMemory;
        _dump ??= context.DumpMemory;
        if (context.PreallocThreads > 0 && _reserve)
        {
            _prealloc = true;
            PreallocThreads = Math.Max(PreallocThreads, (uint)context.PreallocThreads);
        }

        var options = new RamOptions(name, Size)
        {
            Share = Share,
            Prealloc = _prealloc,
            PreallocThreads = (int)Math.Min(PreallocThreads, int.MaxValue),
            Merge = Merge,
            Dump = Dump,
            Reserve = _reserve,
            HostNodes = _hostNodes,
            Policy = Policy,
            RunPreallocation = _preallocContext is { } preallocContext ? preallocContext.Run : null,
            Warn = context.Warn,
        };
        RamBlock? block = Allocate(options, out string? error);
        if (block is null)
        {
            throw new QapiException(error!);
        }

        Block = block;
        _ram = context.Ram;
        _ram.Add(block);
        NameBlock();
        Region = MemoryRegion.Ram(name, block, this);
        AddChild($"{name}[*]", new MemoryRegionNode(Region));
    }

    private void NameBlock()
    {
        if (Block is { } block)
        {
            block.IdString = !IsMapped ? "" : UseCanonicalPath ? CanonicalPath ?? block.Name : block.Name;
        }
    }

    /// <summary>Makes the memory; on failure QEMU's text and nothing else remains.</summary>
    protected abstract RamBlock? Allocate(RamOptions options, out string? error);

    /// <inheritdoc/>
    protected override void OnUnparent()
    {
        if (Block is { } block)
        {
            _ram?.Remove(block);
            block.Mapping.Dispose();
            block.File?.Dispose();
            Block = null;
            Region = null;
        }

        SetPreallocContext(null);
    }

    /// <summary>Refuses a change once the memory exists.</summary>
    /// <param name="desc">QEMU's text for this property.</param>
    protected void RefuseWhenAllocated(string desc)
    {
        if (Block is not null)
        {
            throw new QapiException(desc);
        }
    }

    private void SetSize(ulong size)
    {
        RefuseWhenAllocated($"cannot change property size of {Type.Name} ");
        Size = size != 0 ? size : throw new QapiException($"property 'size' of {Type.Name} doesn't take value '0'");
    }

    private void SetShare(bool share)
    {
        RefuseWhenAllocated("cannot change property value");
        Share = share;
    }

    private void SetReserve(bool reserve)
    {
        RefuseWhenAllocated("cannot change property value");
        if (_prealloc && !reserve)
        {
            throw new QapiException("'prealloc=on' and 'reserve=off' are incompatible");
        }

        _reserve = reserve;
    }

    private void SetPrealloc(bool prealloc)
    {
        if (!_reserve && prealloc)
        {
            throw new QapiException("'prealloc=on' and 'reserve=off' are incompatible");
        }

        if (Block is { } block && prealloc && !_prealloc
            && !RamBackends.Preallocate(
                block, 0, block.UsedSize, (int)Math.Min(PreallocThreads, int.MaxValue), _preallocContext is { } context ? context.Run : null, out string? error))
        {
            throw new QapiException(error!);
        }

        // Pages that exist stay when it is switched off again.
        _prealloc = prealloc || (_prealloc && Block is not null);
    }

    private void SetPreallocThreads(uint threads) => PreallocThreads = threads != 0
        ? threads
        : throw new QapiException($"property 'prealloc-threads' of {Type.Name} doesn't take value '0'");

    private void SetPreallocContext(ThreadContext? context)
    {
        if (context is not null)
        {
            context.Users++;
        }

        if (_preallocContext is { } previous)
        {
            previous.Users--;
        }

        _preallocContext = context;
    }

    private void SetMerge(bool merge)
    {
        if (Block is { } block && merge != Merge)
        {
            _ = block.Mapping.Advise(merge ? Interop.Libc.MADV_MERGEABLE : Interop.Libc.MADV_UNMERGEABLE);
        }

        _merge = merge;
    }

    private void SetDump(bool dump)
    {
        if (Block is { } block && dump != Dump)
        {
            _ = block.Mapping.Advise(dump ? Interop.Libc.MADV_DODUMP : Interop.Libc.MADV_DONTDUMP);
        }

        _dump = dump;
    }

    private void SetHostNodes(List<ushort> nodes)
    {
        foreach (ushort node in nodes)
        {
            if (node >= MaxHostNodes)
            {
                throw new QapiException($"Invalid host-nodes value: {node}");
            }
        }

        Array.Clear(_hostNodes);
        foreach (ushort node in nodes)
        {
            _hostNodes[node / 64] |= 1UL << (node % 64);
        }
    }
}
