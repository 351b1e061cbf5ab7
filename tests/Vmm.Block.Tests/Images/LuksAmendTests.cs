using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.Block.Tests.Qcow2;
using Vmm.EventLoop.Tasks;
using Vmm.Qapi;

namespace Vmm.Block.Tests.Images;

/// <summary>Key slots that are filled and erased while the image is open; qemu-io opens it with what is left.</summary>
[TestFixture("luks")]
[TestFixture("qcow2")]
public sealed class LuksAmendTests(string format) : Qcow2Fixture
{
    private BlockNode _node = null!;
    private byte[]? _image;

    [SetUp]
    public void MakeImage()
    {
        Graph.DriverRegistry.FindSecret = static id => id.StartsWith('s') ? "pw" + id[1..] : throw new QapiException($"No secret with id '{id}'");
        if (_image is null)
        {
            string prefix = format == "luks" ? "" : "encrypt.";
            Img(
                "create", "-q", "-f", format, "--object", "secret,id=s0,data=pw0", "-o",
                $"{(format == "luks" ? "" : "encrypt.format=luks,")}{prefix}key-secret=s0,{prefix}iter-time=10", PathOf("i"), "1M");
            _image = File.ReadAllBytes(PathOf("i"));
        }

        File.WriteAllBytes(PathOf("i"), _image);
        string secret = format == "luks" ? "'key-secret': 's0'" : "'encrypt': {'format': 'luks', 'key-secret': 's0'}";
        _node = Open($$"""{'driver': '{{format}}', 'node-name': 'l', 'file': {'driver': 'file', 'filename': '{{PathOf("i")}}'}, {{secret}} }""".Replace('\'', '"'));
        Graph.AddMonitorOwned(_node);
    }

    [Test]
    public void PasswordsComeAndGo()
    {
        Write(_node, 0, Pattern(65536, 1));
        Amend("'state': 'active', 'new-secret': 's1', 'iter-time': 1");
        Assert.That(Active(), Is.EqualTo("11000000"));
        Amend("'state': 'active', 'new-secret': 's2', 'secret': 's1', 'keyslot': 5, 'iter-time': 1");
        Assert.That(Active(), Is.EqualTo("11000100"));
        Amend("'state': 'inactive', 'old-secret': 's0'");
        Assert.That(Active(), Is.EqualTo("01000100"));
        Assert.That(Error("'state': 'active', 'new-secret': 's1'"), Is.EqualTo("Invalid password, cannot unlock any keyslot"));
        Amend("'state': 'inactive', 'keyslot': 1");
        Assert.That(Read(_node, 0, 65536), Is.EqualTo(Pattern(65536, 1)));
        Loop.RunUntil(Graph.DeleteAsync(_node));
        Assert.That(Opens("pw2"), Is.True);
        Assert.That(Opens("pw0"), Is.False);
        Assert.That(Opens("pw1"), Is.False);
    }

    [Test]
    public void RefusalsAreInQemusWords()
    {
        Assert.That(Error("'state': 'active'"), Is.EqualTo("'new-secret' is required to activate a keyslot"));
        Assert.That(Error("'state': 'active', 'new-secret': 's1', 'keyslot': 0"), Is.EqualTo("Refusing to overwrite active keyslot 0 - please erase it first"));
        Assert.That(Error("'state': 'active', 'new-secret': 's1', 'keyslot': 9"), Is.EqualTo("Invalid keyslot 9 specified, must be between 0 and 7"));
        Assert.That(Error("'state': 'active', 'new-secret': 's1', 'keyslot': -1"), Is.EqualTo("Invalid keyslot 4294967295 specified, must be between 0 and 7"));
        Assert.That(Error("'state': 'active', 'new-secret': 'no'"), Is.EqualTo("No secret with id 'no'"));
        Assert.That(Error("'state': 'active', 'new-secret': 's1', 'old-secret': 's2'"), Is.EqualTo("'old-secret' must not be given when activating keyslots"));
        Assert.That(Error("'state': 'inactive'"), Does.StartWith("To erase keyslot(s), either explicit keyslot index or the password"));
        Assert.That(Error("'state': 'inactive', 'keyslot': 5"), Is.EqualTo("Given keyslot 5 is already erased (inactive) "));
        Assert.That(Error("'state': 'inactive', 'keyslot': 0"), Does.StartWith("Attempt to erase the only active keyslot 0 which will erase all"));
        Assert.That(Error("'state': 'inactive', 'old-secret': 's0'"), Does.StartWith("All the active keyslots match the (old) password"));
        Assert.That(Error("'state': 'inactive', 'old-secret': 's1'"), Is.EqualTo("No keyslots match given (old) password for erase operation"));
        Assert.That(Error("'state': 'inactive', 'new-secret': 's1'"), Is.EqualTo("'new-secret' must not be given when erasing keyslots"));
        Assert.That(Error("'state': 'inactive', 'iter-time': 3, 'old-secret': 's1'"), Is.EqualTo("'iter-time' must not be given when erasing keyslots"));
        Assert.That(Error("'state': 'inactive', 'keyslot': 2, 'old-secret': 's1'"), Does.StartWith("Given keyslot 2 doesn't contain the given old password"));
        Assert.That(Active(), Is.EqualTo("10000000"));
        Amend("'state': 'inactive', 'keyslot': 0", force: true);
        Assert.That(Active(), Is.EqualTo("00000000"));
        Loop.RunUntil(Graph.DeleteAsync(_node));
    }

    private void Amend(string options, bool force = false)
    {
        string json = format == "luks"
            ? $$"""{'driver': 'luks', {{options}} }"""
            : $$"""{'driver': 'qcow2', 'encrypt': {'format': 'luks', {{options}} } }""";
        BlockdevAmendOptions amend = BlockdevAmendOptions.QapiRead(QValue.Parse(json.Replace('\'', '"')), new QapiReader(), null);
        Loop.RunUntil(Graph.ChangeAsync(() => _node.Driver.AmendAsync(amend, force)));
    }

    private string Error(string options) => Assert.Throws<QapiException>(() => Amend(options))!.Desc;

    private string Active()
    {
        Drivers.ImageDescription image = new();
        _node.Driver.DescribeImage(image);
        QDict data = image.FormatSpecific!.GetDict("data")!;
        QDict luks = format == "luks" ? data : data.GetDict("encrypt")!;
        return string.Concat(((QList)luks["slots"]).Select(static s => ((QBool)((QDict)s)["active"]).Value ? '1' : '0'));
    }

    private bool Opens(string password)
    {
        string options = format == "luks" ? "key-secret=s" : "encrypt.key-secret=s";
        (int code, string text) = Run(
            "qemu-io", "--object", "secret,id=s,data=" + password, "--image-opts", $"driver={format},file.filename={PathOf("i")},{options}", "-c", "read 0 4k");
        Assert.That(text, code == 0 ? Does.Contain("read 4096/4096") : Does.Contain("Invalid password"));
        return code == 0;
    }
}
