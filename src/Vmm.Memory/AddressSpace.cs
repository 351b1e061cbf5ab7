namespace Vmm.Memory;

/// <summary>Outcome of an access.</summary>
public enum MemTxResult : byte
{
    /// <summary>Done.</summary>
    Ok,

    /// <summary>The device refused.</summary>
    Error,

    /// <summary>Nothing (or nothing that takes such an access) is at the address.</summary>
    DecodeError,
}

/// <summary>
/// The lock under which register handlers run, as accesses need it. Implemented over the machine lock by whoever composes the machine.
/// </summary>
public interface IIoLock
{
    /// <summary>True when the calling thread holds the lock.</summary>
    bool IsHeldByCurrentThread { get; }

    /// <summary>Takes the lock.</summary>
    void Enter();

    /// <summary>Gives the lock back.</summary>
    void Exit();
}

/// <summary>
/// A space of addresses as the guest or a bus master sees it. Accesses may be made on any thread: they read the current
/// <see cref="View"/> without locks, and take the I/O lock only around handlers that are not thread-safe. Nothing here allocates per
/// access. Changes and listeners belong to the machine lock.
/// </summary>
public sealed partial class AddressSpace : IDisposable
{
    private readonly List<IMemoryListener> _listeners = [];
    private FlatView _view = FlatView.Empty;
    private MappedIoEventFd[] _ioEventFds = [];
    private bool _globalDirtyLog;
    private bool _disposed;

    /// <summary>A space that shows <paramref name="root"/>.</summary>
    public AddressSpace(string name, MemoryRegion root, IIoLock? ioLock = null)
    {
        Name = name;
        Root = root;
        IoLock = ioLock;
        root.AddSpace(this);
        UpdateTopology();
    }

    /// <summary>Name as <c>info mtree</c> shows it.</summary>
    public string Name { get; }

    /// <summary>Root region.</summary>
    public MemoryRegion Root { get; }

    /// <summary>Lock for handlers; null when nothing needs one (tests).</summary>
    public IIoLock? IoLock { get; set; }

    /// <summary>The current flat view. Swapped as a whole; keep the reference for the duration of a multi-step access.</summary>
    public FlatView View => Volatile.Read(ref _view);

    /// <summary>Event descriptors at their absolute addresses, ascending.</summary>
    public ReadOnlySpan<MappedIoEventFd> IoEventFds => _ioEventFds;

    /// <summary>True while writes to all migratable RAM are logged for <see cref="DirtyClients.Migration"/>.</summary>
    public bool GlobalDirtyLog
    {
        get => _globalDirtyLog;
        set
        {
            if (_globalDirtyLog == value)
            {
                return;
            }

            _globalDirtyLog = value;
            if (value)
            {
                _listeners.ForEach(static l => l.LogGlobalStart());
            }

            UpdateTopology();
            if (!value)
            {
                _listeners.ForEach(static l => l.LogGlobalStop());
            }
        }
    }

    /// <summary>Adds a listener and tells it all that is there.</summary>
    public void AddListener(IMemoryListener listener)
    {
        int i = 0;
        while (i < _listeners.Count && _listeners[i].Priority <= listener.Priority)
        {
            i++;
        }

        _listeners.Insert(i, listener);
        listener.Begin(this);
        if (_globalDirtyLog)
        {
            listener.LogGlobalStart();
        }

        foreach (FlatRange range in _view.Ranges)
        {
            listener.RegionAdd(range);
            if (range.DirtyLog != DirtyClients.None)
            {
                listener.LogStart(range, DirtyClients.None, range.DirtyLog);
            }
        }

        foreach (ref readonly MappedIoEventFd entry in _ioEventFds.AsSpan())
        {
            listener.IoEventFdAdd(entry);
        }

        listener.Commit(this);
    }

