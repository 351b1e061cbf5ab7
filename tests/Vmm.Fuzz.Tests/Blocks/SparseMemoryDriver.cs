using Vmm.Block.Drivers;
using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;

namespace Vmm.Fuzz.Tests.Blocks;

/// <summary>
/// A file in memory for images under test. Pages that were never written, or with zeroes only, take none; they are kept between executions, so
/// that the file is not counted as memory of the code under test.
/// </summary>
internal sealed class SparseMemoryDriver : BlockDriver
{
    private const int PageBits = 12;
    private const int PageBytes = 1 << PageBits;
    private const int MaxPages = 4096;

    // A check takes as long as the file has clusters.
    private const long MaxBytes = 128L << 20;

    private readonly Stack<byte[]> _free;
    private readonly Dictionary<long, byte[]> _pages;
    private long _length;

    /// <summary>An empty file.</summary>
    public SparseMemoryDriver()
    {
        _free = new Stack<byte[]>(MaxPages);
        _pages = new Dictionary<long, byte[]>(MaxPages);
        for (int i = 0; i < MaxPages; i++)
        {
            _free.Push(new byte[PageBytes]);
        }
    }

    private SparseMemoryDriver(Stack<byte[]> free, Dictionary<long, byte[]> pages) => (_free, _pages) = (free, pages);

    /// <summary>Called with each request.</summary>
    public Action? OnRequest { get; init; }

    public override string FormatName => "memory";

    public override bool HasZeroInit => true;

    /// <summary>A file with these contents in the memory of this one, which is not used any more.</summary>
    public SparseMemoryDriver Restart(ReadOnlySpan<byte> bytes)
    {
        foreach (byte[] page in _pages.Values)
        {
            _free.Push(page);
        }

        _pages.Clear();
        SparseMemoryDriver next = new(_free, _pages) { OnRequest = OnRequest };
        next.Put(0, bytes);
        next._length = bytes.Length;
        return next;
    }

    /// <summary>What the file has.</summary>
    public void Get(long offset, Span<byte> bytes)
    {
        while (bytes.Length > 0)
        {
            int inPage = (int)(offset & (PageBytes - 1));
            int part = Math.Min(PageBytes - inPage, bytes.Length);
            if (_pages.TryGetValue(offset >> PageBits, out byte[]? page))
            {
                page.AsSpan(inPage, part).CopyTo(bytes);
            }
            else
            {
                bytes[..part].Clear();
            }

            offset += part;
            bytes = bytes[part..];
        }
    }

    public override IoTask<long> GetLengthAsync() => new(_length);

    public override IoTask<int> ReadAsync(long offset, IoVectors data, BlockRequestFlags flags)
    {
        OnRequest?.Invoke();
        Span<byte> part = stackalloc byte[PageBytes];
        for (long done = 0; done < data.Size;)
        {
            int bytes = (int)Math.Min(data.Size - done, PageBytes - ((offset + done) & (PageBytes - 1)));
            if (_pages.ContainsKey((offset + done) >> PageBits))
            {
                Get(offset + done, part[..bytes]);
                data.CopyFrom(done, part[..bytes]);
            }
            else
            {
                data.Fill(done, bytes, 0);
            }

            done += bytes;
        }

        return new(0);
    }

    public override IoTask<int> WriteAsync(long offset, IoVectors data, BlockRequestFlags flags)
    {
        OnRequest?.Invoke();
        if (offset < 0 || offset + data.Size < 0)
        {
            throw new FuzzFindingException($"a write at {offset}");
        }

        if (offset + data.Size > MaxBytes)
        {
            return new(-(int)Errno.EFBIG);
        }

        Span<byte> part = stackalloc byte[PageBytes];
        for (long done = 0; done < data.Size;)
        {
            int bytes = (int)Math.Min(data.Size - done, PageBytes - ((offset + done) & (PageBytes - 1)));
            data.CopyTo(done, part[..bytes]);
            if (!Put(offset + done, part[..bytes]))
            {
                return new(BlockResult.NoSpace);
            }

            done += bytes;
        }

        _length = Math.Max(_length, offset + data.Size);
        return new(0);
    }

    public override IoTask<int> DiscardAsync(long offset, long bytes)
    {
        OnRequest?.Invoke();
        return new(0);
    }

    public override IoTask TruncateAsync(long length, bool exact, PreallocMode prealloc, bool zeroed)
    {
        if (length > MaxBytes)
        {
            throw new Qapi.QapiException("Failed to resize: File too large");
        }

        _length = length;
        return IoTask.CompletedTask;
    }

    // False when there is no memory for more.
    private bool Put(long offset, ReadOnlySpan<byte> bytes)
    {
        while (bytes.Length > 0)
        {
            int inPage = (int)(offset & (PageBytes - 1));
            int part = Math.Min(PageBytes - inPage, bytes.Length);
            if (!_pages.TryGetValue(offset >> PageBits, out byte[]? page) && bytes[..part].ContainsAnyExcept((byte)0))
            {
                if (!_free.TryPop(out page))
                {
                    return false;
                }

                page.AsSpan().Clear();
                _pages.Add(offset >> PageBits, page);
            }

            if (page is not null)
            {
                bytes[..part].CopyTo(page.AsSpan(inPage));
            }

            offset += part;
            bytes = bytes[part..];
        }

        return true;
    }
}
