namespace Vmm.Block.Options;

/// <summary>The options that all nodes have, with defaults and what a parent hands down resolved.</summary>
public sealed record NodeOptions
{
    /// <summary>Nothing may be written.</summary>
    public bool IsReadOnly { get; init; }

    /// <summary>Becomes read-only where writing is impossible.</summary>
    public bool IsAutoReadOnly { get; init; }

    /// <summary>Bypasses the host's page cache.</summary>
    public bool IsDirect { get; init; }

    /// <summary>Flushes do nothing.</summary>
    public bool IsNoFlush { get; init; }

    /// <summary>Read although others write.</summary>
    public bool IsForceShare { get; init; }

    /// <summary>How files are read and written where their own options do not say it; null for the driver's choice.</summary>
    public AioMode? Aio { get; init; }

    /// <summary>Discards.</summary>
    public DiscardMode Discard { get; init; }

    /// <summary>Writes of zeroes.</summary>
    public DetectZeroesMode DetectZeroes { get; init; }

    /// <summary>The options of a node as an operator wrote them, over what its parent hands down.</summary>
    /// <param name="options">As written.</param>
    /// <param name="inherited">Handed down; null for a node without parent.</param>
    public static NodeOptions Resolve(BlockdevOptions options, NodeOptions? inherited) => new()
    {
        IsReadOnly = options.ReadOnly ?? inherited?.IsReadOnly ?? false,
        IsAutoReadOnly = options.AutoReadOnly ?? inherited?.IsAutoReadOnly ?? false,
        IsDirect = options.Cache?.Direct ?? inherited?.IsDirect ?? false,
        IsNoFlush = options.Cache?.NoFlush ?? inherited?.IsNoFlush ?? false,
        IsForceShare = options.ForceShare ?? inherited?.IsForceShare ?? false,
        Aio = inherited?.Aio,
        Discard = options.Discard ?? inherited?.Discard ?? DiscardMode.Ignore,
        DetectZeroes = options.DetectZeroes ?? DetectZeroesMode.Off,
    };

    /// <summary>What a child in a role gets handed down by a node with these options.</summary>
    public NodeOptions ForChild(Graph.ChildRole role, bool isFormat)
    {
        bool isCow = (role & Graph.ChildRole.Cow) != 0;
        return this with
        {
            // A backing file is not written unless its options say so. The file of a format frees what the format has given up.
            IsReadOnly = isCow || IsReadOnly,
            IsAutoReadOnly = !isCow && IsAutoReadOnly,
            Discard = isCow ? DiscardMode.Ignore : isFormat ? DiscardMode.Unmap : Discard,
            DetectZeroes = DetectZeroesMode.Off,
        };
    }
}
