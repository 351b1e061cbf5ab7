using Vmm.Qapi;

namespace Vmm.Block.Options;

/// <summary>An encrypted volume.</summary>
[QapiStruct]
public sealed partial record BlockdevOptionsLuks
{
    /// <summary>Where the volume is.</summary>
    public required BlockdevRef File { get; init; }

    /// <summary>Id of a secret object with the password.</summary>
    public string? KeySecret { get; init; }
}
