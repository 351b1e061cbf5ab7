using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;

namespace Vmm.Block.Drivers.Http;

/// <summary>
/// A file on a web server, read-only: "http" and "https". Each read asks for more than it needs, and what is asked for next is often there
/// already or on its way. Memory: 8 segments of what is read ahead and the longest request together.
/// </summary>
public sealed class HttpDriver : BlockDriver
{
    private const int MaxSegments = 8;
    private const long DefaultReadahead = 256 << 10;
    private const long MaxSeconds = 10000;
    private const int MaxRequest = 1 << 20;

    private readonly BlockdevOptionsCurlHttp _options;
    private readonly bool _isVerifying;
    private readonly string _name;
    private readonly LoopWorkers _workers;
    private readonly Func<string, string> _findSecret;
    private readonly List<Segment> _segments = [];
    private readonly LoopWaitQueue _idle = new();
    private readonly int _readahead;
    private HttpSource? _source;
    private long _size;
    private long _clock;

    /// <summary>As the options say.</summary>
    /// <exception cref="QapiException">They cannot be so.</exception>
    public HttpDriver(BlockdevOptionsCurlHttp options, LoopWorkers workers, Func<string, string> findSecret)
    {
        _options = options;
        _isVerifying = (options as BlockdevOptionsCurlHttps)?.Sslverify ?? true;
        _name = options is BlockdevOptionsCurlHttps ? "https" : "http";
        _workers = workers;
        _findSecret = findSecret;
        long readahead = options.Readahead ?? DefaultReadahead;
        if (readahead % 512 != 0)
        {
            throw new QapiException($"HTTP_READAHEAD_SIZE {readahead} is not a multiple of 512");
        }

        if (readahead is < 0 or > 1 << 30)
        {
            throw new QapiException($"HTTP_READAHEAD_SIZE {readahead} is too large or negative");
        }

        _readahead = (int)readahead;
        if (options.Timeout is < 0 or > MaxSeconds)
        {
            throw new QapiException("timeout parameter is too large or negative");
        }

        if (options.Cookie is not null && options.CookieSecret is not null)
        {
            throw new QapiException("curl driver cannot handle both cookie and cookie secret");
        }
    }

    /// <inheritdoc/>
    public override string FormatName => _name;

    /// <inheritdoc/>
    public override string? ExactFilename =>
        _isVerifying && _options is { Cookie: null, CookieSecret: null, Username: null, PasswordSecret: null, ProxyUsername: null, ProxyPasswordSecret: null }
            ? _options.Url : null;

    /// <summary>What a file name says of a file on a web server: all of it is its address.</summary>
    public static void ParseName(string name, QDict options) => options["url"] = name;

    /// <inheritdoc/>
    public override void DescribeOptions(QDict options)
    {
        options["url"] = _options.Url;
        foreach ((string name, string? value) in (ReadOnlySpan<(string, string?)>)[
            ("username", _options.Username),
            ("password-secret", _options.PasswordSecret),
            ("proxy-username", _options.ProxyUsername),
            ("proxy-password-secret", _options.ProxyPasswordSecret),
            ("cookie", _options.Cookie),
            ("cookie-secret", _options.CookieSecret)])
        {
            if (value is not null)
            {
                options[name] = value;
            }
        }

        if (!_isVerifying)
        {
            options["sslverify"] = false;
        }
    }

    /// <inheritdoc/>
    public override async IoTask OpenAsync()
    {
        Node.RequireReadOnly("curl driver does not support writes");
        string start = _name + "://";
        if (!_options.Url.StartsWith(start, StringComparison.Ordinal) || !Uri.TryCreate(_options.Url, UriKind.Absolute, out _))
        {
            throw new QapiException($"{_name} curl driver cannot handle the URL '{_options.Url}' (does not start with '{start}')");
        }

        if (_name == "https" && !OpenSslLibrary.IsAvailable)
        {
            throw new QapiException("Driver 'https' needs OpenSSL, which is not installed");
        }

        string? cookie = _options.CookieSecret is { } secret ? _findSecret(secret) : _options.Cookie;
        _source = new HttpSource(_options, _isVerifying, cookie, _findSecret);
        LengthWork work = new(_source);
        _size = await work.RunAsync(_workers);
        if (work.Error is { } error)
        {
            _source.Dispose();
            throw new QapiException($"CURL: Error opening file: {error}");
        }
    }

