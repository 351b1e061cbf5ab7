using Vmm.Memory;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.ObjectModel.Objects;

/// <summary>Anonymous guest RAM.</summary>
public sealed class MemoryBackendRam : MemoryBackend
{
    private static QomTypeInfo? s_typeInfo;

    /// <summary>Type "memory-backend-ram".</summary>
    public static new QomTypeInfo TypeInfo => s_typeInfo ??= new QomTypeInfo
    {
        Name = "memory-backend-ram",
        Parent = "memory-backend",
        Factory = static () => new MemoryBackendRam(),
    };

    /// <inheritdoc/>
    public override QomTypeInfo Type => TypeInfo;

    /// <inheritdoc/>
    protected override RamBlock? Allocate(RamOptions options, out string? error) => RamBackends.CreateAnonymous(options, out error);
}

/// <summary>Guest RAM in a file or, given a directory, in a nameless file there (hugetlbfs).</summary>
public sealed class MemoryBackendFile : MemoryBackend
{
    private static QomTypeInfo? s_typeInfo;

    /// <summary>Type "memory-backend-file".</summary>
    public static new QomTypeInfo TypeInfo => s_typeInfo ??= new QomTypeInfo
    {
        Name = "memory-backend-file",
        Parent = "memory-backend",
        Factory = static () => new MemoryBackendFile(),
        Properties = static () =>
        [
            new QomPropertyInfo(
                "discard-data",
                "bool",
                static o => ((MemoryBackendFile)o).DiscardData,
                static (o, input) => ((MemoryBackendFile)o).DiscardData = input.ReadBool()),
            new QomPropertyInfo(
                "mem-path",
                "string",
                static o => ((MemoryBackendFile)o).Path,
                static (o, input) => ((MemoryBackendFile)o).SetPath(input.ReadString())),
            new QomPropertyInfo(
                "pmem",
                "bool",
                static o => ((MemoryBackendFile)o).IsPersistent,
                static (o, input) => ((MemoryBackendFile)o).SetPersistent(input.ReadBool())),
            new QomPropertyInfo(
                "align",
                "int",
                static o => ((MemoryBackendFile)o).Align,
                static (o, input) => ((MemoryBackendFile)o).SetAlign(input.ReadSize())),
            new QomPropertyInfo(
                "readonly",
                "bool",
                static o => ((MemoryBackendFile)o).ReadOnly,
                static (o, input) => ((MemoryBackendFile)o).SetReadOnly(input.ReadBool())),
        ],
    };

    /// <inheritdoc/>
    public override QomTypeInfo Type => TypeInfo;

    /// <inheritdoc/>
    public override IReadOnlyList<string> RequiredProperties => ["size", "mem-path"];

    /// <summary>File or directory.</summary>
    public string Path { get; private set; } = "";

    /// <summary>Alignment of the mapping in bytes; 0 for the page size.</summary>
    public ulong Align { get; private set; }

    /// <summary>The file is on persistent memory, and what the guest writes to a shared mapping is to survive a crash of the host.</summary>
    public bool IsPersistent { get; private set; }

    /// <summary>The guest cannot write, and neither can we.</summary>
    public bool ReadOnly { get; private set; }

    /// <summary>The contents are thrown away when the object goes, which saves writing them to the file.</summary>
    public bool DiscardData { get; private set; }

    /// <inheritdoc/>
    protected override RamBlock? Allocate(RamOptions options, out string? error) =>
        RamBackends.CreateFile(options with { IsPersistent = IsPersistent }, Path, Align, ReadOnly, out error);

    /// <inheritdoc/>
    protected override void OnUnparent()
    {
        if (DiscardData && Block is { } block)
        {
            _ = block.Mapping.Advise(Interop.Libc.MADV_REMOVE);
        }

        base.OnUnparent();
    }

    private void SetPath(string path)
    {
        RefuseWhenAllocated("cannot change property 'mem-path' of memory-backend-file");
        Path = path;
    }

    private void SetAlign(ulong align)
    {
        RefuseWhenAllocated("cannot change property 'align' of memory-backend-file");
        Align = align;
    }

    private void SetPersistent(bool persistent)
    {
        RefuseWhenAllocated("cannot change property 'pmem' of memory-backend-file.");
        IsPersistent = persistent;
    }

    private void SetReadOnly(bool readOnly)
    {
        RefuseWhenAllocated("cannot change property 'readonly' of memory-backend-file.");
        ReadOnly = readOnly;
    }
}

/// <summary>Guest RAM in a memory file without a name, which can be handed to other processes.</summary>
public sealed class MemoryBackendMemFd : MemoryBackend
{
    private static QomTypeInfo? s_typeInfo;

    /// <summary>Shared by default.</summary>
    public MemoryBackendMemFd() => Share = true;

    /// <summary>Type "memory-backend-memfd".</summary>
    public static new QomTypeInfo TypeInfo => s_typeInfo ??= new QomTypeInfo
    {
        Name = "memory-backend-memfd",
        Parent = "memory-backend",
        Factory = static () => new MemoryBackendMemFd(),
        Properties = static () =>
        [
            new QomPropertyInfo(
                "hugetlb",
                "bool",
                static o => ((MemoryBackendMemFd)o).HugeTlb,
                static (o, input) => ((MemoryBackendMemFd)o).HugeTlb = input.ReadBool(),
                "Use huge pages"),
            new QomPropertyInfo(
                "hugetlbsize",
                "int",
                static o => ((MemoryBackendMemFd)o).HugeTlbSize,
                static (o, input) => ((MemoryBackendMemFd)o).SetHugeTlbSize(input.ReadSize()),
                "Huge pages size (ex: 2M, 1G)"),
            new QomPropertyInfo(
                "seal",
                "bool",
                static o => ((MemoryBackendMemFd)o).Seal,
                static (o, input) => ((MemoryBackendMemFd)o).Seal = input.ReadBool(),
                "Seal growing & shrinking"),
        ],
    };

    /// <inheritdoc/>
    public override QomTypeInfo Type => TypeInfo;

    /// <summary>Use huge pages, when the memory is made.</summary>
    public bool HugeTlb { get; private set; }

    /// <summary>Size of a huge page in bytes; 0 for the host's default.</summary>
    public ulong HugeTlbSize { get; private set; }

    /// <summary>The file cannot change its size once it is made.</summary>
    public bool Seal { get; private set; } = true;

    /// <inheritdoc/>
    protected override RamBlock? Allocate(RamOptions options, out string? error) =>
        RamBackends.CreateMemFd(options, HugeTlb, HugeTlbSize, Seal, out error);

    private void SetHugeTlbSize(ulong value)
    {
        RefuseWhenAllocated("cannot change property value");
        HugeTlbSize = value != 0 ? value : throw new QapiException("Property 'memory-backend-memfd.hugetlbsize' doesn't take value '0'");
    }
}
