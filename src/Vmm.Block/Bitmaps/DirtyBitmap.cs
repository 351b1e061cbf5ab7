using Vmm.Block.Graph;
using Vmm.Qapi;

namespace Vmm.Block.Bitmaps;

/// <summary>
/// Remembers which parts of a node were written. Its home is the node's loop; commands touch it there or while the node is drained.
/// </summary>
public sealed class DirtyBitmap : IWriteObserver, IBitmapView
{
    /// <summary>Longest name of a persistent bitmap, in bytes.</summary>
    public const int MaxPersistentName = 1023;

    private BitSet _bits;
    private BitSet? _successor;
    private JobBitmap? _view;

    /// <summary>Nothing is dirty.</summary>
    public DirtyBitmap(BlockNode node, string? name, long granularity)
        : this(node, name, new BitSet(node.Length, granularity))
    {
    }

    /// <summary>What is dirty is known.</summary>
    public DirtyBitmap(BlockNode node, string? name, BitSet bits)
    {
        Node = node;
        Name = name;
        _bits = bits;
    }

    /// <summary>The node.</summary>
    public BlockNode Node { get; }

    /// <summary>Its name; null for those that jobs have for themselves.</summary>
    public string? Name { get; }

    /// <summary>The bits.</summary>
    public BitSet Bits => _bits;

    /// <inheritdoc/>
    public long DirtyBytes => _bits.Count * _bits.Granularity;

    /// <inheritdoc/>
    public long Granularity => _bits.Granularity;

    /// <summary>Writes are recorded.</summary>
    public bool IsEnabled { get; set; } = true;

    /// <summary>A job or export uses it: nobody else may change it.</summary>
    public bool IsBusy { get; set; }

    /// <summary>It is stored in the image when that is closed.</summary>
    public bool IsPersistent { get; set; }

    /// <summary>The image says that it was not stored properly.</summary>
    public bool IsInconsistent { get; set; }

    /// <summary>The granularity that suits a node: its cluster, between 4 KiB and 64 KiB.</summary>
    public static long DefaultGranularity(int clusterSize) => clusterSize > 0 ? Math.Clamp(clusterSize, 4096, 65536) : 65536;

    /// <inheritdoc/>
    public void OnWritten(long offset, long bytes)
    {
        if (IsEnabled)
        {
            (_successor ?? _bits).Set(offset, bytes);
        }
    }

    /// <inheritdoc/>
    public void OnTruncated(long length)
    {
        _bits.Resize(length);
        _successor?.Resize(length);
    }

    /// <summary>A job works on what is dirty now: it stays as it is, and writes are recorded beside it. Drained.</summary>
    public void Freeze()
    {
        IsBusy = true;
        BitSet successor = _successor = new BitSet(_bits.Length, _bits.Granularity);
        _view = new JobBitmap(() => successor.Count * successor.Granularity, successor.Granularity, IsEnabled);
        Node.AddView(_view);
    }

    /// <summary>The job is done with it: only writes since then are dirty. Drained.</summary>
    public void KeepSuccessor()
    {
        _bits = _successor!;
        EndSuccessor();

        // It is the newer one that stays.
        Node.RemoveView(this);
        Node.AddView(this);
    }

    /// <summary>The job has not done its work: what was dirty still is, and writes since then are as well. Drained.</summary>
    public void MergeSuccessor()
    {
        _bits.Merge(_successor!);
        EndSuccessor();
    }

    private void EndSuccessor()
    {
        _successor = null;
        IsBusy = false;
        if (_view is { } view)
        {
            Node.RemoveView(view);
        }
    }

    /// <summary>Puts other bits in their place, as a transaction does that is undone.</summary>
    public void Restore(BitSet bits) => _bits = bits;

    /// <summary>Refuses what cannot be done with the bitmap now.</summary>
    /// <param name="allowInconsistent">What is done makes sense also with a bitmap that tells nothing.</param>
    /// <param name="changes">What is done changes the bitmap, so that an image that has it must be writable.</param>
    /// <exception cref="QapiException">It is used, inconsistent, or not to be changed.</exception>
    public void CheckUsable(bool allowInconsistent = false, bool changes = false)
    {
        if (IsBusy)
        {
            throw new QapiException($"Bitmap '{Name}' is currently in use by another operation and cannot be used");
        }

        if (changes && IsPersistent && Node.IsReadOnly)
        {
            throw new QapiException($"Bitmap '{Name}' is readonly and cannot be modified");
        }

        if (IsInconsistent && !allowInconsistent)
        {
            throw new QapiException(
                QapiErrorClass.GenericError,
                $"Bitmap '{Name}' is inconsistent and cannot be used",
                "Try block-dirty-bitmap-remove to delete this bitmap from disk\n");
        }
    }
}
