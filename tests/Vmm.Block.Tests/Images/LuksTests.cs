using Vmm.Block.Graph;
using Vmm.Block.Tests.Qcow2;
using Vmm.Qapi;

namespace Vmm.Block.Tests.Images;

/// <summary>Encrypted volumes, with qemu-img and qemu-io on the other side.</summary>
public sealed class LuksTests : Qcow2Fixture
{
    private const string Secret = "secret,id=s,data=open sesame";

    [SetUp]
    public void HaveSecrets() => Graph.DriverRegistry.FindSecret = static id => id switch
    {
        "s" => "open sesame",
        "bad" => "open",
        _ => throw new QapiException($"No secret with id '{id}'"),
    };

    [TestCase("")]
    [TestCase("cipher-alg=aes-128")]
    [TestCase("cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256")]
    [TestCase("cipher-mode=cbc,ivgen-alg=plain,hash-alg=sha1")]
    [TestCase("cipher-mode=ecb,hash-alg=sha512")]
    [TestCase("ivgen-alg=essiv,ivgen-hash-alg=sha256")]
    public void AVolumeIsReadAndWrittenAsQemuDoes(string options)
    {
        byte[] contents = Pattern(1 << 20, 1);
        string raw = PathOf("raw");
        File.WriteAllBytes(raw, contents);
        string path = PathOf("v.luks");
        string all = "key-secret=s,iter-time=10" + (options.Length > 0 ? "," + options : "");
        Img("convert", "-O", "luks", "--object", Secret, "-o", all, raw, path);
        BlockNode node = OpenVolume(path, "s");
        Assert.That(ReadAll(node, 1).AsSpan().SequenceEqual(contents));
        byte[] data = Pattern(300_000, 2);
        Write(node, 12345, data);
        data.CopyTo(contents, 12345);
        Assert.That(ReadAll(node, 2).AsSpan().SequenceEqual(contents));
        CloseNode(node);
        Assert.That(Decrypted(path, "luks").AsSpan().SequenceEqual(contents));
    }

    [Test]
    public void AWrongPasswordIsRefused()
    {
        string path = PathOf("v.luks");
        Img("create", "-q", "-f", "luks", "--object", Secret, "-o", "key-secret=s,iter-time=10", path, "1M");
        Refused(() => OpenVolume(path, "bad"), "Invalid password, cannot unlock any keyslot");
        Refused(() => OpenVolume(path, "none"), "No secret with id 'none'");
        Refused(() => Open($"{{'driver': 'luks', 'file': {{'driver': 'file', 'filename': '{path}'}} }}"), "Parameter 'key-secret' is required for cipher");
        Refused(() => OpenVolume(NewFile("zero", 1 << 20), "s"), "Volume is not in LUKS format");
    }

    // Offset, bytes.
    [TestCase(7, "03")]
    [TestCase(8, "61657a00")]
    [TestCase(40, "787473706c61696e363400")]
    [TestCase(40, "78747a2d706c61696e363400")]
    [TestCase(40, "7874732d706c616e6500")]
    [TestCase(72, "73686132353700")]
    [TestCase(104, "00000001")]
    [TestCase(108, "00000001")]
    [TestCase(164, "00000000")]
    [TestCase(208, "00000001")]
    [TestCase(212, "00000000")]
    [TestCase(248, "00000001")]
    [TestCase(252, "00000001")]
    [TestCase(296, "00000009")]
    public void ABrokenHeaderIsRefusedInQemusWords(int offset, string hex)
    {
        string path = PathOf("v.luks");
        Img("create", "-q", "-f", "luks", "--object", Secret, "-o", "key-secret=s,iter-time=10", path, "1M");
        byte[] bytes = File.ReadAllBytes(path);
        System.Convert.FromHexString(hex).CopyTo(bytes, offset);
        File.WriteAllBytes(path, bytes);
        string text = Run("qemu-io", "--object", Secret, "--image-opts", "-c", "quit", $"driver=luks,key-secret=s,file.filename={path}").Text.Trim();
        string expected = text[(text.LastIndexOf(": ", StringComparison.Ordinal) + 2)..];
        Refused(() => OpenVolume(path, "s"), expected);
    }

    private static void Refused(Action open, string message) =>
        Assert.That(open, Throws.TypeOf<QapiException>().With.Message.EqualTo(message));

    private BlockNode OpenVolume(string path, string secret) =>
        Open($"{{'driver': 'luks', 'key-secret': '{secret}', 'file': {{'driver': 'file', 'filename': '{path}'}} }}");

    private byte[] Decrypted(string path, string format)
    {
        string prefix = format == "qcow2" ? "encrypt." : "";
        string target = PathOf("decrypted");
        Img("convert", "--object", Secret, "--image-opts", "-O", "raw", $"driver={format},{prefix}key-secret=s,file.filename={path}", target);
        return File.ReadAllBytes(target);
    }
}
