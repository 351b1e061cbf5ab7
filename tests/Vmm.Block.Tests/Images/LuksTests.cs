using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.Block.Tests.Qcow2;
using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Tests.Images;

/// <summary>Encrypted volumes, with qemu-img and qemu-io on the other side.</summary>
public sealed class LuksTests : Qcow2Fixture
{
    private const string Secret = "secret,id=s,data=open sesame";

    // A volume of qemu-img's, which takes a second or two for each to find out how long its iterations take.
    private byte[]? _volume;

    [SetUp]
    public void HaveSecrets() => Graph.DriverRegistry.FindSecret = static id => id switch
    {
        "s" => "open sesame",
        "bad" => "open",
        _ => throw new QapiException($"No secret with id '{id}'"),
    };

    /// <summary>Each name that a header may have, by qemu-img.</summary>
    [TestCase("")]
    [TestCase("cipher-alg=aes-128,cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256,hash-alg=ripemd160")]
    [TestCase("cipher-mode=cbc,ivgen-alg=plain,hash-alg=sha1")]
    [TestCase("cipher-mode=ecb,hash-alg=sha512")]
    [TestCase("cipher-alg=serpent-192,hash-alg=md5")]
    [TestCase("cipher-alg=twofish-192,ivgen-alg=essiv,ivgen-hash-alg=md5,hash-alg=sha224")]
    [TestCase("cipher-alg=cast5-128,cipher-mode=ctr,ivgen-alg=plain,hash-alg=sha384")]
    public void AVolumeIsReadAndWrittenAsQemuDoes(string options)
    {
        byte[] contents = Pattern(1 << 20, 1);
        string raw = PathOf("raw");
        File.WriteAllBytes(raw, contents);
        string path = PathOf("v.luks");
        string all = "key-secret=s,iter-time=10" + (options.Length > 0 ? "," + options : "");
        Img("convert", "-O", "luks", "--object", Secret, "-o", all, raw, path);
        ReadAndWrite(path, contents);
    }

    /// <summary>A volume of the product's, which qemu-img fills.</summary>
    [TestCase("cipher-alg=aes-128")]
    [TestCase("cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256")]
    [TestCase("ivgen-alg=essiv,ivgen-hash-alg=sha256")]
    [TestCase("ivgen-alg=essiv,ivgen-hash-alg=md5,hash-alg=md5")]
    [TestCase("cipher-mode=ctr,hash-alg=sha1")]
    [TestCase("cipher-mode=ctr,ivgen-alg=essiv,ivgen-hash-alg=md5")]
    [TestCase("cipher-alg=serpent-256,hash-alg=sha224")]
    [TestCase("cipher-alg=serpent-128,cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256")]
    [TestCase("cipher-alg=twofish-256,cipher-mode=ctr,ivgen-alg=plain")]
    [TestCase("cipher-alg=twofish-128,cipher-mode=ecb,hash-alg=ripemd160")]
    [TestCase("cipher-alg=cast5-128,cipher-mode=cbc,hash-alg=sha384")]
    [TestCase("cipher-alg=cast5-128,cipher-mode=ecb,hash-alg=sha512")]
    public void AVolumeIsMadeForQemu(string options)
    {
        byte[] contents = Pattern(1 << 20, 1);
        string raw = PathOf("raw");
        File.WriteAllBytes(raw, contents);
        string path = NewFile("v.luks", 0);
        Make("{'driver': 'luks', 'size': 1048576, 'key-secret': 's', 'iter-time': 1, 'file': {'driver': 'file', 'filename': '" + path + "'}" + Json(options) + "}");
        Img("convert", "-n", "--object", Secret, "--target-image-opts", raw, $"driver=luks,key-secret=s,file.filename={path}");
        ReadAndWrite(path, contents);
    }

