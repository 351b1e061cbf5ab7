using Vmm.Qapi;

namespace Vmm.Monitor;

/// <summary>The interface version that monitors announce.</summary>
/// <param name="Major">Major version.</param>
/// <param name="Minor">Minor version.</param>
/// <param name="Micro">Micro version.</param>
/// <param name="Package">What follows the version: name and version of this program.</param>
public sealed record MonitorVersion(int Major, int Minor, int Micro, string Package)
{
    /// <summary>The version as "7.2.22".</summary>
    public string Number => $"{Major}.{Minor}.{Micro}";

    /// <summary>The version as query-version answers it.</summary>
    public VersionInfo ToWire() => new()
    {
        Qemu = new VersionTriple { Major = Major, Minor = Minor, Micro = Micro },
        Package = Package,
    };
}

/// <summary>A version number.</summary>
[QapiStruct]
public sealed partial record VersionTriple
{
    /// <summary>Major version.</summary>
    public required long Major { get; init; }

    /// <summary>Minor version.</summary>
    public required long Minor { get; init; }

    /// <summary>Micro version.</summary>
    public required long Micro { get; init; }
}

/// <summary>The interface version and the program behind it.</summary>
[QapiStruct]
public sealed partial record VersionInfo
{
    /// <summary>The interface version.</summary>
    public required VersionTriple Qemu { get; init; }

    /// <summary>Name and version of the program.</summary>
    public required string Package { get; init; }
}
