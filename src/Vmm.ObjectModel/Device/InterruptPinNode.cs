using Vmm.ObjectModel.Qom;

namespace Vmm.ObjectModel.Devices;

/// <summary>Shows an interrupt input of a device in the object tree (QOM <c>irq</c>).</summary>
public sealed class InterruptPinNode : QomObject
{
    private static QomTypeInfo? s_typeInfo;

    /// <summary>Type "irq".</summary>
    public static new QomTypeInfo TypeInfo => s_typeInfo ??= new QomTypeInfo { Name = "irq", Parent = "object" };

    /// <inheritdoc/>
    public override QomTypeInfo Type => TypeInfo;
}