    [Test]
    public void AWrongPasswordIsRefused()
    {
        string path = PathOf("v.luks");
        File.WriteAllBytes(path, Volume());
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
    [TestCase(8, "73657270656e7400")]
    [TestCase(8, "636173743500")]
    [TestCase(8, "646573335f65646500")]
    [TestCase(40, "6374722d706c61696e363400")]
    [TestCase(40, "7874732d657373697600")]
    [TestCase(40, "7874732d65737369763a7368613100")]
    [TestCase(40, "7874732d65737369763a73686135313200")]
    [TestCase(40, "7874732d65737369763a73686132323400")]
    [TestCase(40, "7874732d65737369763a726970656d6431363000")]
    [TestCase(40, "7874732d65737369763a6d643400")]
    [TestCase(72, "73686132353700")]
    [TestCase(72, "6d643500")]
    [TestCase(72, "73686132323400")]
    [TestCase(72, "726970656d6431363000")]
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
        byte[] bytes = Volume();
        System.Convert.FromHexString(hex).CopyTo(bytes, offset);
        File.WriteAllBytes(path, bytes);
        string text = Run("qemu-io", "--object", Secret, "--image-opts", "-c", "quit", $"driver=luks,key-secret=s,file.filename={path}").Text.Trim();
        string expected = text[(text.LastIndexOf(": ", StringComparison.Ordinal) + 2)..];
        Refused(() => OpenVolume(path, "s"), expected);
    }

    [TestCase("cipher-alg=des")]
    [TestCase("cipher-alg=3des,cipher-mode=cbc")]
    [TestCase("cipher-alg=cast5-128")]
    [TestCase("cipher-alg=cast5-128,cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256")]
    [TestCase("cipher-alg=aes-256,cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha512")]
    [TestCase("cipher-alg=serpent-256,cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha1")]
    [TestCase("cipher-alg=twofish-256,cipher-mode=xts,ivgen-alg=essiv,ivgen-hash-alg=sha384")]
    [TestCase("cipher-alg=aes-128,cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha224")]
    [TestCase("cipher-alg=aes-256,cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=ripemd160")]
    [TestCase("hash-alg=md4")]
    public void WhatCannotBeHadIsRefusedInQemusWords(string options)
    {
        string path = PathOf("v.luks");
        string text = Run("qemu-img", "create", "-q", "-f", "luks", "--object", Secret, "-o", "key-secret=s,iter-time=10," + options, path, "1M").Text.Trim();
        string expected = text[(text.LastIndexOf(": ", StringComparison.Ordinal) + 2)..];
        NewFile("v.luks", 0);
        Refused(
            () => Make("{'driver': 'luks', 'size': 1048576, 'key-secret': 's', 'iter-time': 1, 'file': {'driver': 'file', 'filename': '" + path + "'}" + Json(options) + "}"),
            expected);
    }

    [TestCase("")]
    [TestCase("cluster_size=4k,compat=0.10")]
    [TestCase("extended_l2=on")]
    [TestCase("encrypt.cipher-alg=serpent-256,encrypt.cipher-mode=ctr,encrypt.hash-alg=sha224")]
    [TestCase("encrypt.cipher-mode=cbc,encrypt.ivgen-alg=essiv,encrypt.ivgen-hash-alg=sha256")]
    public void AnEncryptedQcow2IsReadAndWrittenAsQemuDoes(string options)
    {
        byte[] contents = Pattern(1 << 20, 1);
        contents.AsSpan(200_000, 500_000).Clear();
        string raw = PathOf("raw");
        File.WriteAllBytes(raw, contents);
        string path = PathOf("e.qcow2");
        string all = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10" + (options.Length > 0 ? "," + options : "");
        Img("convert", "-O", "qcow2", "--object", Secret, "-o", all, raw, path);
        UseEncrypted(path, contents);
    }

    [Test]
    public void OptionsOfEncryptionMustBeThoseOfTheImage()
    {
        string path = PathOf("e.qcow2");
        Img("create", "-q", "-f", "qcow2", "--object", Secret, "-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", path, "1M");
        Refused(() => OpenImage(path), "Parameter 'encrypt.key-secret' is required for cipher");
        Refused(() => OpenImage(path, "'encrypt': {'format': 'luks'}, "), "Parameter 'encrypt.key-secret' is required for cipher");
        Refused(() => OpenImage(path, "'encrypt': {'format': 'luks', 'key-secret': 'bad'}, "), "Invalid password, cannot unlock any keyslot");
        Refused(
            () => OpenImage(path, "'encrypt': {'format': 'aes', 'key-secret': 's'}, "),
            "Header reported 'luks' encryption format but options specify 'aes'");
        Refused(
            () => OpenImage(Create("plain", "1M"), "'encrypt': {'format': 'luks', 'key-secret': 's'}, "),
            "No encryption in image header, but options specified format 'luks'");
        Assert.That(Graph.Nodes, Is.Empty);
    }

