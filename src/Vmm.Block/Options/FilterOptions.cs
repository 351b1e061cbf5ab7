using Vmm.Qapi;

namespace Vmm.Block.Options;

/// <summary>A filter that copies what is read out of backing files.</summary>
[QapiStruct]
public sealed partial record BlockdevOptionsCor
{
    /// <summary>The image.</summary>
    public required BlockdevRef File { get; init; }

    /// <summary>Last node whose contents are copied; the end of the chain by default.</summary>
    public string? Bottom { get; init; }
}
