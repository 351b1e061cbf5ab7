using System.Globalization;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;

namespace Vmm.Block.Tests;

/// <summary>A web server with one file, at every path; the path says what is odd about it. Listens when the constructor returns.</summary>
internal sealed class WebServer : IDisposable
{
    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
    private readonly byte[] _file;
    private readonly X509Certificate2? _certificate;
    private readonly List<string> _requests = [];
    private readonly Thread _thread;

    public WebServer(byte[] file, bool isSecure = false)
    {
        _file = file;
        _certificate = isSecure ? MakeCertificate() : null;
        _listener.Start();
        _thread = new Thread(Accept) { IsBackground = true };
        _thread.Start();
    }

    public int Port => ((IPEndPoint)_listener.LocalEndpoint).Port;

    /// <summary>Method, path and range of every request so far, and what identifies the client.</summary>
    public IReadOnlyList<string> Requests
    {
        get
        {
            lock (_requests)
            {
                return [.. _requests];
            }
        }
    }

    public string Url(string path) => $"{(_certificate is null ? "http" : "https")}://localhost:{Port}/{path}";

    public void Dispose()
    {
        _listener.Stop();
        _thread.Join();
        _certificate?.Dispose();
    }

    private static X509Certificate2 MakeCertificate()
    {
        using RSA key = RSA.Create(2048);
        CertificateRequest request = new("CN=localhost", key, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1);
        using X509Certificate2 made = request.CreateSelfSigned(DateTimeOffset.UnixEpoch, DateTimeOffset.UnixEpoch.AddYears(200));
        return X509CertificateLoader.LoadPkcs12(made.Export(X509ContentType.Pkcs12), null);
    }

    private static List<string> ReadHead(Stream stream)
    {
        StringBuilder text = new();
        while (text.Length < 4 || text.ToString(text.Length - 4, 4) != "\r\n\r\n")
        {
            int b = stream.ReadByte();
            if (b < 0)
            {
                return [];
            }

            text.Append((char)b);
        }

        return [.. text.ToString().Split("\r\n", StringSplitOptions.RemoveEmptyEntries)];
    }

    private void Accept()
    {
        while (true)
        {
            try
            {
                TcpClient client = _listener.AcceptTcpClient();
                new Thread(() => Serve(client)) { IsBackground = true }.Start();
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException or InvalidOperationException)
            {
                // The server is being disposed of.
                return;
            }
        }
    }

    private void Serve(TcpClient client)
    {
        try
        {
            using (client)
            using (Stream stream = Secure(client.GetStream()))
            {
                while (ReadHead(stream) is { Count: > 0 } head && Answer(stream, head))
                {
                }
            }
        }
        catch (Exception e) when (e is IOException or AuthenticationException)
        {
            // The client has gone, as a test may want.
        }
    }

    private Stream Secure(Stream stream)
    {
        if (_certificate is null)
        {
            return stream;
        }

        SslStream secure = new(stream);
        secure.AuthenticateAsServer(_certificate);
        return secure;
    }

    private bool Answer(Stream stream, List<string> head)
    {
        string[] first = head[0].Split(' ');
        string path = first[1][1..];
        string range = head.Find(static l => l.StartsWith("Range: bytes=", StringComparison.Ordinal))?["Range: bytes=".Length..] ?? "";
        string who = string.Join(' ', head.Where(static l => l.StartsWith("Authorization: ", StringComparison.Ordinal) || l.StartsWith("Cookie: ", StringComparison.Ordinal)));
        lock (_requests)
        {
            _requests.Add($"{first[0]} {path} {range} {who}".Trim());
        }

        bool isHead = first[0] == "HEAD";
        int from = 0;
        int to = _file.Length - 1;
        if (range.Length > 0)
        {
            from = int.Parse(range.Split('-')[0], CultureInfo.InvariantCulture);
            to = int.Parse(range.Split('-')[1], CultureInfo.InvariantCulture);
        }

        (string status, string headers) = path switch
        {
            "missing" => ("404 Not Found", ""),
            "broken" when !isHead => ("500 Internal Server Error", ""),
            "moved" => ("302 Found", $"Location: {Url("file")}\r\n"),
            "private" when who.Length == 0 => ("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n"),
            "whole" => ("200 OK", "Accept-Ranges: bytes\r\n"),
            "no-ranges" => ("200 OK", ""),
            _ when range.Length == 0 => ("200 OK", "Accept-Ranges: bytes\r\n"),
            "shifted" => ("206 Partial Content", $"Content-Range: bytes {from + 1}-{to + 1}/{_file.Length}\r\n"),
            _ => ("206 Partial Content", $"Content-Range: bytes {from}-{to}/{_file.Length}\r\n"),
        };
        int length = status[0] == '2' ? to - from + 1 : 0;
        string lengthLine = path == "endless" && isHead ? "Connection: close\r\n" : $"Content-Length: {length}\r\n";
        stream.Write(Encoding.ASCII.GetBytes($"HTTP/1.1 {status}\r\n{headers}{lengthLine}\r\n"));
        if (!isHead)
        {
            stream.Write(_file, from, path is "short" or "stalled" ? length / 2 : length);
        }

        stream.Flush();
        if (path == "stalled" && !isHead)
        {
            // Says that more comes, and waits for the client to give up.
            return ReadHead(stream).Count > 0;
        }

        return path is not "short" and not "endless";
    }
}