    [TestCase("'cluster-size': 65536", "")]
    [TestCase("'cluster-size': 512, 'version': 'v2'", ", 'hash-alg': 'ripemd160', 'cipher-mode': 'cbc', 'ivgen-alg': 'essiv', 'ivgen-hash-alg': 'md5'")]
    public void AnEncryptedQcow2IsMade(string options, string encryption)
    {
        string path = NewFile("e.qcow2", 0);
        Make("{'driver': 'qcow2', 'size': 1048576, 'file': {'driver': 'file', 'filename': '" + path + "'}, "
            + "'encrypt': {'format': 'luks', 'key-secret': 's', 'iter-time': 1" + encryption + "}, " + options + "}");
        UseEncrypted(path, new byte[1 << 20]);
    }

    [Test]
    public void AVolumeIsMade()
    {
        string path = NewFile("v.luks", 0);
        Make("{'driver': 'luks', 'size': 1048576, 'key-secret': 's', 'iter-time': 1, 'file': {'driver': 'file', 'filename': '" + path + "'} }");
        BlockNode node = OpenVolume(path, "s");
        Assert.That(node.Length, Is.EqualTo(1 << 20));
        byte[] data = Pattern(1 << 20, 3);
        Write(node, 0, data);
        CloseNode(node);
        Assert.That(Decrypted(path, "luks").AsSpan().SequenceEqual(data));
        Refused(
            () => Make("{'driver': 'luks', 'size': 0, 'file': {'driver': 'file', 'filename': '" + path + "'} }"),
            "Parameter 'key-secret' is required for cipher");
    }

    private void ReadAndWrite(string path, byte[] contents)
    {
        BlockNode node = OpenVolume(path, "s");
        Assert.That(ReadAll(node, 1).AsSpan().SequenceEqual(contents));
        byte[] data = Pattern(300_000, 2);
        Write(node, 12345, data);
        data.CopyTo(contents, 12345);
        Assert.That(ReadAll(node, 2).AsSpan().SequenceEqual(contents));
        CloseNode(node);
        Assert.That(Decrypted(path, "luks").AsSpan().SequenceEqual(contents));
    }

    // Options as qemu-img has them, as members of an object.
    private static string Json(string options) => string.Concat(options.Split(',').Select(o => $", '{o[..o.IndexOf('=')]}': '{o[(o.IndexOf('=') + 1)..]}'"));

    private byte[] Volume()
    {
        if (_volume is null)
        {
            Img("create", "-q", "-f", "luks", "--object", Secret, "-o", "key-secret=s,iter-time=10", PathOf("made"), "1M");
            _volume = File.ReadAllBytes(PathOf("made"));
        }

        return (byte[])_volume.Clone();
    }

    private void Make(string json)
    {
        BlockdevCreateOptions options = BlockdevCreateOptions.QapiRead(QValue.Parse(json), new QapiReader(), null);
        Loop.RunUntil(Graph.DriverRegistry.Find(options.Driver).CreateImage!(Graph, options));
    }

    private void UseEncrypted(string path, byte[] contents)
    {
        BlockNode node = OpenImage(path, "'encrypt': {'format': 'luks', 'key-secret': 's'}, ");
        Assert.That(node.Driver.IsEncrypted);
        Assert.That(ReadAll(node, 1).AsSpan().SequenceEqual(contents));
        byte[] data = Pattern(300_000, 2);
        foreach (int offset in new[] { 12345, 333_333, 700_001 })
        {
            Write(node, offset, data.AsSpan(0, 100_000 + (offset % 7)));
            data.AsSpan(0, 100_000 + (offset % 7)).CopyTo(contents.AsSpan(offset));
        }

        Assert.That(ReadAll(node, 2).AsSpan().SequenceEqual(contents));
        CloseNode(node);
        string check = Img("check", "--object", Secret, "--image-opts", $"driver=qcow2,encrypt.key-secret=s,file.filename={path}");
        Assert.That(check, Does.Contain("No errors were found"));
        Assert.That(Decrypted(path, "qcow2").AsSpan().SequenceEqual(contents));
        Assert.That(Graph.Nodes, Is.Empty);
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
