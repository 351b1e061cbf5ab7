using System.Diagnostics;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using Vmm.Interop.Tls;
using Vmm.ObjectModel.Chardevs;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;
using Vmm.TestKit.Tls;

namespace Vmm.Chardevs.Tests;

/// <summary>Sockets over TLS, with the peers of other programs and with each other.</summary>
public sealed class TlsTests
{
    private ChardevWorld _world = null!;
    private TlsFiles _files = null!;

    [SetUp]
    public void MakeCredentials()
    {
        if (!GnuTls.IsAvailable)
        {
            Assert.Ignore("libgnutls.so.30 is not installed");
        }

        _world = new ChardevWorld();
        _files = TlsFiles.Full(_world.PathOf("tls"));
        AddObject($$"""{'qom-type': 'tls-creds-x509', 'id': 'server', 'endpoint': 'server', 'dir': '{{_files.Folder}}'}""");
        AddObject($$"""{'qom-type': 'tls-creds-x509', 'id': 'client', 'endpoint': 'client', 'dir': '{{_files.Folder}}'}""");
        AddObject($$"""{'qom-type': 'tls-creds-x509', 'id': 'open', 'endpoint': 'server', 'verify-peer': false, 'dir': '{{_files.Folder}}'}""");
        AddObject($$"""{'qom-type': 'tls-creds-x509', 'id': 'broken', 'endpoint': 'server', 'priority': 'NONSENSE', 'dir': '{{_files.Folder}}'}""");
        AddObject("{'qom-type': 'authz-simple', 'id': 'somebody', 'identity': 'CN=somebody'}");
    }

    [TearDown]
    public void End() => _world?.Dispose();

    [Test]
    public void OursTalksToOurs()
    {
        Chardev server = Serve("'tls-creds': 'server'", out string port);
        Recorder there = new(server);
        Chardev client = _world.Add("c", Inet(port, "'server': false, 'tls-creds': 'client'"));
        Recorder here = new(client);
        _world.Until(() => server.IsOpen && client.IsOpen);
        byte[] data = new byte[300_000];
        new Random(1).NextBytes(data);
        int sent = 0;
        _world.Until(
            () =>
            {
                sent += sent < data.Length ? client.Write(data.AsSpan(sent)) : 0;
                return there.Bytes.Count == data.Length;
            });
        Assert.That(there.Bytes.ToArray().AsSpan().SequenceEqual(data));
        server.Write("back"u8);
        _world.Until(() => here.Text == "back");
        here.Frontend.Disconnect();
        _world.Registry.Remove("c");
        _world.Until(() => !server.IsOpen);
    }

    [Test]
    public void AStreamOfTheFrameworkIsServed()
    {
        Chardev server = Serve("'tls-creds': 'open'", out string port);
        Recorder there = new(server);
        using SslStream stream = Connect(port);
        _world.Until(() => server.IsOpen);
        stream.Write("one "u8);
        stream.Write("two"u8);
        _world.Until(() => there.Text == "one two");
        server.Write("three"u8);
        byte[] buffer = new byte[5];
        Turn(stream.ReadExactlyAsync(buffer).AsTask());
        Assert.That(Encoding.ASCII.GetString(buffer), Is.EqualTo("three"));
    }

