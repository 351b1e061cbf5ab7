using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;

namespace Vmm.Block.Drivers.Qcow2;

/// <summary>
/// Tables of an image in memory, by their offset in its file: slices of L2 tables, or refcount blocks. A hit neither waits nor allocates.
/// Loading and writing are done under the image's lock, by one method at a time; a loaded entry stays at least until two others have been
/// loaded. Memory of an entry is taken when it is first used and given back by <see cref="Clean"/>.
/// </summary>
internal sealed class Qcow2Cache : IDisposable
{
    private readonly Qcow2File _file;
    private readonly int _capacity;
    private readonly Func<IoTask<int>> _writeAll;
    private readonly Dictionary<long, Slot> _slots = [];
    private readonly Stack<Slot> _free = new();
    private readonly List<Slot> _dirty = [];
    private Slot? _newest;
    private Slot? _oldest;
    private long _age;

    /// <summary>An empty cache.</summary>
    /// <param name="file">The image's file.</param>
    /// <param name="capacity">Most entries.</param>
    /// <param name="entryBytes">Bytes of an entry.</param>
    /// <param name="writeAll">Makes all entries clean, in the order in which the image's metadata must be written.</param>
    internal Qcow2Cache(Qcow2File file, int capacity, int entryBytes, Func<IoTask<int>> writeAll)
    {
        _file = file;
        _capacity = capacity;
        EntryBytes = entryBytes;
        _writeAll = writeAll;
    }

    internal int EntryBytes { get; }

    /// <summary>What tests know the load of an entry as.</summary>
    internal BlkdebugEvent OnLoad { get; init; } = BlkdebugEvent.L2Load;

    /// <summary>What tests know the write of an entry as.</summary>
    internal BlkdebugEvent OnWrite { get; init; } = BlkdebugEvent.L2Update;

    /// <summary>Called with the place of an entry before it is written; a negative errno keeps it from being written.</summary>
    internal required Func<long, long, int> CheckPlace { get; init; }

    /// <summary>An entry is newer than the file.</summary>
    internal bool IsDirty => _dirty.Count > 0;

    /// <summary>The entry at an offset, a multiple of the entry size, if it is in memory.</summary>
    internal Slot? Find(long offset)
    {
        if (_newest is { } newest && newest.Offset == offset)
        {
            newest.Used = _age;
            return newest;
        }

        if (!_slots.TryGetValue(offset, out Slot? slot))
        {
            return null;
        }

        Unlink(slot);
        Link(slot);
        return slot;
    }

    /// <summary>Has the entry in memory. Under the lock.</summary>
    internal IoTask<int> LoadAsync(long offset) => Find(offset) is not null ? new(0) : LoadSlowAsync(offset);

    /// <summary>An entry that begins as zeroes, dirty, whatever the file has. Under the lock.</summary>
    internal async IoTask<int> CreateAsync(long offset)
    {
        int result = 0;
        if (Find(offset) is not { } slot)
        {
            result = await MakeRoomAsync();
            if (result < 0)
            {
                return result;
            }

            slot = Take();
            Enter(slot, offset);
        }

        slot.Span.Clear();
        MarkDirty(slot);
        return result;
    }

    /// <summary>The entry has been changed.</summary>
    internal void MarkDirty(Slot slot)
    {
        if (!slot.IsDirty)
        {
            slot.IsDirty = true;
            _dirty.Add(slot);
        }
    }

    /// <summary>Writes what is dirty. Under the lock.</summary>
    internal async IoTask<int> WriteAsync()
    {
        // Requests that look up entries meanwhile change the order of use, but not this list.
        while (_dirty.Count > 0)
        {
            Slot slot = _dirty[^1];
            await _file.DebugAsync(OnWrite);
            int result = CheckPlace(slot.Offset, EntryBytes);
            if (result >= 0)
            {
                result = await _file.WriteAsync(slot.Offset, slot.Buffer, 0, EntryBytes);
            }

            if (result < 0)
            {
                return result;
            }

            slot.IsDirty = false;
            _dirty.RemoveAt(_dirty.Count - 1);
        }

        return 0;
    }

    /// <summary>Forgets entries within a range of the file, whose contents nobody needs any more.</summary>
    internal void Forget(long offset, long bytes)
    {
        for (long end = offset + bytes; offset < end; offset += EntryBytes)
        {
            if (_slots.TryGetValue(offset, out Slot? slot))
            {
                Drop(slot);
            }
        }
    }

    /// <summary>Forgets everything, also what is dirty.</summary>
    internal void Clear()
    {
        while (_newest is { } slot)
        {
            Drop(slot);
        }
    }

    /// <summary>Gives back the memory of clean entries that have not been used since the last call. Nobody holds the lock.</summary>
    internal void Clean()
    {
        while (_oldest is { } slot && slot.Used < _age && !slot.IsDirty)
        {
            Drop(slot);
        }

        _age++;
        while (_free.TryPop(out Slot? free))
        {
            free.Buffer.Dispose();
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Clear();
        Clean();
    }

    private async IoTask<int> LoadSlowAsync(long offset)
    {
        int result = await MakeRoomAsync();
        if (result < 0)
        {
            return result;
        }

        Slot slot = Take();
        await _file.DebugAsync(OnLoad);
        result = await _file.ReadAsync(offset, slot.Buffer, 0, EntryBytes);
        if (result < 0)
        {
            _free.Push(slot);
            return result;
        }

        Enter(slot, offset);
        return 0;
    }

    private async IoTask<int> MakeRoomAsync()
    {
        if (_slots.Count < _capacity)
        {
            return 0;
        }

        if (_oldest!.IsDirty)
        {
            // All at once: the barriers that the order needs are paid for once.
            int result = await _writeAll();
            if (result < 0)
            {
                return result;
            }
        }

        if (_slots.Count >= _capacity)
        {
            Drop(_oldest!);
        }

        return 0;
    }

    private Slot Take() => _free.TryPop(out Slot? free) ? free : new Slot(new NativeBuffer(EntryBytes));

    private void Enter(Slot slot, long offset)
    {
        slot.Offset = offset;
        _slots.Add(offset, slot);
        Link(slot);
    }

    private void Drop(Slot slot)
    {
        if (slot.IsDirty)
        {
            slot.IsDirty = false;
            _dirty.Remove(slot);
        }

        _slots.Remove(slot.Offset);
        Unlink(slot);
        _free.Push(slot);
    }

    private void Link(Slot slot)
    {
        slot.Used = _age;
        slot.Newer = null;
        slot.Older = _newest;
        if (_newest is not null)
        {
            _newest.Newer = slot;
        }

        _newest = slot;
        _oldest ??= slot;
    }

    private void Unlink(Slot slot)
    {
        if (slot.Newer is not null)
        {
            slot.Newer.Older = slot.Older;
        }
        else
        {
            _newest = slot.Older;
        }

        if (slot.Older is not null)
        {
            slot.Older.Newer = slot.Newer;
        }
        else
        {
            _oldest = slot.Newer;
        }
    }

    /// <summary>An entry.</summary>
    internal sealed class Slot(NativeBuffer buffer)
    {
        internal NativeBuffer Buffer => buffer;

        internal Span<byte> Span => buffer.Span;

        internal long Offset { get; set; } = -1;

        internal bool IsDirty { get; set; }

        internal long Used { get; set; }

        internal Slot? Newer { get; set; }

        internal Slot? Older { get; set; }
    }
}
