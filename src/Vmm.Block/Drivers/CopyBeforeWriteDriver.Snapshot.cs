using Vmm.Block.Bitmaps;
using Vmm.Block.Graph;
using Vmm.Block.Jobs;
using Vmm.Block.Options;
using Vmm.EventLoop;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;

namespace Vmm.Block.Drivers;

/// <content>The contents of the moment at which the filter began: what was saved is in the target, everything else still in the source.</content>
public sealed partial class CopyBeforeWriteDriver
{
    private readonly RangeLock _sourceReads = new();
    private readonly Stack<Attempt> _freeAttempts = new();
    private long _timeoutNs;
    private IBitmapView? _left;

    // What may be read, and what is in the target. Home: the node's loop.
    private BitSet? _readable;
    private BitSet? _saved;

    /// <inheritdoc/>
    public override async IoTask<int> SnapshotReadAsync(long offset, IoVectors data)
    {
        int result = 0;
        for (long done = 0; done < data.Size && result >= 0;)
        {
            long at = offset + done;
            if (!TryFind(at, data.Size - done, out long part, out bool isSaved))
            {
                return -(int)Errno.EACCES;
            }

            IoVectors slice = IoVectors.RentSlice(data, done, part);
            if (isSaved)
            {
                result = await Target.ReadAsync(at, slice);
            }
            else
            {
                // Nobody writes there before this has been read.
                _sourceReads.Hold(at, at + part);
                result = await Child.ReadAsync(at, slice);
                _sourceReads.Exit(at, at + part);
            }

            slice.Return();
            done += part;
        }

        return result;
    }

    /// <inheritdoc/>
    public override async IoTask<BlockStatus> SnapshotStatusAsync(long offset, long bytes, bool wantZero)
    {
        if (!TryFind(offset, bytes, out long part, out bool isSaved))
        {
            return BlockStatus.Error(Errno.EACCES);
        }

        BlockStatus status;
        if (isSaved)
        {
            status = await Target.StatusAboveAsync(null, offset, part, wantZero);
        }
        else
        {
            _sourceReads.Hold(offset, offset + part);
            status = await Child.StatusAboveAsync(null, offset, part, wantZero);
            _sourceReads.Exit(offset, offset + part);
        }

        // Nothing is below: whatever there is is the snapshot's own.
        BlockStatusFlags kept = status.Flags & (BlockStatusFlags.Data | BlockStatusFlags.Zero);
        return status.Result < 0 ? status : new BlockStatus(kept | BlockStatusFlags.Allocated, status.Bytes);
    }

    /// <inheritdoc/>
    public override IoTask<int> SnapshotDiscardAsync(long offset, long bytes)
    {
        if (_readable is not { } readable || _snapshotError < 0)
        {
            return new(-(int)Errno.EACCES);
        }

        // Whole clusters: what is partly wanted is wanted.
        int cluster = _copy!.Cluster;
        long start = (offset + cluster - 1) / cluster * cluster;
        long end = offset + bytes >= readable.Length ? readable.Length : (offset + bytes) / cluster * cluster;
        if (end > start)
        {
            readable.Reset(start, end - start);
            _copy.Remove(start, end - start);
        }

        return Target.DiscardAsync(offset, bytes);
    }

    private BlockNode Target => Node.FindChild("target")!.Node;

    /// <summary>From now on the contents can be read by those who know of the snapshot.</summary>
    internal void BeginSnapshot()
    {
        int cluster = _copy!.Cluster;
        _timeoutNs = (_options?.CbwTimeout ?? 0) * 1_000_000_000L;
        BitSet saved = _saved = new BitSet(Child.Length, cluster);
        BitSet readable = _readable = new BitSet(Child.Length, cluster);
        if (_options?.Bitmap is null)
        {
            readable.Set(0, Child.Length);
        }
        else
        {
            _copy.MergeLeftInto(readable);
        }

        _left = new JobBitmap(() => _copy.Left, cluster);
        Child.AddView(_left);
        Node.AddView(new JobBitmap(() => saved.Count * cluster, cluster));
        Node.AddView(new JobBitmap(() => readable.Count * cluster, cluster));
    }

    private bool TryFind(long offset, long bytes, out long part, out bool isSaved)
    {
        part = 0;
        isSaved = false;
        if (_readable is not { } readable || _snapshotError < 0 || bytes <= 0 || offset < 0 || offset >= readable.Length)
        {
            return false;
        }

        long end = Math.Min(offset + bytes, readable.Length);
        if (readable.NextClean(offset, end) >= 0)
        {
            return false;
        }

        isSaved = _saved![offset];
        long stop = isSaved ? _saved.NextClean(offset, end) : _saved.NextDirty(offset, end);

        // The last block of the node may reach behind its end.
        part = stop < 0 ? (end == readable.Length ? bytes : end - offset) : stop - offset;
        return true;
    }

    // The clusters of a range are in the target: who still reads them from the source is waited for.
    private async IoTask ShowSavedAsync(long offset, long bytes)
    {
        if (_saved is not { } saved)
        {
            return;
        }

        int cluster = _copy!.Cluster;
        long start = offset / cluster * cluster;
        long end = (offset + bytes + cluster - 1) / cluster * cluster;
        if (_snapshotError == 0)
        {
            saved.Set(start, end - start);
        }

        await _sourceReads.WaitAsync(start, end);
    }

    private async IoTask<int> CopyInTimeAsync(long offset, long bytes)
    {
        if (_timeoutNs == 0)
        {
            return (await _copy!.CopyAsync(offset, bytes)).Result;
        }

        Attempt attempt = _freeAttempts.TryPop(out Attempt? free) && free.Loop == Node.Loop ? free : new Attempt(Node.Loop);
        RunAsync(attempt, offset, bytes).Forget();
        return await attempt.WaitAsync(_timeoutNs);
    }

    // Goes on when nobody waits for it any more; the node is busy as long as it does.
    private async IoTask RunAsync(Attempt attempt, long offset, long bytes)
    {
        Node.BeginRequest();
        (int result, _) = await _copy!.CopyAsync(offset, bytes);
        if (attempt.Finish(result))
        {
            _freeAttempts.Push(attempt);
        }
        else
        {
            attempt.Dispose();
        }

        Node.EndRequest();
    }

    /// <summary>A copy that is waited for, but not for ever. Home: the loop.</summary>
    private sealed class Attempt : IDisposable
    {
        private readonly LoopTimer _timer;
        private readonly IoCompletion<int> _completion = new();
        private bool _isWaited;
        private bool _isLate;
        private bool _isDone;
        private int _result;

        public Attempt(EventLoop.EventLoop loop)
        {
            Loop = loop;
            _timer = loop.CreateTimer(ClockType.Realtime, OnTimeout);
        }

        public EventLoop.EventLoop Loop { get; }

        public async IoTask<int> WaitAsync(long timeoutNs)
        {
            if (!_isDone)
            {
                _isWaited = true;
                _timer.ArmAfter(timeoutNs);
                return await _completion.Task;
            }

            _isDone = false;
            return _result;
        }

        // False when the one who waited has left.
        public bool Finish(int result)
        {
            if (_isLate)
            {
                return false;
            }

            if (_isWaited)
            {
                _isWaited = false;
                _timer.Cancel();
                _completion.SetResult(result);
            }
            else
            {
                _isDone = true;
                _result = result;
            }

            return true;
        }

        public void Dispose() => _timer.Dispose();

        private void OnTimeout()
        {
            if (_isWaited)
            {
                _isWaited = false;
                _isLate = true;
                _completion.SetResult(-(int)Errno.ETIMEDOUT);
            }
        }
    }
}