    [Test]
    public void AWebSocketIsInsideOfTls()
    {
        Chardev server = Serve("'tls-creds': 'open', 'websocket': true", out string port);
        Recorder there = new(server);
        using SslStream stream = Connect(port);
        stream.Write(Encoding.ASCII.GetBytes(
            "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            + "Sec-WebSocket-Protocol: binary\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"));
        _world.Until(() => server.IsOpen);

        // A masked binary frame of "hi" (RFC 6455, 5.2).
        stream.Write([0x82, 0x82, 1, 2, 3, 4, (byte)('h' ^ 1), (byte)('i' ^ 2)]);
        _world.Until(() => there.Text == "hi");
    }

    [TestCase("server", null, "no certificate")]
    [TestCase("broken", null, "a priority string that the library does not know")]
    public void WhoeverFailsIsHungUpOn(string credentials, string? authorization, string why)
    {
        Chardev server = Serve($"'tls-creds': '{credentials}'" + (authorization is null ? "" : $", 'tls-authz': '{authorization}'"), out string port);
        Recorder there = new(server);
        using var socket = new TcpClient("127.0.0.1", int.Parse(port, System.Globalization.CultureInfo.InvariantCulture));
        using var stream = new SslStream(socket.GetStream(), false, static (_, _, _, _) => true);
        Task handshake = stream.AuthenticateAsClientAsync("localhost");
        Task<bool> ended = Ended();
        Turn(ended);
        Assert.That(ended.Result, why);
        Assert.That(server.IsOpen, Is.False);
        Assert.That(there.Bytes, Is.Empty);

        async Task<bool> Ended()
        {
            try
            {
                await handshake;
                return await stream.ReadAsync(new byte[1]) == 0;
            }
            catch (Exception e) when (e is IOException or System.Security.Authentication.AuthenticationException)
            {
                return true;
            }
        }
    }

    [Test]
    public void WhoeverMayNotComeInIsHungUpOn()
    {
        Chardev server = Serve("'tls-creds': 'server', 'tls-authz': 'somebody'", out string port);
        _ = new Recorder(server);
        Chardev client = _world.Add("c", Inet(port, "'server': false, 'tls-creds': 'client'"));
        Recorder here = new(client);
        _world.Until(() => !client.IsOpen && here.Events.Contains(ChardevEvent.Closed));
        Assert.That(server.IsOpen, Is.False);
    }

    [TestCase("plain text that is no TLS record at all\n")]
    [TestCase("\u0016\u0003\u0001\u0001")]
    public void BytesInTheClearReachNobody(string text)
    {
        Chardev server = Serve("'tls-creds': 'server'", out string port);
        Recorder there = new(server);
        using (var socket = new TcpClient("127.0.0.1", int.Parse(port, System.Globalization.CultureInfo.InvariantCulture)))
        {
            NetworkStream stream = socket.GetStream();
            stream.Write(Encoding.Latin1.GetBytes(text));
            socket.Client.Shutdown(SocketShutdown.Send);
            Task<int> end = stream.ReadAsync(new byte[256]).AsTask();
            Turn(end.ContinueWith(static _ => { }, TaskScheduler.Default));
        }

        Assert.That(server.IsOpen, Is.False);
        Assert.That(there.Bytes, Is.Empty);

        // The next one is served.
        Chardev client = _world.Add("c", Inet(port, "'server': false, 'tls-creds': 'client'"));
        _world.Until(() => server.IsOpen && client.IsOpen);
    }

    [Test]
    public void GnutlsCliTalksToIt()
    {
        const string Program = "/usr/bin/gnutls-cli";
        if (!File.Exists(Program))
        {
            Assert.Ignore("gnutls-bin is not installed");
        }

        Chardev server = Serve("'tls-creds': 'server'", out string port);
        Recorder there = new(server);
        var start = new ProcessStartInfo(Program) { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true };
        foreach (string argument in (string[])[
            "--x509cafile", _files.PathOf("ca-cert.pem"), "--x509certfile", _files.PathOf("client-cert.pem"),
            "--x509keyfile", _files.PathOf("client-key.pem"), "-p", port, "127.0.0.1"])
        {
            start.ArgumentList.Add(argument);
        }

        using Process process = Process.Start(start)!;
        try
        {
            process.StandardInput.Write("hello\n");
            process.StandardInput.Flush();
            _world.Until(() => there.Text == "hello\n");
        }
        finally
        {
            process.Kill();
            process.WaitForExit();
        }
    }

    [TestCase("{'type':'unix','data':{'path':'/tmp/x'}}", "'server': true, 'wait': false, 'tls-creds': 'server'", "'tls_creds' option is incompatible with 'unix' address type")]
    [TestCase("{'type':'fd','data':{'str':'x'}}", "'server': false, 'tls-creds': 'client'", "'tls_creds' option is incompatible with 'fd' address type as client")]
    [TestCase("{'type':'inet','data':{'host':'127.0.0.1','port':'0'}}", "'server': true, 'wait': false, 'tls-creds': 'none'", "No TLS credentials with id 'none'")]
    [TestCase("{'type':'inet','data':{'host':'127.0.0.1','port':'0'}}", "'server': true, 'wait': false, 'tls-creds': 'client'", "Expected TLS credentials for a server endpoint")]
    [TestCase("{'type':'inet','data':{'host':'127.0.0.1','port':'0'}}", "'server': true, 'wait': false, 'tls-creds': 'somebody'", "Object with id 'somebody' is not TLS credentials")]
    [TestCase("{'type':'inet','data':{'host':'127.0.0.1','port':'0'}}", "'server': true, 'wait': false, 'tls-authz': 'x'", "'tls_authz' option requires 'tls_creds' option")]
    public void WhatCannotBeIsRefused(string address, string options, string error) => Assert.That(
        Assert.Throws<QapiException>(() => _world.Add("x", $$"""{'type':'socket','data':{'addr':{{address}}, {{options}} } }"""))!.Desc,
        Does.EndWith(error));

    private static string Inet(string port, string options) =>
        $$"""{'type':'socket','data':{'addr':{'type':'inet','data':{'host':'127.0.0.1','port':'{{port}}'} }, {{options}} } }""";

    private Chardev Serve(string options, out string port)
    {
        Chardev server = _world.Add("s", Inet("0", "'server': true, 'wait': false, " + options));
        string name = server.Filename;
        int colon = name.LastIndexOf(':');
        port = name[(colon + 1)..name.IndexOf(',', colon)];
        return server;
    }

    private void AddObject(string json) =>
        new ObjectFactory(new ObjectContext(_world.Tree, _world.Loop, _world.Clocks)).Add((QDict)QValue.Parse(json));

    private SslStream Connect(string port)
    {
        var socket = new TcpClient("127.0.0.1", int.Parse(port, System.Globalization.CultureInfo.InvariantCulture));
        var stream = new SslStream(socket.GetStream(), false, (_, certificate, _, _) => certificate is X509Certificate2);
        Turn(stream.AuthenticateAsClientAsync("localhost"));
        return stream;
    }

    private void Turn(Task task)
    {
        task.ContinueWith(_ => _world.Loop.Post(static () => { }), TaskScheduler.Default);
        _world.Until(() => task.IsCompleted);
        task.GetAwaiter().GetResult();
    }
}
