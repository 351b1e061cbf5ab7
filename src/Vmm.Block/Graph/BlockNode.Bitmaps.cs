using Vmm.Block.Bitmaps;

namespace Vmm.Block.Graph;

/// <content>Dirty bitmaps.</content>
public sealed partial class BlockNode
{
    private readonly List<DirtyBitmap> _bitmaps = [];

    /// <summary>The bitmaps with names, oldest first. Main loop.</summary>
    public IReadOnlyList<DirtyBitmap> Bitmaps => _bitmaps;

    /// <summary>The bitmap of that name; null when there is none.</summary>
    public DirtyBitmap? FindBitmap(string name) => _bitmaps.Find(b => b.Name == name);

    /// <summary>Adds a bitmap, which records from now on. Drained.</summary>
    public void AddBitmap(DirtyBitmap bitmap)
    {
        _bitmaps.Add(bitmap);
        AddObserver(bitmap);
    }

    /// <summary>Takes a bitmap away. Drained.</summary>
    public void RemoveBitmap(DirtyBitmap bitmap)
    {
        _bitmaps.Remove(bitmap);
        RemoveObserver(bitmap);
    }
}
