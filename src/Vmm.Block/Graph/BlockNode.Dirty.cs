namespace Vmm.Block.Graph;

/// <summary>Learns of writes to a node: dirty bitmaps, jobs. Home: the node's loop.</summary>
public interface IWriteObserver
{
    /// <summary>A range may have changed: written, zeroed or discarded.</summary>
    void OnWritten(long offset, long bytes);

    /// <summary>The node has another size.</summary>
    void OnTruncated(long length);
}

/// <content>Who is told of writes.</content>
public sealed partial class BlockNode
{
    private IWriteObserver[] _observers = [];

    /// <summary>Adds an observer. Drained or on the home loop.</summary>
    public void AddObserver(IWriteObserver observer) => _observers = [.. _observers, observer];

    /// <summary>Takes an observer away. Drained or on the home loop.</summary>
    public void RemoveObserver(IWriteObserver observer) => _observers = Array.FindAll(_observers, o => o != observer);

    // One report: who wants the next one sets the threshold again.
    private void CheckThreshold(long end)
    {
        long threshold = WriteThreshold;
        if (threshold > 0 && end > threshold)
        {
            WriteThreshold = 0;
            Graph.ThresholdExceeded?.Invoke(this, threshold, end - threshold);
        }
    }

    private void MarkDirty(long offset, long bytes)
    {
        foreach (IWriteObserver observer in _observers)
        {
            observer.OnWritten(offset, bytes);
        }
    }
}
