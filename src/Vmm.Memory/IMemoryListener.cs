namespace Vmm.Memory;

/// <summary>
/// Follows the flat form of an address space: how RAM becomes memslots and writes become event descriptors. Calls come at the end of
/// a memory transaction, under the machine lock: <see cref="Begin"/>, removals in descending order of addresses, additions in ascending
/// order, <see cref="Commit"/>.
/// </summary>
public interface IMemoryListener
{
    /// <summary>Listeners are told of additions in ascending and of removals in descending order of priority.</summary>
    int Priority => 0;

    /// <summary>A set of changes begins.</summary>
    void Begin(AddressSpace space)
    {
    }

    /// <summary>A set of changes is complete.</summary>
    void Commit(AddressSpace space)
    {
    }

    /// <summary>A range appeared.</summary>
    void RegionAdd(FlatRange range)
    {
    }

    /// <summary>A range went away.</summary>
    void RegionDel(FlatRange range)
    {
    }

    /// <summary>A range stays as it was.</summary>
    void RegionNop(FlatRange range)
    {
    }

    /// <summary>Clients in <paramref name="now"/> and not in <paramref name="before"/> begin to log writes to the range.</summary>
    void LogStart(FlatRange range, DirtyClients before, DirtyClients now)
    {
    }

    /// <summary>Clients in <paramref name="before"/> and not in <paramref name="now"/> no longer log writes to the range.</summary>
    void LogStop(FlatRange range, DirtyClients before, DirtyClients now)
    {
    }

    /// <summary>Bring the dirty bitmaps of the range's <see cref="RamBlock"/> up to date.</summary>
    void LogSync(FlatRange range)
    {
    }

    /// <summary>
    /// Pages of the range from <paramref name="offset"/> (bytes from its start) on for <paramref name="length"/> bytes were cleared in
    /// the bitmap: log them anew.
    /// </summary>
    void LogClear(FlatRange range, ulong offset, ulong length)
    {
    }

    /// <summary>All RAM is to be logged from now on.</summary>
    void LogGlobalStart()
    {
    }

    /// <summary>All RAM is no longer logged.</summary>
    void LogGlobalStop()
    {
    }

    /// <summary>Guest writes to this address signal a descriptor from now on.</summary>
    void IoEventFdAdd(in MappedIoEventFd entry)
    {
    }

    /// <summary>Guest writes to this address no longer signal a descriptor.</summary>
    void IoEventFdDel(in MappedIoEventFd entry)
    {
    }
}

/// <summary>An event descriptor at an absolute address; <paramref name="Size"/> 0 stands for any size.</summary>
public readonly record struct MappedIoEventFd(ulong Address, int Size, ulong? DataMatch, Vmm.Interop.EventFd Fd);
