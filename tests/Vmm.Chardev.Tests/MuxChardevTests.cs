using Vmm.ObjectModel.Chardevs;
using Vmm.Qapi;

namespace Vmm.Chardevs.Tests;

public sealed class MuxChardevTests
{
    private ChardevWorld _world = null!;
    private Peer _peer = null!;
    private Chardev _mux = null!;

    [SetUp]
    public void SetUp()
    {
        _world = new ChardevWorld();
        (_peer, Vmm.Interop.SafeFd other) = Peer.Pair();
        _world.Add("base", $"{{'type':'socket','data':{{'addr':{{'type':'fd','data':{{'str':'{other.Detach()}'}}}},'server':false}}}}");
        _mux = _world.Add("m", "{'type':'mux','data':{'chardev':'base'}}");
    }

    [TearDown]
    public void TearDown()
    {
        _peer.Dispose();
        _world.Dispose();
    }

    [Test]
    public void Input_GoesToTheOneWithTheFocus()
    {
        var first = new Recorder(_mux);
        var second = new Recorder(_mux);
        Assert.That(first.Events, Is.EqualTo(new[] { ChardevEvent.MuxIn, ChardevEvent.Opened, ChardevEvent.MuxOut }));
        Assert.That(second.Events, Is.EqualTo(new[] { ChardevEvent.MuxIn, ChardevEvent.Opened }));
        _peer.Send("a\x01" + "cb\x01" + "cd\x01\x01");
        _world.Until(() => second.Text == "ad\x01");
        Assert.That(first.Text, Is.EqualTo("b"));
        Assert.That(first.Events[^2..], Is.EqualTo(new[] { ChardevEvent.MuxIn, ChardevEvent.MuxOut }));
        first.Frontend.Write("x"u8);
        second.Frontend.Write("y"u8);
        Assert.That(_peer.Read(), Is.EqualTo("xy"));
    }

    [Test]
    public void EscapeSequence_MayBeSplitAnywhere([Range(1, 7)] int split)
    {
        const string Input = "1\x01" + "c2\x01" + "b3";
        var first = new Recorder(_mux);
        var second = new Recorder(_mux);
        _peer.Send(Input[..split]);
        _world.Settle();
        if (split < Input.Length)
        {
            _peer.Send(Input[split..]);
        }

        _world.Until(() => first.Text == "23");
        Assert.That(second.Text, Is.EqualTo("1"));
        Assert.That(first.Events[^1], Is.EqualTo(ChardevEvent.Break));
    }

    [Test]
    public void InputForABusyFrontEnd_WaitsAndCommandsStillWork()
    {
        var first = new Recorder(_mux);
        var second = new Recorder(_mux) { Limit = 0 };
        string text = new('z', 20);
        _peer.Send(text + "\x01" + "cto first\x01" + "c");
        _world.Until(() => first.Text == "to first");
        Assert.That(second.Text, Is.Empty);
        second.Limit = 7;
        second.Frontend.AcceptInput();
        _world.Until(() => second.Text == text);
    }

    [Test]
    public void Commands_AreCarriedOut()
    {
        var front = new Recorder(_mux);
        _peer.Send("\x01" + "h");
        _world.Settle();
        string help = "\n\rC-a h    print this help\n\r";
        Assert.That(_peer.Read(help.Length), Is.EqualTo(help));
        Assert.That(_peer.Read(), Does.EndWith("C-a C-a  sends C-a\n\r"));
        _peer.Send("\x01x");
        _world.Until(() => _world.Quits == 1);
        Assert.That(_peer.Read(), Is.EqualTo("QEMU: Terminated\n\r"));
        _peer.Send("\x01t");
        _world.Settle();
        front.Frontend.Write("a\nb\n"u8);
        Assert.That(_peer.Read(), Does.Match(@"^\[00:00:0\d\.\d{3}\] a\n\[00:00:0\d\.\d{3}\] b\n$"));
    }

    [Test]
    public void Attach_IsLimited()
    {
        for (int i = 0; i < MuxChardev.MaxFrontends; i++)
        {
            _ = new Recorder(_mux);
        }

        QapiException error = Assert.Throws<QapiException>(() => _ = new Recorder(_mux))!;
        Assert.That(error.Desc, Is.EqualTo("too many uses of multiplexed chardev 'm' (maximum is 4)"));
    }

    [Test]
    public void Base_IsInUseAndTheMuxCannotBeRemoved()
    {
        QapiException error = Assert.Throws<QapiException>(() => _world.Add("n", "{'type':'mux','data':{'chardev':'base'}}"))!;
        Assert.That(error.Desc, Is.EqualTo("Failed to add chardev 'n': Device 'base' is in use"));
        error = Assert.Throws<QapiException>(() => _world.Registry.Remove("base"))!;
        Assert.That(error.Desc, Is.EqualTo("Chardev 'base' is busy"));
        error = Assert.Throws<QapiException>(() => _world.Registry.Remove("m"))!;
        Assert.That(error.Desc, Is.EqualTo("Chardev 'm' is busy"));
        error = Assert.Throws<QapiException>(() => _world.Registry.Change("m", ChardevWorld.Backend("{'type':'null','data':{}}"), null))!;
        Assert.That(error.Desc, Is.EqualTo("Mux device hotswap not supported yet"));
    }

    [Test]
    public void HangUp_IsToldToAll()
    {
        var first = new Recorder(_mux);
        var second = new Recorder(_mux);
        _peer.Dispose();
        _world.Until(() => first.Events[^1] == ChardevEvent.Closed && second.Events[^1] == ChardevEvent.Closed);
        Assert.That(_mux.IsOpen, Is.False);
    }
}
