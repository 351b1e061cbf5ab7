namespace Vmm.Generators.Qom;

/// <summary>A C# property as a QOM property.</summary>
/// <param name="Name">Wire name.</param>
/// <param name="CsName">C# name.</param>
/// <param name="TypeText">Type string as QEMU shows it.</param>
/// <param name="Get">Expression of the value of <c>self</c>; null when write-only.</param>
/// <param name="Set">Expression that reads the new value from <c>input</c>; null when read-only.</param>
/// <param name="Target">Whether it is a link.</param>
internal sealed record QomPropertyModel(
    string Name,
    string CsName,
    string TypeText,
    string? Get,
    string? Set,
    bool Target,
    string? Description,
    string? Default,
    bool IsDeviceProperty,
    bool SettableAfterRealize);

/// <summary>A class that is a QOM type.</summary>
internal sealed record QomTypeModel(
    string Namespace,
    string ClassName,
    string FullName,
    string Name,
    string? Parent,
    bool IsAbstract,
    bool HidesBase,
    bool EmitTypeInfo,
    bool EmitTypeOverride,
    bool HasFactory,
    EquatableArray<string> Interfaces,
    string? Description,
    bool UserCreatable,
    bool Hotpluggable,
    string? BusType,
    string? Category,
    EquatableArray<QomPropertyModel> Properties,
    DiagnosticInfo Location,
    EquatableArray<DiagnosticInfo> Errors);
