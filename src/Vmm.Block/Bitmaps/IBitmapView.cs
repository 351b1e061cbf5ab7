namespace Vmm.Block.Bitmaps;

/// <summary>What clients are told of a bitmap of a node. Any thread.</summary>
public interface IBitmapView
{
    /// <summary>Its name; null for those that jobs and filters have for themselves.</summary>
    string? Name { get; }

    /// <summary>Dirty bytes, in whole granules.</summary>
    long DirtyBytes { get; }

    /// <summary>Bytes for which a bit stands.</summary>
    long Granularity { get; }

    /// <summary>Writes are recorded.</summary>
    bool IsEnabled { get; }

    /// <summary>A job or export uses it.</summary>
    bool IsBusy { get; }

    /// <summary>It is stored in the image when that is closed.</summary>
    bool IsPersistent { get; }

    /// <summary>The image says that it was not stored properly.</summary>
    bool IsInconsistent { get; }
}

/// <summary>What a job or a filter has still to do with a node, or has done.</summary>
/// <param name="count">Bytes that are dirty now, in whole granules.</param>
/// <param name="granularity">Bytes for which a bit stands.</param>
/// <param name="isRecording">Writes are recorded.</param>
internal sealed class JobBitmap(Func<long> count, long granularity, bool isRecording = false) : IBitmapView
{
    /// <inheritdoc/>
    public string? Name => null;

    /// <inheritdoc/>
    public long DirtyBytes => count();

    /// <inheritdoc/>
    public long Granularity => granularity;

    /// <inheritdoc/>
    public bool IsEnabled => isRecording;

    /// <inheritdoc/>
    public bool IsBusy => false;

    /// <inheritdoc/>
    public bool IsPersistent => false;

    /// <inheritdoc/>
    public bool IsInconsistent => false;
}
