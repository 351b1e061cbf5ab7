using Vmm.Block.Drivers.Http;
using Vmm.Block.Graph;
using Vmm.Block.Tests.Qcow2;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;

namespace Vmm.Block.Tests;

/// <summary>Files on a web server, beside what qemu-io says of the same server.</summary>
public sealed class HttpDriverTests : Qcow2Fixture
{
    private const int Length = 700_000;
    private static readonly byte[] s_file = Pattern(Length, 3);

    [Test]
    public void ContentsAreThoseOfTheFile()
    {
        using WebServer server = new(s_file);
        BlockNode node = OpenHttp(server.Url("file"));
        Assert.That(node.Length, Is.EqualTo((Length + 511) / 512 * 512));
        byte[] read = ReadAll(node, 1);
        Assert.That(read.AsSpan(0, Length).SequenceEqual(s_file));
        Assert.That(read.AsSpan(Length).ContainsAnyExcept((byte)0), Is.False);
        CloseNode(node);
    }

    [Test]
    public void WhatIsReadAheadIsNotAskedForAgain()
    {
        using WebServer server = new(s_file);
        BlockNode node = OpenHttp(server.Url("file"), "'readahead': 65536, ");
        for (int offset = 0; offset < 65536; offset += 4096)
        {
            Assert.That(Read(node, offset, 4096).AsSpan().SequenceEqual(s_file.AsSpan(offset, 4096)));
        }

        Read(node, Length / 512 * 512, 512);
        Assert.That(server.Requests, Is.EqualTo(new[]
        {
            "HEAD file", "GET file 0-69631", $"GET file {Length / 512 * 512}-{Length - 1}",
        }));
        CloseNode(node);
    }

    [Test]
    public void RequestsOfOneTimeShareAnswers()
    {
        using WebServer server = new(s_file);
        BlockNode node = OpenHttp(server.Url("file"));
        using NativeBuffer buffer = new(64 << 10);
        List<IoTask<int>> reads = [];
        for (int i = 0; i < 16; i++)
        {
            reads.Add(node.ReadAsync(i * 4096, IoVectors.Rent(buffer.Vector(i * 4096, 4096))));
        }

        foreach (IoTask<int> read in reads)
        {
            Assert.That(Loop.RunUntil(read), Is.Zero);
        }

        Assert.That(buffer.Span.SequenceEqual(s_file.AsSpan(0, 64 << 10)));
        Assert.That(server.Requests.Count(static r => r.StartsWith("GET", StringComparison.Ordinal)), Is.EqualTo(1));
        CloseNode(node);
    }

    [Test]
    public void RequestsFarApartUseNoMoreThanEightSegments()
    {
        using WebServer server = new(s_file);
        BlockNode node = OpenHttp(server.Url("file"), "'readahead': 0, ");
        HttpDriver driver = (HttpDriver)node.Driver;
        using NativeBuffer buffer = new(40 * 4096);
        List<IoTask<int>> reads = [];
        for (int i = 0; i < 40; i++)
        {
            reads.Add(node.ReadAsync(i * 16384, IoVectors.Rent(buffer.Vector(i * 4096, 4096))));
        }

        for (int i = 0; i < 40; i++)
        {
            Assert.That(Loop.RunUntil(reads[i]), Is.Zero);
            Assert.That(buffer.Span.Slice(i * 4096, 4096).SequenceEqual(s_file.AsSpan(i * 16384, 4096)));
        }

        Assert.That(driver.BufferBytes, Is.EqualTo(8 * 4096));
        CloseNode(node);
        Assert.That(driver.BufferBytes, Is.Zero);
    }

    [TestCase("missing")]
    [TestCase("private")]
    [TestCase("no-ranges")]
    [TestCase("endless")]
    public void AServerThatCannotBeUsedIsRefusedInQemusWords(string path)
    {
        using WebServer server = new(s_file);
        string url = server.Url(path);
        string text = Run("qemu-io", "-r", "-f", "raw", "-c", "quit", url).Text.Trim();
        string expected = text[(text.IndexOf(url + ": ", StringComparison.Ordinal) + url.Length + 2)..];
        Assert.That(() => OpenHttp(url), Throws.TypeOf<QapiException>().With.Message.EqualTo(expected));
        Assert.That(Graph.Nodes, Is.Empty);
    }

