using Vmm.Qapi;

namespace Vmm.ObjectModel.Qom;

/// <summary>
/// One property of a QOM type (or, for child and link entries, of one object): its wire name, its type string as qom-list
/// shows it ("bool", "uint32", "str", "size", "child&lt;x&gt;", "link&lt;x&gt;", an enum's name, …) and typed access.
/// </summary>
/// <param name="Name">Wire name, as in <c>-device driver,NAME=value</c>.</param>
/// <param name="Type">Type string as QEMU writes it.</param>
/// <param name="Get">Reads the value; null when write-only.</param>
/// <param name="Set">Assigns the value or throws a <see cref="QapiException"/> in QEMU's words; null when read-only.</param>
/// <param name="Description">What qom-list-properties and <c>-device X,help</c> print; null for none.</param>
/// <param name="DefaultValue">Default to announce; null for none.</param>
public sealed record QomPropertyInfo(
    string Name,
    string Type,
    Func<QomObject, QValue>? Get,
    Action<QomObject, PropertyInput>? Set,
    string? Description = null,
    Func<QValue>? DefaultValue = null)
{
    /// <summary>True for a device property (listed by device-list-properties and settable by -global), false for an object-only one.</summary>
    public bool IsDeviceProperty { get; init; }

    /// <summary>True when the property may be set after realize.</summary>
    public bool SettableAfterRealize { get; init; }

    /// <summary>For child and link properties: the object they lead to, null when unset. Null delegate for all others.</summary>
    public Func<QomObject, QomObject?>? Target { get; init; }

    /// <summary>Text for <c>info qtree</c> where it differs from the value's own form (a PCI address, a MAC); null for the usual form.</summary>
    public Func<QomObject, string>? Print { get; init; }

    /// <summary>True when this is a child in the composition tree.</summary>
    public bool IsChild => Type.StartsWith("child<", StringComparison.Ordinal);

    /// <summary>True when this is a link to another object.</summary>
    public bool IsLink => Type.StartsWith("link<", StringComparison.Ordinal);
}
