using Vmm.Memory;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.ObjectModel.Objects;

public abstract partial class MemoryBackend
{
    private static readonly string[] s_policyNames = ["default", "preferred", "bind", "interleave"];
    private static QomTypeInfo? s_typeInfo;

    /// <summary>Type "memory-backend".</summary>
    public static new QomTypeInfo TypeInfo => s_typeInfo ??= new QomTypeInfo
    {
        Name = "memory-backend",
        Parent = "object",
        IsAbstract = true,
        Interfaces = ["user-creatable"],
        Properties = MakeProperties,
    };

    /// <summary>Wire name of a policy.</summary>
    public static string PolicyName(RamNumaPolicy policy) => s_policyNames[(int)policy];

    // In the order in which clients' tables were filled: it decides the order of listing where names collide.
    private static QomPropertyInfo[] MakeProperties() =>
    [
        Bool("merge", static b => b.Merge, static (b, v) => b.SetMerge(v), "Mark memory as mergeable"),
        Bool("dump", static b => b.Dump, static (b, v) => b.SetDump(v), "Set to 'off' to exclude from core dump"),
        Bool("prealloc", static b => b._prealloc, static (b, v) => b.SetPrealloc(v), "Preallocate memory"),
        new QomPropertyInfo(
            "prealloc-threads",
            "int",
            static o => ((MemoryBackend)o).PreallocThreads,
            static (o, input) => ((MemoryBackend)o).SetPreallocThreads(input.ReadUInt32()),
            "Number of CPU threads to use for prealloc"),
        new QomPropertyInfo(
            "prealloc-context",
            "link<thread-context>",
            static o => ((MemoryBackend)o)._preallocContext?.CanonicalPath ?? "",
            static (o, input) => ((MemoryBackend)o).SetPreallocContext((ThreadContext?)input.ReadLink("thread-context")),
            "Context to use for creating CPU threads for preallocation")
        {
            Target = static o => ((MemoryBackend)o)._preallocContext,
        },
        new QomPropertyInfo(
            "size",
            "int",
            static o => ((MemoryBackend)o).Size,
            static (o, input) => ((MemoryBackend)o).SetSize(input.ReadSize()),
            "Size of the memory region (ex: 500M)"),
        new QomPropertyInfo(
            "host-nodes",
            "int",
            static o => NodeList(((MemoryBackend)o).HostNodes()),
            static (o, input) => ((MemoryBackend)o).SetHostNodes(input.ReadUInt16List()),
            "Binds memory to the list of NUMA host nodes"),
        new QomPropertyInfo(
            "policy",
            "HostMemPolicy",
            static o => s_policyNames[(int)((MemoryBackend)o).Policy],
            static (o, input) => ((MemoryBackend)o).Policy = (RamNumaPolicy)input.ReadEnum(s_policyNames),
            "Set the NUMA policy"),
        Bool("share", static b => b.Share, static (b, v) => b.SetShare(v), "Mark the memory as private to QEMU or shared"),
        Bool("reserve", static b => b._reserve, static (b, v) => b.SetReserve(v), "Reserve swap space (or huge pages) if applicable"),
        Bool("x-use-canonical-path-for-ramblock-id", static b => b.UseCanonicalPath, static (b, v) => b.UseCanonicalPath = v, null),
    ];

    private static QomPropertyInfo Bool(string name, Func<MemoryBackend, bool> get, Action<MemoryBackend, bool> set, string? description) =>
        new(name, "bool", o => get((MemoryBackend)o), (o, input) => set((MemoryBackend)o, input.ReadBool()), description);

    private static QList NodeList(List<ushort> nodes)
    {
        var list = new QList();
        foreach (ushort node in nodes)
        {
            list.Add((int)node);
        }

        return list;
    }
}
