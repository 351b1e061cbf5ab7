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

/// <summary>What becomes of a write whose old contents could not be saved.</summary>
[QapiEnum]
public enum OnCbwError
{
    /// <summary>It fails.</summary>
    BreakGuestWrite,

    /// <summary>It is done, and nothing is saved any more.</summary>
    BreakSnapshot,
}

/// <summary>A filter that saves what is about to be written.</summary>
[QapiStruct]
public sealed partial record BlockdevOptionsCbw
{
    /// <summary>What is written.</summary>
    public required BlockdevRef File { get; init; }

    /// <summary>What gets the old contents.</summary>
    public required BlockdevRef Target { get; init; }

    /// <summary>What is saved; everything by default.</summary>
    public Qmp.BlockDirtyBitmap? Bitmap { get; init; }

    /// <summary>What becomes of a write whose old contents could not be saved.</summary>
    public OnCbwError? OnCbwError { get; init; }

    /// <summary>Seconds after which saving counts as failed; 0, the default, for none.</summary>
    public uint? CbwTimeout { get; init; }
}
