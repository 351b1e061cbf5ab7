using Vmm.Block.Bitmaps;

namespace Vmm.Block.Graph;

/// <content>Dirty bitmaps.</content>
public sealed partial class BlockNode
{
    private readonly List<DirtyBitmap> _bitmaps = [];
    private volatile IBitmapView[] _views = [];

    /// <summary>The bitmaps with names, oldest first. Main loop.</summary>
    public IReadOnlyList<DirtyBitmap> Bitmaps => _bitmaps;

    /// <summary>All bitmaps, also those without names, oldest first. Any thread.</summary>
    public IReadOnlyList<IBitmapView> BitmapViews => _views;

    /// <summary>The bitmap of that name; null when there is none.</summary>
    public DirtyBitmap? FindBitmap(string name) => _bitmaps.Find(b => b.Name == name);

    /// <summary>Adds a bitmap, which records from now on. Drained.</summary>
    public void AddBitmap(DirtyBitmap bitmap)
    {
        _bitmaps.Add(bitmap);
        AddView(bitmap);
        AddObserver(bitmap);
    }

    /// <summary>Takes a bitmap away. Drained.</summary>
    public void RemoveBitmap(DirtyBitmap bitmap)
    {
        _bitmaps.Remove(bitmap);
        RemoveView(bitmap);
        RemoveObserver(bitmap);
    }

    /// <summary>Clients are told of what a job or a filter has of its own.</summary>
    internal void AddView(IBitmapView view) => _views = [.. _views, view];

    /// <summary>Ends <see cref="AddView"/>.</summary>
    internal void RemoveView(IBitmapView view) => _views = [.. _views.Where(other => other != view)];
}
