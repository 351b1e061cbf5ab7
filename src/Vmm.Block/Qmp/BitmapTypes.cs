using Vmm.Qapi;

namespace Vmm.Block.Qmp;

/// <summary>A bitmap of a node.</summary>
[QapiStruct]
public sealed partial record BlockDirtyBitmap
{
    /// <summary>The node.</summary>
    public required string Node { get; init; }

    /// <summary>The bitmap.</summary>
    public required string Name { get; init; }
}

/// <summary>A bitmap of the same node, or of another.</summary>
[QapiAlternate]
public sealed partial record BlockDirtyBitmapOrStr
{
    /// <summary>Of the same node.</summary>
    public string? Local { get; init; }

    /// <summary>Of another.</summary>
    public BlockDirtyBitmap? External { get; init; }
}

/// <summary>A digest of a bitmap.</summary>
[QapiStruct]
public sealed partial record BlockDirtyBitmapSha256
{
    /// <summary>Hexadecimal.</summary>
    public required string Sha256 { get; init; }
}

/// <summary>A bitmap to be added.</summary>
[QapiStruct]
public sealed partial record BlockDirtyBitmapAdd
{
    /// <summary>The node.</summary>
    public required string Node { get; init; }

    /// <summary>The bitmap.</summary>
    public required string Name { get; init; }

    /// <summary>Bytes of a granule.</summary>
    public uint? Granularity { get; init; }

    /// <summary>It is kept in the image.</summary>
    public bool? Persistent { get; init; }

    /// <summary>It does not record writes.</summary>
    public bool? Disabled { get; init; }
}

/// <summary>Bitmaps to be put together.</summary>
[QapiStruct]
public sealed partial record BlockDirtyBitmapMerge
{
    /// <summary>The node.</summary>
    public required string Node { get; init; }

    /// <summary>The bitmap that gets the others.</summary>
    public required string Target { get; init; }

    /// <summary>The others.</summary>
    public required IReadOnlyList<BlockDirtyBitmapOrStr> Bitmaps { get; init; }
}