    /// <summary>Tells the listener that everything goes away, and removes it.</summary>
    public void RemoveListener(IMemoryListener listener)
    {
        if (!_listeners.Remove(listener))
        {
            return;
        }

        listener.Begin(this);
        ReadOnlySpan<FlatRange> ranges = _view.Ranges;
        for (int i = ranges.Length - 1; i >= 0; i--)
        {
            if (ranges[i].DirtyLog != DirtyClients.None)
            {
                listener.LogStop(ranges[i], ranges[i].DirtyLog, DirtyClients.None);
            }

            listener.RegionDel(ranges[i]);
        }

        foreach (ref readonly MappedIoEventFd entry in _ioEventFds.AsSpan())
        {
            listener.IoEventFdDel(entry);
        }

        listener.Commit(this);
    }

    /// <summary>
    /// Has the accelerator's log of written pages merged into the bitmaps of all RAM blocks (or of <paramref name="region"/>'s only).
    /// </summary>
    public void SyncDirtyLog(MemoryRegion? region = null)
    {
        foreach (FlatRange range in _view.Ranges)
        {
            if (range.DirtyLog != DirtyClients.None && (region is null || range.Region == region))
            {
                foreach (IMemoryListener listener in _listeners)
                {
                    listener.LogSync(range);
                }
            }
        }
    }

    /// <summary>
    /// Tells listeners that bits of <paramref name="block"/> from <paramref name="offset"/> on were cleared, so that the next write to
    /// those
    /// pages is logged again.
    /// </summary>
    public void ClearDirtyLog(RamBlock block, ulong offset, ulong length)
    {
        ulong end = offset + length;
        foreach (FlatRange range in _view.Ranges)
        {
            if (range.Block != block || range.DirtyLog == DirtyClients.None)
            {
                continue;
            }

            ulong from = Math.Max(offset, range.BlockOffset);
            ulong to = Math.Min(end, range.BlockOffset + (range.Last - range.Start) + 1);
            if (from < to)
            {
                foreach (IMemoryListener listener in _listeners)
                {
                    listener.LogClear(range, from - range.BlockOffset, to - from);
                }
            }
        }
    }

    /// <summary>Takes the space apart: listeners see everything go.</summary>
    public void Dispose()
    {
        if (_disposed)
        {
            return;
        }

        _disposed = true;
        while (_listeners.Count > 0)
        {
            RemoveListener(_listeners[^1]);
        }

        Root.RemoveSpace(this);
        Volatile.Write(ref _view, FlatView.Empty);
        _ioEventFds = [];
    }

    /// <inheritdoc/>
    public override string ToString() => Name;

    internal void UpdateTopology()
    {
        if (_disposed)
        {
            return;
        }

        FlatView old = _view;
        FlatView now = CurrentView();
        MappedIoEventFd[] oldFds = _ioEventFds;
        MappedIoEventFd[] nowFds = CollectIoEventFds(now);
        if (_listeners.Count > 0)
        {
            for (int i = 0; i < _listeners.Count; i++)
            {
                _listeners[i].Begin(this);
            }

            if (!ReferenceEquals(old, now))
            {
                TellRemoved(old.Ranges, now.Ranges);
                TellAdded(old.Ranges, now.Ranges);
            }
        }

        Volatile.Write(ref _view, now);
        _ioEventFds = nowFds;
        if (_listeners.Count > 0)
        {
            TellIoEventFds(oldFds, nowFds);
            for (int i = 0; i < _listeners.Count; i++)
            {
                _listeners[i].Commit(this);
            }
        }
    }

    private static int Compare(in MappedIoEventFd a, in MappedIoEventFd b)
    {
        int order = a.Address.CompareTo(b.Address);
        if (order == 0)
        {
            order = a.Size.CompareTo(b.Size);
        }

        return order != 0 ? order : Nullable.Compare(a.DataMatch, b.DataMatch);
    }

