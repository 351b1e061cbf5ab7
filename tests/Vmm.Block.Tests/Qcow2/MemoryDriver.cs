using Vmm.Block.Drivers;
using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;

namespace Vmm.Block.Tests.Qcow2;

/// <summary>
/// A file in memory that remembers its writes and flushes. Requests complete later, in an order that a seed decides; what they do, they do
/// when they complete.
/// </summary>
public sealed class MemoryDriver(Random random) : BlockDriver
{
    private byte[] _bytes = [];

    /// <summary>Writes in the order of their effect; one without data is a flush, one with a negative offset sets the length.</summary>
    public List<(long Offset, byte[]? Data)> Log { get; } = [];

    public byte[] Bytes => _bytes;

    /// <summary>Chance of a request to fail with EIO; a write that fails may have been done.</summary>
    public double Faults { get; set; }

    /// <summary>Requests that failed.</summary>
    public int Failed { get; private set; }

    public override string FormatName => "memory";

    public override bool HasZeroInit => true;

    /// <summary>The file as it would be after so many entries of the log, with those of the last ones that a choice lets through.</summary>
    public static byte[] Replay(byte[] start, IReadOnlyList<(long Offset, byte[]? Data)> log, int count, Func<int, bool> isKept)
    {
        byte[] bytes = (byte[])start.Clone();
        for (int i = 0; i < count; i++)
        {
            var (offset, data) = log[i];
            if (offset < 0)
            {
                Array.Resize(ref bytes, (int)-offset);
                continue;
            }

            if (data is null || !isKept(i))
            {
                continue;
            }

            if (offset + data.Length > bytes.Length)
            {
                Array.Resize(ref bytes, (int)(offset + data.Length));
            }

            data.CopyTo(bytes, offset);
        }

        return bytes;
    }

    public void Load(byte[] bytes) => _bytes = bytes;

    public override IoTask<long> GetLengthAsync() => new(_bytes.Length);

    public override async IoTask<int> ReadAsync(long offset, IoVectors data, BlockRequestFlags flags)
    {
        await DelayAsync();
        if (IsFault())
        {
            return BlockResult.Io;
        }

        long inside = Math.Clamp(_bytes.Length - offset, 0, data.Size);
        data.CopyFrom(0, _bytes.AsSpan((int)Math.Min(offset, _bytes.Length), (int)inside));
        data.Fill(inside, data.Size - inside, 0);
        return 0;
    }

    public override async IoTask<int> WriteAsync(long offset, IoVectors data, BlockRequestFlags flags)
    {
        await DelayAsync();
        bool isFault = IsFault();
        if (isFault && random.Next(2) == 0)
        {
            return BlockResult.Io;
        }

        byte[] copy = new byte[data.Size];
        data.CopyTo(0, copy);
        Log.Add((offset, copy));
        if (offset + copy.Length > _bytes.Length)
        {
            Array.Resize(ref _bytes, (int)(offset + copy.Length));
        }

        copy.CopyTo(_bytes, offset);
        return isFault ? BlockResult.Io : 0;
    }

    public override async IoTask<int> FlushToDiskAsync()
    {
        // What a flush promises is what had been written when it began.
        Log.Add((0, null));
        await DelayAsync();
        return IsFault() ? BlockResult.Io : 0;
    }

    public override async IoTask TruncateAsync(long length, bool exact, PreallocMode prealloc, bool zeroed)
    {
        await DelayAsync();
        if (IsFault())
        {
            throw new QapiException("Failed to resize the file: Input/output error");
        }

        Log.Add((-length, []));
        Array.Resize(ref _bytes, (int)length);
    }

    private bool IsFault()
    {
        bool isFault = Faults > 0 && random.NextDouble() < Faults;
        Failed += isFault ? 1 : 0;
        return isFault;
    }

    private async IoTask DelayAsync()
    {
        for (int i = random.Next(4); i > 0; i--)
        {
            IoCompletion<bool> done = new();
            Node.Loop.Post(() => done.SetResult(true));
            await done.Task;
        }
    }
}
