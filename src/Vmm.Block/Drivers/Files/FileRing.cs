using Vmm.EventLoop;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;

namespace Vmm.Block.Drivers.Files;

/// <summary>
/// Reads, writes and flushes of a file through io_uring. What is asked for in one turn of the loop is one system call. Home: the loop of the
/// node, which may change while nothing is under way. No allocation in steady state.
/// </summary>
internal sealed class FileRing : IDisposable
{
    // As many as QEMU's ring has. No more are under way, so that the ring of completions, which is longer, never overflows.
    private const int Entries = 128;

    private readonly IoUring _ring;
    private readonly Action _submit;
    private readonly List<Slot> _slots = [];
    private readonly Stack<Slot> _free = new();
    private readonly Queue<Slot> _waiting = new();
    private EventLoop.EventLoop? _loop;
    private FdWatch? _watch;
    private int _inFlight;
    private bool _isPosted;

    /// <summary>With as many requests that wait to be submitted, they are: the turn of the loop is not waited for.</summary>
    internal long MaxBatch { get; set; } = long.MaxValue;

    private FileRing(IoUring ring)
    {
        _ring = ring;
        _submit = Submit;
    }

    private enum Kind
    {
        Read,
        Write,
        Flush,
    }

    /// <summary>A ring.</summary>
    /// <exception cref="QapiException">The kernel has none for this process.</exception>
    public static FileRing Create()
    {
        Errno errno = TryCreate(out FileRing? ring);
        return ring ?? throw new QapiException($"Unable to use io_uring: failed to init linux io_uring ring: {errno.Message()}");
    }

    /// <summary>A ring, or why there is none.</summary>
    public static Errno TryCreate(out FileRing? ring)
    {
        Errno errno = IoUring.Create(Entries, out IoUring? kernel);
        ring = kernel is null ? null : new FileRing(kernel);
        return errno;
    }

    /// <summary>Reads; behind the end of the file there are zeroes. 0 or a negative errno.</summary>
    internal async IoTask<int> ReadAsync(int fd, long offset, IoVectors data)
    {
        for (long done = 0; done < data.Size;)
        {
            int n = await RunAsync(Kind.Read, fd, offset, data, done);
            if (n < 0)
            {
                return n;
            }

            if (n == 0)
            {
                data.Fill(done, data.Size - done, 0);
                return 0;
            }

            done += n;
        }

        return 0;
    }

    /// <summary>Writes: 0 or a negative errno.</summary>
    internal async IoTask<int> WriteAsync(int fd, long offset, IoVectors data)
    {
        for (long done = 0; done < data.Size;)
        {
            int n = await RunAsync(Kind.Write, fd, offset, data, done);
            if (n <= 0)
            {
                return n < 0 ? n : -(int)Errno.ENOSPC;
            }

            done += n;
        }

        return 0;
    }

    /// <summary>fdatasync(2): 0 or a negative errno.</summary>
    internal IoTask<int> FlushAsync(int fd) => RunAsync(Kind.Flush, fd, 0, null, 0);

    /// <summary>Nothing is under way.</summary>
    public void Dispose()
    {
        _watch?.Dispose();
        _ring.Dispose();
        _slots.ForEach(static s => s.Vectors.Dispose());
    }

    private async IoTask<int> RunAsync(Kind kind, int fd, long offset, IoVectors? data, long done)
    {
        Follow();
        while (true)
        {
            Slot slot = Rent();
            (slot.Kind, slot.Fd, slot.Offset) = (kind, fd, offset + done);
            slot.SetVectors(data, done);
            IoTask<int> task = slot.Done.Task;
            _waiting.Enqueue(slot);
            if (_waiting.Count >= MaxBatch)
            {
                Submit();
            }
            else
            {
                PostSubmit();
            }

            int result = await task;
            _free.Push(slot);
            if (result is not (-(int)Errno.EINTR or -(int)Errno.EAGAIN))
            {
                return result;
            }
        }
    }

    // The watch goes where the node went.
    private void Follow()
    {
        EventLoop.EventLoop loop = EventLoop.EventLoop.Current!;
        if (loop != _loop)
        {
            _watch?.Dispose();
            _loop = loop;
            _watch = loop.Watch(_ring.Fd, FdEvents.Readable, OnReady);
        }
    }

    private Slot Rent()
    {
        if (!_free.TryPop(out Slot? slot))
        {
            slot = new Slot(_slots.Count);
            _slots.Add(slot);
        }

        return slot;
    }

    private bool TryPrepare(Slot slot) => slot.Kind switch
    {
        Kind.Read => _ring.TryRead(slot.Fd, slot.Vectors.Address, slot.Count, slot.Offset, (ulong)slot.Index),
        Kind.Write => _ring.TryWrite(slot.Fd, slot.Vectors.Address, slot.Count, slot.Offset, (ulong)slot.Index),
        _ => _ring.TryFDataSync(slot.Fd, (ulong)slot.Index),
    };

    private void PostSubmit()
    {
        if (!_isPosted)
        {
            _isPosted = true;
            _loop!.Post(_submit);
        }
    }

    private void Submit()
    {
        _isPosted = false;
        if (_ring.IsClosed)
        {
            return;
        }

        while (_inFlight < Entries && _waiting.TryPeek(out Slot? slot) && TryPrepare(slot))
        {
            _waiting.Dequeue();
            _inFlight++;
        }

        if (_ring.Prepared > 0 && _ring.Submit() != Errno.OK)
        {
            // The kernel is short of something for the moment.
            PostSubmit();
        }
    }

    // Who is woken may close the file, and the ring with it, when nothing else is under way.
    private void OnReady(FdEvents events)
    {
        while (_ring.TryTake(out ulong cookie, out int result))
        {
            _inFlight--;
            _slots[(int)cookie].Done.SetResult(result);
        }

        if (_waiting.Count > 0)
        {
            Submit();
        }
    }

    /// <summary>A request: its vectors are copied to memory that does not move.</summary>
    private sealed class Slot(int index)
    {
        // IOV_MAX.
        private const int MaxVectors = 1024;

        internal readonly int Index = index;
        internal readonly IoCompletion<int> Done = new();
        internal NativeBuffer Vectors = new(IoVecBytes * 8);
        internal Kind Kind;
        internal int Fd;
        internal long Offset;
        internal int Count;

        private const int IoVecBytes = 16;

        internal void SetVectors(IoVectors? data, long done)
        {
            Count = 0;
            if (data is null)
            {
                return;
            }

            IoVectors rest = IoVectors.RentSlice(data, done, data.Size - done);
            Count = Math.Min(rest.Count, MaxVectors);
            if (Vectors.Length < Count * IoVecBytes)
            {
                Vectors.Dispose();
                Vectors = new NativeBuffer(Count * IoVecBytes);
            }

            System.Runtime.InteropServices.MemoryMarshal.AsBytes(rest.Items[..Count]).CopyTo(Vectors.Span);
            rest.Return();
        }
    }
}