    /// <summary>Bytes of memory that hold what was read.</summary>
    internal long BufferBytes
    {
        get
        {
            long bytes = 0;
            foreach (Segment segment in _segments)
            {
                bytes += segment.BufferBytes;
            }

            return bytes;
        }
    }

    /// <inheritdoc/>
    public override IoTask CloseAsync()
    {
        _source!.Dispose();
        foreach (Segment segment in _segments)
        {
            segment.Dispose();
        }

        _segments.Clear();
        return IoTask.CompletedTask;
    }

    /// <inheritdoc/>
    public override void RefreshLimits(ref BlockLimits limits) => limits.MaxTransfer = MaxRequest;

    /// <inheritdoc/>
    public override IoTask<long> GetLengthAsync() => new((_size + 511) / 512 * 512);

    /// <inheritdoc/>
    public override async IoTask<int> ReadAsync(long offset, IoVectors data, BlockRequestFlags flags)
    {
        long bytes = Math.Min(data.Size, _size - offset);
        while (true)
        {
            if (Find(offset, bytes) is { } found)
            {
                if (!found.IsLoading)
                {
                    found.LastUse = ++_clock;
                    data.CopyFrom(0, found.Span.Slice((int)(offset - found.Start), (int)bytes));
                    data.Fill(bytes, data.Size - bytes, 0);
                    return 0;
                }
            }
            else if (TakeSegment() is { } free)
            {
                int result = await LoadAsync(free, offset, (int)Math.Min(bytes + _readahead, _size - offset));
                _idle.WakeAll();
                if (result < 0)
                {
                    return result;
                }

                continue;
            }

            await _idle.WaitAsync();
        }
    }

    private Segment? Find(long offset, long bytes)
    {
        foreach (Segment segment in _segments)
        {
            if (segment.Start <= offset && segment.Start + segment.Bytes >= offset + bytes)
            {
                return segment;
            }
        }

        return null;
    }

    // The one that was not used for the longest time, once there are enough.
    private Segment? TakeSegment()
    {
        Segment? oldest = null;
        foreach (Segment segment in _segments)
        {
            oldest = segment.IsLoading || (oldest is not null && oldest.LastUse <= segment.LastUse) ? oldest : segment;
        }

        if (_segments.Count < MaxSegments && (oldest is null || oldest.Bytes > 0))
        {
            oldest = new Segment(_source!);
            _segments.Add(oldest);
        }

        return oldest;
    }

    private async IoTask<int> LoadAsync(Segment segment, long offset, int bytes)
    {
        segment.Prepare(offset, bytes);
        long result = await segment.RunAsync(_workers);
        segment.IsLoading = false;
        if (result < 0)
        {
            segment.Bytes = 0;
            Node.Graph.Announce($"curl: {segment.Error}\n");
        }

        return (int)result;
    }

    private sealed class LengthWork(HttpSource source) : LoopWork
    {
        internal string? Error { get; private set; }

        protected override long Execute()
        {
            Error = source.TryGetLength(out long length);
            return length;
        }
    }

    private sealed class Segment(HttpSource source) : LoopWork, IDisposable
    {
        private NativeBuffer? _buffer;

        internal long Start { get; private set; }

        internal int Bytes { get; set; }

        internal bool IsLoading { get; set; }

        internal long LastUse { get; set; }

        internal string? Error { get; private set; }

        internal Span<byte> Span => _buffer!.Span;

        internal long BufferBytes => _buffer?.Length ?? 0;

        public void Dispose() => _buffer?.Dispose();

        internal void Prepare(long start, int bytes)
        {
            if (_buffer is null || _buffer.Length < bytes)
            {
                _buffer?.Dispose();
                _buffer = new NativeBuffer(bytes);
            }

            (Start, Bytes, IsLoading) = (start, bytes, true);
        }

        protected override long Execute()
        {
            Error = source.TryRead(Start, _buffer!, Bytes);
            return Error is null ? 0 : BlockResult.Io;
        }
    }
}
