namespace Vmm.Memory;

/// <summary>
/// Batches changes of the memory graph: views are rendered and listeners told once, at the end of the outermost transaction.
/// A transaction belongs to the thread that began it, which holds the machine lock until the commit.
/// </summary>
public static class MemoryTransaction
{
    [ThreadStatic]
    private static int s_depth;

    [ThreadStatic]
    private static List<AddressSpace>? s_pending;

    /// <summary>Opens a transaction; they nest.</summary>
    public static void Begin() => s_depth++;

    /// <summary>Closes a transaction; closing the outermost makes the changes visible.</summary>
    public static void Commit()
    {
        if (s_depth <= 0)
        {
            throw new InvalidOperationException("Memory transaction committed that was not begun");
        }

        if (--s_depth > 0 || s_pending is not { Count: > 0 } pending)
        {
            return;
        }

        s_pending = null;
        foreach (AddressSpace space in pending)
        {
            space.UpdateTopology();
        }

        pending.Clear();
        s_pending ??= pending;
    }

    internal static void Add(AddressSpace space)
    {
        List<AddressSpace> pending = s_pending ??= [];
        if (!pending.Contains(space))
        {
            pending.Add(space);
        }
    }
}
