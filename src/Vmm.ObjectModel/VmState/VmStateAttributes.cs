namespace Vmm.ObjectModel.VmState;

/// <summary>
/// Declares a record as a migration section (or a nested structure of one). The generator emits big-endian save and load in
/// declaration order. Names and versions are append-only: they are QEMU 7.2's for the same device.
/// </summary>
[AttributeUsage(AttributeTargets.Class | AttributeTargets.Struct, Inherited = false)]
public sealed class VmStateAttribute(string name) : Attribute
{
    /// <summary>Section name on the wire.</summary>
    public string Name { get; } = name;

    /// <summary>Version written.</summary>
    public int Version { get; init; } = 1;

    /// <summary>Oldest version read.</summary>
    public int MinimumVersion { get; init; } = 1;
}

/// <summary>The field exists from this section version on; older streams leave the default.</summary>
[AttributeUsage(AttributeTargets.Property | AttributeTargets.Parameter)]
public sealed class VmSinceAttribute(int version) : Attribute
{
    /// <summary>First version with the field.</summary>
    public int Version { get; } = version;
}

/// <summary>Fixed number of elements of an array field.</summary>
[AttributeUsage(AttributeTargets.Property | AttributeTargets.Parameter)]
public sealed class VmArrayAttribute(int length) : Attribute
{
    /// <summary>Element count.</summary>
    public int Length { get; } = length;
}

/// <summary>
/// The field is an optional subsection: a nullable [VmState] record; it is written when not null, under its full name
/// (<c>serial/timeout</c>).
/// </summary>
[AttributeUsage(AttributeTargets.Property | AttributeTargets.Parameter)]
public sealed class VmSubsectionAttribute : Attribute;

/// <summary>The device has nothing to migrate: whatever it does is done when the register access returns.</summary>
[AttributeUsage(AttributeTargets.Class, Inherited = false)]
public sealed class StatelessAttribute : Attribute;

/// <summary>A device (or other part of the machine) with state to migrate.</summary>
public interface IVmStateful
{
    /// <summary>Section name.</summary>
    string VmStateName { get; }

    /// <summary>Section version written.</summary>
    int VmStateVersion { get; }

    /// <summary>Writes the state; the machine is stopped.</summary>
    void SaveState(VmStateWriter writer);

    /// <summary>Reads a complete value of section <paramref name="version"/>, validates all of it as hostile input, then applies it in one step.</summary>
    void LoadState(VmStateReader reader, int version);
}
