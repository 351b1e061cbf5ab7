using System.Text;
using FsCheck;
using FsCheck.Fluent;
using Vmm.ObjectModel.Chardevs;

namespace Vmm.Chardevs.Tests;

public sealed class ProtocolTests
{
    private const string Request =
        "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
        + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

    [Test]
    public void Sha1_MatchesTheClassLibrary()
    {
        for (int length = 0; length < 200; length++)
        {
            byte[] message = new byte[length];
            new Random(length).NextBytes(message);
            byte[] digest = new byte[20];
            Sha1.Hash(message, digest);
#pragma warning disable CA5350 // The reference for a digest that the protocol prescribes.
            Assert.That(digest, Is.EqualTo(System.Security.Cryptography.SHA1.HashData(message)));
#pragma warning restore CA5350
        }
    }

    [Test]
    public void Telnet_AnySplitGivesTheSame()
    {
        byte[] input = [.. "a"u8, 255, 255, .. "b"u8, 255, 251, 1, .. "c"u8, 255, 243, 255, 250, 24, 255, 255, 1, 255, 240, .. "d"u8, 255, 241, .. "e"u8];
        byte[] expected = [.. "a"u8, 255, .. "bcde"u8];
        for (int split = 0; split <= input.Length; split++)
        {
            var decoder = default(TelnetDecoder);
            byte[] first = input[..split];
            byte[] second = input[split..];
            int n1 = decoder.Decode(first, out int breaks1);
            int n2 = decoder.Decode(second, out int breaks2);
            Assert.That(first[..n1].Concat(second[..n2]), Is.EqualTo(expected), $"split at {split}");
            Assert.That(breaks1 + breaks2, Is.EqualTo(1));
        }
    }

    [Test]
    public void Telnet_DecoderNeverGrowsAndKeepsPlainBytes() => Prop.ForAll<byte[], int>((data, at) =>
    {
        byte[] plain = data.Where(b => b != 255).ToArray();
        int split = plain.Length == 0 ? 0 : (int)((uint)at % (uint)plain.Length);
        var decoder = default(TelnetDecoder);
        byte[] first = plain[..split];
        byte[] second = plain[split..];
        int n1 = decoder.Decode(first, out _);
        int n2 = decoder.Decode(second, out _);
        byte[] noise = (byte[])data.Clone();
        return first[..n1].Concat(second[..n2]).SequenceEqual(plain) && decoder.Decode(noise, out _) <= data.Length;
    }).QuickCheckThrowOnFailure();