    [TestCase("driver=http,url=http://localhost/x,readahead=1000", "'url': 'http://localhost/x', 'readahead': 1000")]
    [TestCase("driver=http,url=http://localhost/x,timeout=10001", "'url': 'http://localhost/x', 'timeout': 10001")]
    [TestCase("driver=http,url=http://localhost/x,timeout=-1", "'url': 'http://localhost/x', 'timeout': -1")]
    [TestCase("driver=http,url=http://localhost/x,cookie=a,cookie-secret=b", "'url': 'http://localhost/x', 'cookie': 'a', 'cookie-secret': 'b'")]
    [TestCase("driver=http,url=http://localhost/x,password-secret=none", "'url': 'http://localhost/x', 'password-secret': 'none'")]
    [TestCase("driver=http,url=https://localhost/x", "'url': 'https://localhost/x'")]
    [TestCase("driver=http,url=x", "'url': 'x'")]
    public void OptionsThatCannotBeAreRefusedInQemusWords(string theirs, string ours)
    {
        string said = Run("qemu-io", "-r", "-c", "quit", "--image-opts", theirs).Text.Trim().Split('\n')[^1];
        Assert.That(
            () => Open("{'driver': 'http', 'read-only': true, " + ours + "}"),
            Throws.TypeOf<QapiException>().With.Message.EqualTo(said["qemu-io: can't open: ".Length..]));
    }

    [Test]
    public void NobodyAnswers()
    {
        int port;
        using (WebServer server = new(s_file))
        {
            port = server.Port;
        }

        Assert.That(
            () => OpenHttp($"http://localhost:{port}/file"),
            Throws.TypeOf<QapiException>().With.Message.EqualTo($"CURL: Error opening file: Failed to connect to localhost port {port}: Couldn't connect to server"));
    }

    [TestCase("broken", "The requested URL returned error: 500")]
    [TestCase("short", "transfer closed with outstanding read data remaining")]
    [TestCase("whole", "the server sends another range than it was asked for")]
    [TestCase("shifted", "the server sends another range than it was asked for")]
    [TestCase("stalled", "Operation timed out after 1000 milliseconds")]
    public void AnAnswerThatIsNotTheRangeIsAnError(string path, string said)
    {
        string announced = "";
        Graph.Announce = text => announced += text;
        using WebServer server = new(s_file);
        BlockNode node = OpenHttp(server.Url(path), "'timeout': 1, ");
        using NativeBuffer buffer = new(512);
        IoVectors data = IoVectors.Rent(buffer.Vector(0, 512));
        Assert.That(Loop.RunUntil(node.ReadAsync(512, data)), Is.EqualTo(-5));
        data.Return();
        Assert.That(announced, Is.EqualTo($"curl: {said}\n"));
        CloseNode(node);
    }

    [Test]
    public void RedirectionsUsersAndCookies()
    {
        using WebServer server = new(s_file);
        BlockNode moved = OpenHttp(server.Url("moved"));
        Assert.That(Read(moved, 0, 512).AsSpan().SequenceEqual(s_file.AsSpan(0, 512)));
        CloseNode(moved);
        Graph.DriverRegistry.FindSecret = static id => id + "-text";
        BlockNode user = OpenHttp(server.Url("private"), "'username': 'me', 'password-secret': 'pw', 'cookie-secret': 'jar', ");
        Assert.That(server.Requests[^1], Is.EqualTo("HEAD private  Cookie: jar-text Authorization: Basic bWU6cHctdGV4dA==")
            .Or.EqualTo("HEAD private  Authorization: Basic bWU6cHctdGV4dA== Cookie: jar-text"));
        Assert.That(user.Filename, Does.StartWith("json:").And.Not.Contain("text"), "secrets stay secret");
        CloseNode(user);
    }

    [Test]
    public void CertificatesAreChecked()
    {
        using WebServer server = new(s_file, isSecure: true);
        Assert.That(() => OpenHttp(server.Url("file")), Throws.TypeOf<QapiException>().With.Message.StartsWith("CURL: Error opening file: server certificate verification failed"));
        BlockNode node = OpenHttp(server.Url("file"), "'sslverify': false, ");
        Assert.That(Read(node, 4096, 4096).AsSpan().SequenceEqual(s_file.AsSpan(4096, 4096)));
        CloseNode(node);
    }

    [Test]
    public void ANodeThatIsToBeWrittenIsRefused()
    {
        using WebServer server = new(s_file);
        Assert.That(
            () => Open($$"""{'driver': 'http', 'url': '{{server.Url("file")}}'}"""),
            Throws.TypeOf<QapiException>().With.Message.EqualTo("curl driver does not support writes"));
        BlockNode node = Open($$"""{'driver': 'http', 'auto-read-only': true, 'url': '{{server.Url("file")}}'}""");
        Assert.That((node.IsReadOnly, node.Filename), Is.EqualTo((true, server.Url("file"))));
        CloseNode(node);
    }

    private BlockNode OpenHttp(string url, string more = "") =>
        Open($$"""{'driver': '{{url[..url.IndexOf(':')]}}', 'read-only': true, {{more}} 'url': '{{url}}'}""");
}
