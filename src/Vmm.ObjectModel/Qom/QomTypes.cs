using Vmm.Qapi;

namespace Vmm.ObjectModel.Qom;

public abstract partial class QomObject
{
    private static QomTypeInfo? s_typeInfo;

    /// <summary>The type at the root of all.</summary>
    public static QomTypeInfo TypeInfo => s_typeInfo ??= new QomTypeInfo
    {
        Name = "object",
        IsAbstract = true,
        Properties = static () => [new QomPropertyInfo("type", "string", static o => new QString(o.Type.Name), null)],
    };
}

/// <summary>A node that only holds children, such as <c>/objects</c>.</summary>
public sealed class Container : QomObject
{
    private static QomTypeInfo? s_typeInfo;

    /// <summary>Type "container".</summary>
    public static new QomTypeInfo TypeInfo => s_typeInfo ??= new QomTypeInfo
    {
        Name = "container",
        Parent = "object",
        Factory = static () => new Container(),
    };

    /// <inheritdoc/>
    public override QomTypeInfo Type => TypeInfo;
}
