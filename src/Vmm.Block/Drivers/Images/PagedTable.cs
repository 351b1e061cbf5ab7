using System.Buffers.Binary;
using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;

namespace Vmm.Block.Drivers.Images;

/// <summary>
/// A table of numbers in an image, of which pages are in memory: however long a header says that it is, it takes at most 4 MiB. Home: the
/// node's loop.
/// </summary>
/// <param name="file">The node that has it.</param>
/// <param name="offset">Where it begins.</param>
/// <param name="entryBytes">Bytes of a number, 4 or 8.</param>
/// <param name="isBigEndian">Order of its bytes.</param>
internal sealed class PagedTable(BlockNode file, long offset, int entryBytes, bool isBigEndian) : IDisposable
{
    private const int PageBytes = 64 << 10;
    private const int MaxPages = 64;

    private readonly Dictionary<long, Page> _pages = [];
    private readonly LoopMutex _loading = new();
    private long _clock;

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (Page page in _pages.Values)
        {
            page.Buffer.Dispose();
        }

        _pages.Clear();
    }

    /// <summary>An entry; what lies behind the end of the file is zero.</summary>
    internal async IoTask<(int Result, ulong Value)> GetAsync(long index)
    {
        if (TryGet(index, out ulong value))
        {
            return (0, value);
        }

        await _loading.EnterAsync();
        int result = 0;
        if (!TryGet(index, out value))
        {
            result = await LoadAsync(index * entryBytes / PageBytes);
            TryGet(index, out value);
        }

        _loading.Exit();
        return (result, value);
    }

    private bool TryGet(long index, out ulong value)
    {
        long position = index * entryBytes;
        if (!_pages.TryGetValue(position / PageBytes, out Page? page))
        {
            value = 0;
            return false;
        }

        page.Used = ++_clock;
        ReadOnlySpan<byte> entry = page.Buffer.Span[(int)(position % PageBytes)..];
        value = (entryBytes, isBigEndian) switch
        {
            (4, false) => BinaryPrimitives.ReadUInt32LittleEndian(entry),
            (4, true) => BinaryPrimitives.ReadUInt32BigEndian(entry),
            (_, false) => BinaryPrimitives.ReadUInt64LittleEndian(entry),
            _ => BinaryPrimitives.ReadUInt64BigEndian(entry),
        };
        return true;
    }

    private async IoTask<int> LoadAsync(long number)
    {
        Page page = _pages.Count < MaxPages ? new Page(new NativeBuffer(PageBytes)) : TakeOldest();
        IoVectors data = IoVectors.Rent(page.Buffer.Vector(0, PageBytes));
        int result = await file.ReadAsync(offset + (number * PageBytes), data);
        data.Return();
        if (result < 0)
        {
            page.Buffer.Dispose();
            return result;
        }

        page.Number = number;
        _pages.Add(number, page);
        return 0;
    }

    private Page TakeOldest()
    {
        Page oldest = _pages.First().Value;
        foreach (Page page in _pages.Values)
        {
            if (page.Used < oldest.Used)
            {
                oldest = page;
            }
        }

        _pages.Remove(oldest.Number);
        return oldest;
    }

    private sealed class Page(NativeBuffer buffer)
    {
        internal NativeBuffer Buffer => buffer;

        internal long Number { get; set; }

        internal long Used { get; set; }
    }
}