    private static MappedIoEventFd[] CollectIoEventFds(FlatView view)
    {
        List<MappedIoEventFd>? found = null;
        foreach (FlatRange range in view.Ranges)
        {
            if (range.Region.IoEventFds is not { } entries)
            {
                continue;
            }

            foreach (IoEventFdEntry entry in entries)
            {
                ulong end = entry.Offset + (ulong)Math.Max(entry.Size, 1) - 1;
                if (entry.Offset >= range.OffsetInRegion && end - range.OffsetInRegion <= range.Last - range.Start)
                {
                    (found ??= []).Add(new MappedIoEventFd(
                        range.Start + (entry.Offset - range.OffsetInRegion), entry.Size, entry.DataMatch, entry.Fd));
                }
            }
        }

        if (found is null)
        {
            return [];
        }

        found.Sort(static (a, b) => Compare(a, b));
        return found.ToArray();
    }

    private FlatView CurrentView()
    {
        MemoryRegion? root = FlatView.EffectiveRoot(Root);
        if (root?.RenderedView is { } shared && shared.GlobalDirtyLog == _globalDirtyLog)
        {
            return shared;
        }

        FlatView view = FlatView.Render(root, _globalDirtyLog);
        if (root is not null)
        {
            root.RenderedView = view;
        }

        return view;
    }

    private static FlatRange? FindSame(ReadOnlySpan<FlatRange> ranges, ref int cursor, FlatRange wanted)
    {
        while (cursor < ranges.Length && ranges[cursor].Start < wanted.Start)
        {
            cursor++;
        }

        return cursor < ranges.Length && ranges[cursor].SameMapping(wanted) ? ranges[cursor] : null;
    }

    private void TellRemoved(ReadOnlySpan<FlatRange> old, ReadOnlySpan<FlatRange> now)
    {
        int cursor = now.Length - 1;
        for (int i = old.Length - 1; i >= 0; i--)
        {
            FlatRange range = old[i];
            while (cursor >= 0 && now[cursor].Start > range.Start)
            {
                cursor--;
            }

            if (cursor >= 0 && now[cursor].SameMapping(range))
            {
                continue;
            }

            for (int l = _listeners.Count - 1; l >= 0; l--)
            {
                _listeners[l].RegionDel(range);
            }
        }
    }

    private void TellAdded(ReadOnlySpan<FlatRange> old, ReadOnlySpan<FlatRange> now)
    {
        int cursor = 0;
        foreach (FlatRange range in now)
        {
            FlatRange? before = FindSame(old, ref cursor, range);
            DirtyClients clientsBefore = before?.DirtyLog ?? DirtyClients.None;
            DirtyClients clientsNow = range.DirtyLog;
            for (int l = 0; l < _listeners.Count; l++)
            {
                if (before is null)
                {
                    _listeners[l].RegionAdd(range);
                }
                else
                {
                    _listeners[l].RegionNop(range);
                }

                if ((clientsNow & ~clientsBefore) != 0)
                {
                    _listeners[l].LogStart(range, clientsBefore, clientsNow);
                }

                if ((clientsBefore & ~clientsNow) != 0)
                {
                    _listeners[l].LogStop(range, clientsBefore, clientsNow);
                }
            }
        }
    }

    private void TellIoEventFds(MappedIoEventFd[] old, MappedIoEventFd[] now)
    {
        if (ReferenceEquals(old, now))
        {
            return;
        }

        foreach (ref readonly MappedIoEventFd entry in old.AsSpan())
        {
            if (Array.IndexOf(now, entry) < 0)
            {
                for (int l = _listeners.Count - 1; l >= 0; l--)
                {
                    _listeners[l].IoEventFdDel(entry);
                }
            }
        }

        foreach (ref readonly MappedIoEventFd entry in now.AsSpan())
        {
            if (Array.IndexOf(old, entry) < 0)
            {
                for (int l = 0; l < _listeners.Count; l++)
                {
                    _listeners[l].IoEventFdAdd(entry);
                }
            }
        }
    }
}
