using Vmm.ObjectModel.Qom;

namespace Vmm.ObjectModel.Chardevs;

public abstract partial class Chardev
{
    private static QomTypeInfo? s_typeInfo;

    /// <summary>Type "chardev", parent of all character back ends.</summary>
    public static new QomTypeInfo TypeInfo => s_typeInfo ??= new QomTypeInfo
    {
        Name = "chardev",
        Parent = "object",
        IsAbstract = true,
    };
}
