using System.Net;
using System.Net.Http;
using System.Net.Http.Headers;
using System.Text;
using Vmm.Block.Options;
using Vmm.Interop;

namespace Vmm.Block.Drivers.Http;

/// <summary>Asks a web server for the length of a file and for ranges of it. All calls block; any thread, several at once.</summary>
/// <remarks>RFC 9110: HEAD, and GET with a Range; what is not answered with 206 and the range that was asked for is an error.</remarks>
internal sealed class HttpSource : IDisposable
{
    private const int MaxRedirections = 50;
    private const string CutShort = "transfer closed with outstanding read data remaining";

    private readonly SocketsHttpHandler _handler;
    private readonly HttpClient _client;
    private readonly Uri _url;
    private readonly TimeSpan _timeout;
    private readonly AuthenticationHeaderValue? _user;
    private readonly string? _cookie;

    /// <summary>Connects to nothing yet.</summary>
    /// <param name="options">Where the file is.</param>
    /// <param name="isVerifying">Certificates are checked.</param>
    /// <param name="cookie">Cookies; null for none.</param>
    /// <param name="findSecret">The text of a secret object.</param>
    internal HttpSource(BlockdevOptionsCurlBase options, bool isVerifying, string? cookie, Func<string, string> findSecret)
    {
        _url = new Uri(options.Url);
        long seconds = options.Timeout ?? 5;
        _timeout = seconds == 0 ? Timeout.InfiniteTimeSpan : TimeSpan.FromSeconds(seconds);
        _cookie = cookie;
        string password = options.PasswordSecret is { } secret ? findSecret(secret) : "";
        if (options.Username is { } user)
        {
            _user = new AuthenticationHeaderValue("Basic", Convert.ToBase64String(Encoding.UTF8.GetBytes($"{user}:{password}")));
        }

        string proxyPassword = options.ProxyPasswordSecret is { } proxySecret ? findSecret(proxySecret) : "";
        _handler = new SocketsHttpHandler
        {
            AutomaticDecompression = DecompressionMethods.None,
            MaxAutomaticRedirections = MaxRedirections,

            // Where there is no TLS, it must not be met on the way either.
            AllowAutoRedirect = OpenSslLibrary.IsAvailable,
            UseCookies = false,
            DefaultProxyCredentials = options.ProxyUsername is { } name ? new NetworkCredential(name, proxyPassword) : null,
        };
        if (!isVerifying)
        {
            _handler.SslOptions.RemoteCertificateValidationCallback = static (_, _, _, _) => true;
        }

        _client = new HttpClient(_handler) { Timeout = Timeout.InfiniteTimeSpan };
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _client.Dispose();
        _handler.Dispose();
    }

    /// <summary>Bytes of the file.</summary>
    /// <param name="length">0 on failure.</param>
    /// <returns>Null, or what is wrong.</returns>
    internal string? TryGetLength(out long length)
    {
        long found = 0;
        string? error = Ask(HttpMethod.Head, null, response =>
        {
            if (response.Content.Headers.ContentLength is not { } bytes)
            {
                return "Server didn't report file size.";
            }

            found = bytes;
            return response.Headers.AcceptRanges.Contains("bytes") ? null : "Server does not support 'range' (byte ranges).";
        });
        length = error is null ? found : 0;
        return error;
    }

    /// <summary>Reads a range of the file into the beginning of a buffer.</summary>
    /// <returns>Null, or what is wrong.</returns>
    internal string? TryRead(long offset, NativeBuffer buffer, int bytes) => Ask(HttpMethod.Get, new RangeHeaderValue(offset, offset + bytes - 1), response =>
    {
        if (response.StatusCode != HttpStatusCode.PartialContent
            || (response.Content.Headers.ContentRange is { } range && (range.From != offset || range.To != offset + bytes - 1)))
        {
            return "the server sends another range than it was asked for";
        }

        using Stream stream = response.Content.ReadAsStream();
        int read = stream.ReadAtLeast(buffer.Span[..bytes], bytes, throwOnEndOfStream: false);
        return read == bytes ? null : CutShort;
    });

    // The words are those of the library that QEMU uses, which its users know; there are no messages in a binary without resources.
    private string Describe(HttpRequestException failure) => failure.HttpRequestError switch
    {
        HttpRequestError.NameResolutionError => $"Could not resolve host: {_url.Host}",
        HttpRequestError.ConnectionError => $"Failed to connect to {_url.Host} port {_url.Port}: Couldn't connect to server",
        HttpRequestError.SecureConnectionError => "server certificate verification failed or no secure connection",
        HttpRequestError.ProxyTunnelError => "Could not connect through the proxy",
        HttpRequestError.ResponseEnded => "Empty reply from server",
        _ => $"Invalid reply from server ({failure.HttpRequestError})",
    };

    private string? Ask(HttpMethod method, RangeHeaderValue? range, Func<HttpResponseMessage, string?> use)
    {
        using HttpRequestMessage request = new(method, _url);
        request.Headers.Range = range;
        request.Headers.Authorization = _user;
        if (_cookie is not null)
        {
            request.Headers.TryAddWithoutValidation("Cookie", _cookie);
        }

        using CancellationTokenSource timeout = new(_timeout);
        try
        {
            using HttpResponseMessage response = _client.Send(request, HttpCompletionOption.ResponseHeadersRead, timeout.Token);

            // A server that stops in the middle of an answer is cut off.
            using CancellationTokenRegistration end = timeout.Token.Register(response.Dispose);
            return (int)response.StatusCode >= 300 ? $"The requested URL returned error: {(int)response.StatusCode}" : use(response);
        }
        catch (HttpRequestException e)
        {
            return Describe(e);
        }
        catch (Exception e) when (e is OperationCanceledException or IOException or ObjectDisposedException)
        {
            return timeout.IsCancellationRequested
                ? $"Operation timed out after {(long)_timeout.TotalMilliseconds} milliseconds"
                : CutShort;
        }
    }
}
