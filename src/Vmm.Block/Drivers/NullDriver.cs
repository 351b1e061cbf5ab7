using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.EventLoop;
using Vmm.EventLoop.Tasks;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;

namespace Vmm.Block.Drivers;

/// <summary>A node without contents, for measurements: "null-co" and "null-aio" differ in name alone, as both complete on the loop.</summary>
public sealed class NullDriver : BlockDriver
{
    private const long DefaultBytes = 1L << 30;

    private readonly string _name;
    private readonly long _bytes;
    private readonly long _latencyNs;
    private readonly bool _isZeroing;
    private readonly BlockdevOptionsNull _options;
    private readonly Stack<Delay> _delays = new();

    /// <summary>As the options say.</summary>
    public NullDriver(string name, BlockdevOptionsNull options)
    {
        _name = name;
        _options = options;
        _bytes = options.Size ?? DefaultBytes;
        _latencyNs = (long)Math.Min(options.LatencyNs ?? 0, long.MaxValue);
        _isZeroing = options.ReadZeroes ?? false;
        if ((options.LatencyNs ?? 0) > long.MaxValue)
        {
            throw new QapiException("latency-ns is invalid");
        }
    }

    /// <inheritdoc/>
    public override string FormatName => _name;

    /// <inheritdoc/>
    public override BlockRequestFlags SupportedWriteFlags => BlockRequestFlags.Fua | BlockRequestFlags.WriteUnchanged;

    /// <inheritdoc/>
    public override string? ExactFilename => _options.Size is not null || _options.ReadZeroes is not null ? null : _name + "://";

    /// <inheritdoc/>
    public override void DescribeOptions(QDict options)
    {
        if (_options.Size is not null)
        {
            options["size"] = _bytes;
        }

        // How long requests take is nothing that must stay for the contents to be the same.
        if (_options.ReadZeroes is not null)
        {
            options["read-zeroes"] = _isZeroing;
        }
    }

    /// <inheritdoc/>
    public override IoTask<long> GetLengthAsync() => new(_bytes);

    /// <inheritdoc/>
    public override long GetAllocatedBytes() => 0;

    /// <inheritdoc/>
    public override IoTask<int> ReadAsync(long offset, IoVectors data, BlockRequestFlags flags)
    {
        if (_isZeroing)
        {
            data.Fill(0, data.Size, 0);
        }

        return DelayAsync();
    }

    /// <inheritdoc/>
    public override IoTask<int> WriteAsync(long offset, IoVectors data, BlockRequestFlags flags) => DelayAsync();

    /// <inheritdoc/>
    public override IoTask<int> FlushToDiskAsync() => DelayAsync();

    /// <inheritdoc/>
    public override IoTask<BlockStatus> StatusAsync(long offset, long bytes, bool wantZero) =>
        new(new BlockStatus(
            BlockStatusFlags.OffsetValid | (_isZeroing ? BlockStatusFlags.Zero : BlockStatusFlags.None), bytes, offset, Node));

    /// <inheritdoc/>
    public override IoTask TruncateAsync(long length, bool exact, PreallocMode prealloc, bool zeroed) =>
        throw new QapiException("Image format driver does not support resize");

    /// <inheritdoc/>
    public override void OnLoopChanged() => _delays.Clear();

    private IoTask<int> DelayAsync() => _latencyNs == 0 ? new(0) : (_delays.TryPop(out Delay? free) ? free : new Delay(this)).StartAsync();

    /// <summary>A request that takes its time. Reused.</summary>
    private sealed class Delay
    {
        private readonly NullDriver _driver;
        private readonly LoopTimer _timer;
        private readonly IoCompletion<int> _done = new();

        internal Delay(NullDriver driver)
        {
            _driver = driver;
            _timer = driver.Node.Loop.CreateTimer(ClockType.Realtime, () => _done.SetResult(0));
        }

        internal async IoTask<int> StartAsync()
        {
            _timer.ArmAfter(_driver._latencyNs);
            int result = await _done.Task;
            _driver._delays.Push(this);
            return result;
        }
    }
}