    [Test]
    public void Handshake_AcceptsTheExampleOfTheSpecification()
    {
        byte[] request = Encoding.ASCII.GetBytes(Request + "Sec-WebSocket-Protocol: base64, binary\r\n\r\nrest");
        for (int length = 0; length < request.Length - 4; length++)
        {
            Assert.That(
                WebSocketHandshake.Process(request.AsSpan(0, length), "D", out _, out _), Is.EqualTo(HandshakeResult.Incomplete), $"{length} bytes");
        }

        HandshakeResult result = WebSocketHandshake.Process(request, "D", out int consumed, out byte[] response);
        Assert.That(result, Is.EqualTo(HandshakeResult.Accepted));
        Assert.That(consumed, Is.EqualTo(request.Length - 4));
        Assert.That(Encoding.ASCII.GetString(response), Is.EqualTo(
            "HTTP/1.1 101 Switching Protocols\r\nServer: QEMU VNC\r\nDate: D\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            + "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: binary\r\n\r\n"));
    }

    [TestCase("Host: localhost\r\n", "", "400")]
    [TestCase("Upgrade: websocket", "Upgrade: other", "400")]
    [TestCase("Upgrade\r\nSec-", "close\r\nSec-", "400")]
    [TestCase("Version: 13", "Version: 12", "400")]
    [TestCase("dGhlIHNhbXBsZSBub25jZQ==", "short", "400")]
    [TestCase("GET", "POST", "400")]
    [TestCase("HTTP/1.1", "HTTP/1.0", "400")]
    [TestCase("GET / ", "GET /other ", "404")]
    public void Handshake_RefusesOthers(string old, string replacement, string status)
    {
        byte[] request = Encoding.ASCII.GetBytes(Request.Replace(old, replacement, StringComparison.Ordinal) + "\r\n");
        Assert.That(WebSocketHandshake.Process(request, "D", out _, out byte[] response), Is.EqualTo(HandshakeResult.Refused));
        Assert.That(Encoding.ASCII.GetString(response), Does.StartWith($"HTTP/1.1 {status} "));
    }

    [Test]
    public void Handshake_RefusesWhatIsTooLongOrNoHttp()
    {
        Assert.That(
            WebSocketHandshake.Process(new byte[WebSocketHandshake.MaxRequest], "D", out _, out _), Is.EqualTo(HandshakeResult.Refused));
        Assert.That(WebSocketHandshake.Process("hello\r\n\r\n"u8, "D", out _, out byte[] response), Is.EqualTo(HandshakeResult.Refused));
        Assert.That(response, Is.Empty);
    }

    [Test]
    public void Frames_AnySplitGivesTheSame()
    {
        byte[] stream = [.. Frame(2, "hello"u8, final: false), .. Frame(9, "ping"u8), .. Frame(0, new byte[300]), .. Frame(2, ""u8), .. Frame(8, [3, 232])];
        byte[] expected = [.. "hello"u8, .. new byte[300]];
        for (int split = 0; split <= stream.Length; split++)
        {
            var decoder = new WebSocketDecoder();
            var data = new List<byte>();
            var control = new List<string>();
            Feed(decoder, stream[..split], data, control);
            Feed(decoder, stream[split..], data, control);
            Assert.That(data, Is.EqualTo(expected), $"split at {split}");
            Assert.That(control, Is.EqualTo(new[] { "9:ping", "8:\u0003\u00E8" }));
        }
    }

    [TestCase(new byte[] { 0x82, 0x01, 0 }, 1002, TestName = "unmasked")]
    [TestCase(new byte[] { 0x81, 0x81 }, 1003, TestName = "text")]
    [TestCase(new byte[] { 0xC2, 0x81 }, 1002, TestName = "reserved bit")]
    [TestCase(new byte[] { 0x80, 0x81 }, 1002, TestName = "continuation of nothing")]
    [TestCase(new byte[] { 0x09, 0x81 }, 1002, TestName = "fragmented control")]
    [TestCase(new byte[] { 0x89, 0xFE }, 1002, TestName = "long control")]
    public void Frames_AgainstTheProtocol_AreErrors(byte[] stream, int code)
    {
        var decoder = new WebSocketDecoder();
        Assert.That(decoder.Decode(stream, out _, out _), Is.EqualTo(WebSocketStatus.Error));
        Assert.That(decoder.CloseCode, Is.EqualTo(code));
    }

    [Test]
    public void Frames_NoiseNeverThrows() => Prop.ForAll<byte[]>(data =>
    {
        var decoder = new WebSocketDecoder();
        Span<byte> rest = data;
        while (!rest.IsEmpty)
        {
            WebSocketStatus status = decoder.Decode(rest, out int consumed, out int payload);
            if (status == WebSocketStatus.Error)
            {
                return true;
            }

            if (payload > consumed || consumed == 0)
            {
                return false;
            }

            rest = rest[consumed..];
        }

        return true;
    }).QuickCheckThrowOnFailure();

    [Test]
    public void TelnetServer_GreetsBreaksAndDoubles()
    {
        using var world = new ChardevWorld();
        Chardev chardev = world.Add("t", SocketChardevTests.Tcp(0, "", ",'wait':false,'telnet':true"));
        Assert.That(chardev.Filename, Is.EqualTo($"disconnected:telnet:127.0.0.1:{SocketChardevTests.PortOf(chardev)},server=on"));
        var front = new Recorder(chardev);
        using Peer peer = Peer.Tcp(SocketChardevTests.PortOf(chardev));
        world.Until(() => chardev.IsOpen);
        Assert.That(Encoding.Latin1.GetBytes(peer.Read(12)), Is.EqualTo(new byte[] { 255, 251, 1, 255, 251, 3, 255, 251, 0, 255, 253, 0 }));
        peer.Send([255, 253, 1, .. "x"u8, 255, 243, .. "y"u8]);
        world.Until(() => front.Text == "xy");
        Assert.That(front.Events, Does.Contain(ChardevEvent.Break));
        Assert.That(chardev.Write([1, 255, 2]), Is.EqualTo(3));
        Assert.That(peer.Read(4), Is.EqualTo("\u0001\u00FF\u00FF\u0002"));
    }

    [Test]
    public void WebSocketServer_TalksFrames()
    {
        using var world = new ChardevWorld();
        Chardev chardev = world.Add("w", SocketChardevTests.Tcp(0, "", ",'wait':false,'websocket':true"));
        var front = new Recorder(chardev) { Limit = 2 };
        using Peer peer = Peer.Tcp(SocketChardevTests.PortOf(chardev));
        string request = Request + "\r\n";
        peer.Send(request[..30]);
        world.Settle();
        Assert.That(chardev.IsOpen, Is.False);
        peer.Send([.. Encoding.ASCII.GetBytes(request[30..]), .. Frame(2, "data"u8)]);
        world.Until(() => front.Text == "data");
        Assert.That(chardev.Filename, Does.StartWith("websocket:127.0.0.1:"));
        Assert.That(peer.Read(184), Does.StartWith("HTTP/1.1 101 ").And.EndsWith("=\r\n\r\n"));
        Assert.That(chardev.Write("back"u8), Is.EqualTo(4));
        Assert.That(peer.Read(6), Is.EqualTo("\u0082\u0004back"));
        peer.Send(Frame(9, "AB"u8));
        world.Settle();
        Assert.That(peer.Read(4), Is.EqualTo("\u008A\u0002AB"));
        peer.Send(Frame(8, [3, 232]));
        world.Until(() => !chardev.IsOpen);
        Assert.That(peer.Read(4), Is.EqualTo("\u0088\u0002\u0003\u00E8"));
        Assert.That(peer.Read(), Is.Null);
    }

    private static void Feed(WebSocketDecoder decoder, byte[] bytes, List<byte> data, List<string> control)
    {
        Span<byte> rest = bytes;
        while (!rest.IsEmpty)
        {
            WebSocketStatus status = decoder.Decode(rest, out int consumed, out int payload);
            Assert.That(status, Is.Not.EqualTo(WebSocketStatus.Error));
            data.AddRange(rest[..payload]);
            if (status == WebSocketStatus.Control)
            {
                control.Add($"{decoder.Opcode}:{Encoding.Latin1.GetString(decoder.Control)}");
            }

            rest = rest[consumed..];
        }
    }

    private static byte[] Frame(byte opcode, ReadOnlySpan<byte> payload, bool final = true)
    {
        byte[] mask = [1, 2, 3, 4];
        var frame = new List<byte> { (byte)((final ? 0x80 : 0) | opcode) };
        if (payload.Length < 126)
        {
            frame.Add((byte)(0x80 | payload.Length));
        }
        else
        {
            frame.AddRange([0x80 | 126, (byte)(payload.Length >> 8), (byte)payload.Length]);
        }

        frame.AddRange(mask);
        for (int i = 0; i < payload.Length; i++)
        {
            frame.Add((byte)(payload[i] ^ mask[i & 3]));
        }

        return [.. frame];
    }
}
