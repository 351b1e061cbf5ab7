using System.Runtime.InteropServices;
using Vmm.Interop;
using Vmm.Memory;

namespace Vmm.Block.Exports.VhostUser;

/// <summary>
/// The memory of a front end, mapped from its files: what its rings and buffers are looked up in. Regions come and go only while no request is
/// under way. A file is sealed against becoming shorter where it can be; one that becomes shorter all the same tears the memory.
/// </summary>
internal sealed class VhostUserMemory : IDmaMemory, IDisposable
{
    private const int PageBits = 12;

    private readonly List<(VhostUserRegion Region, ForeignFileMemory Memory)> _regions = [];
    private ForeignFileMemory? _log;
    private int _last;

    /// <inheritdoc/>
    public object? Current => null;

    /// <summary>Regions now.</summary>
    internal int Count => _regions.Count;

    /// <summary>A file has become shorter than what was mapped of it, and somebody has noticed: the memory is no longer the front end's.</summary>
    internal bool IsTorn
    {
        get
        {
            foreach ((_, ForeignFileMemory memory) in _regions)
            {
                if (memory.IsTorn)
                {
                    return true;
                }
            }

            return _log is { IsTorn: true };
        }
    }

    /// <summary>Written pages are logged.</summary>
    internal bool IsLogging { get; set; }

    /// <inheritdoc/>
    public bool TryMapHost(ulong address, ref ulong length, bool forWrite, out nint host)
    {
        int count = _regions.Count;
        for (int i = 0; i < count; i++)
        {
            // The region that was hit last is looked at first.
            int at = i == 0 ? _last : i <= _last ? i - 1 : i;
            (VhostUserRegion region, ForeignFileMemory memory) = _regions[at];
            ulong offset = address - region.Guest;
            if (offset < region.Size)
            {
                length = Math.Min(length, region.Size - offset);
                host = memory.Address + (nint)(region.Offset + offset);
                _last = at;
                return true;
            }
        }

        host = 0;
        return false;
    }

    /// <summary>The guest's address for one of the front end's own; false when it is in no region.</summary>
    internal bool TryTranslate(ulong user, out ulong guest)
    {
        foreach ((VhostUserRegion region, _) in _regions)
        {
            if (user - region.User < region.Size)
            {
                guest = region.Guest + (user - region.User);
                return true;
            }
        }

        guest = 0;
        return false;
    }

    /// <inheritdoc/>
    public void MarkDirty(ulong address, ulong length)
    {
        if (!IsLogging || _log is null || length == 0)
        {
            return;
        }

        ulong last = (address + length - 1) >> PageBits;
        for (ulong page = address >> PageBits; page <= last; page++)
        {
            ulong word = page / 32 * 4;
            if (word > _log.Length - 4)
            {
                return;
            }

            Interlocked.Or(ref MemoryMarshal.Cast<byte, uint>(_log.AsSpan(word, 4))[0], 1u << (int)(page % 32));
        }
    }

    /// <summary>Adds a region of a file; false when the file cannot be mapped so.</summary>
    internal bool Add(in VhostUserRegion region, SafeFd file)
    {
        ulong end = region.Offset + region.Size;
        if (Map(file, end, 0) is not { } memory)
        {
            return false;
        }

        _regions.Add((region, memory));
        return true;
    }

    /// <summary>Takes a region away; false when there is no such one.</summary>
    internal bool Remove(VhostUserRegion region)
    {
        int at = _regions.FindIndex(r => r.Region.Guest == region.Guest && r.Region.User == region.User && r.Region.Size == region.Size);
        if (at < 0)
        {
            return false;
        }

        _regions[at].Memory.Dispose();
        _regions.RemoveAt(at);
        _last = 0;
        return true;
    }

    /// <summary>Takes all regions away.</summary>
    internal void Clear()
    {
        _regions.ForEach(static r => r.Memory.Dispose());
        _regions.Clear();
        _last = 0;
    }

    /// <summary>Uses another log; false when the file cannot be mapped so.</summary>
    internal bool SetLog(SafeFd file, ulong size, ulong offset)
    {
        if (size < 4 || offset > long.MaxValue - size || offset % (ulong)Libc.PageSize != 0 || size > long.MaxValue || Map(file, size, offset) is not { } log)
        {
            return false;
        }

        _log?.Dispose();
        _log = log;
        return true;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Clear();
        _log?.Dispose();
        _log = null;
    }

    private static ForeignFileMemory? Map(SafeFd file, ulong size, ulong offset)
    {
        // Fails for files that cannot be sealed, which are served all the same.
        Libc.Fcntl(file.Fd, Libc.F_ADD_SEALS, Libc.F_SEAL_SHRINK);
        return Libc.FStat(file.Fd, out FileStatus status) == Errno.OK && status.IsRegular && (ulong)Math.Max(status.st_size, 0) >= offset + size
            && ForeignFileMemory.Map(size, file.Fd, (long)offset, out ForeignFileMemory? memory) == Errno.OK
            ? memory
            : null;
    }
}
