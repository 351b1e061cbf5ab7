using System.Text;
using Vmm.Devices.Isa;
using Vmm.Devices.Serial16550;
using Vmm.ObjectModel.Chardevs;
using Vmm.Qapi;
using Vmm.TestKit.Devices;

namespace Vmm.Devices.Tests;

public sealed class SerialTests
{
    private const int Base = 0x3f8;
    private FakeMachineServices _machine = null!;
    private IsaBus _bus = null!;
    private FakeChardev _chardev = null!;
    private IsaSerial _serial = null!;

    [SetUp]
    public void SetUp()
    {
        _machine = new FakeMachineServices();
        _bus = new IsaBus { BusName = "isa.0" };
        _chardev = new FakeChardev { Label = "c0" };
        _machine.Objects.Chardevs.AddChild("c0", _chardev);
        _serial = new IsaSerial { Chardev = "c0" };
        _machine.Devices.Realize(_serial, _bus);
    }

    [TearDown]
    public void TearDown() => _machine.Dispose();

    [Test]
    public void PowerOnValuesAreThoseOfQemu()
    {
        int[] expected = [0x00, 0x00, 0x01, 0x00, 0x08, 0x60, 0xb0, 0x00];
        for (int i = 0; i < expected.Length; i++)
        {
            Assert.That(_machine.In((ulong)(Base + i)), Is.EqualTo((ulong)expected[i]), $"register {i}");
        }
    }

    [Test]
    public void WritesReachTheBackEnd()
    {
        foreach (byte b in "hello"u8)
        {
            _machine.Out(Base, b);
        }

        Assert.That(Encoding.ASCII.GetString([.. _chardev.Written]), Is.EqualTo("hello"));
        Assert.That(_machine.In(Base + 5), Is.EqualTo(0x60));
    }

    [Test]
    public void ABlockedBackEndKeepsTheTransmitterBusyAndLosesNothing()
    {
        _machine.Out(Base + 2, 0x01);
        _chardev.Blocked = true;
        foreach (byte b in "abc"u8)
        {
            _machine.Out(Base, b);
        }

        Assert.That(_machine.In(Base + 5) & 0x40, Is.Zero, "transmitter not empty");
        _chardev.Unblock();
        Assert.That(Encoding.ASCII.GetString([.. _chardev.Written]), Is.EqualTo("abc"));
        Assert.That(_machine.In(Base + 5), Is.EqualTo(0x60));
    }

    [Test]
    public void ReceiveRaisesTheLineAtTheTriggerLevel()
    {
        _machine.Out(Base + 2, 0x41);
        _machine.Out(Base + 1, 0x01);
        Assert.That(_chardev.Send("abc"u8), Is.EqualTo(3));
        Assert.That(_machine.Interrupts.IsHigh(4), Is.False);
        _chardev.Send("d"u8);
        Assert.That(_machine.Interrupts.IsHigh(4), Is.True);
        Assert.That(_machine.In(Base + 2), Is.EqualTo(0xc4));
        Assert.That(_machine.In(Base), Is.EqualTo((ulong)'a'));
        Assert.That(_machine.Interrupts.IsHigh(4), Is.False);
    }

    [Test]
    public void SilenceBelowTheTriggerLevelIsACharacterTimeout()
    {
        _machine.Out(Base + 2, 0xc1);
        _machine.Out(Base + 1, 0x01);
        _chardev.Send("x"u8);
        Assert.That(_machine.Interrupts.IsHigh(4), Is.False);
        _machine.Step(4 * 10 * 1_000_000_000L / 9600);
        Assert.That(_machine.In(Base + 2), Is.EqualTo(0xcc));
        Assert.That(_machine.In(Base), Is.EqualTo((ulong)'x'));
        Assert.That(_machine.In(Base + 2), Is.EqualTo(0xc1));
    }

    [Test]
    public void AFullFifoTakesNoMore()
    {
        _machine.Out(Base + 2, 0x01);
        Assert.That(_chardev.Send(new byte[40]), Is.EqualTo(16));
        _machine.In(Base);
        Assert.That(_chardev.Accepts, Is.GreaterThan(0));
        Assert.That(_chardev.Send(new byte[40]), Is.EqualTo(1));
    }

    [Test]
    public void BreakShowsOnceInTheLineStatus()
    {
        _machine.Out(Base + 1, 0x04);
        _chardev.Raise(ChardevEvent.Break);
        Assert.That(_machine.Interrupts.IsHigh(4), Is.True);
        Assert.That(_machine.In(Base + 5) & 0x11, Is.EqualTo(0x11));
        Assert.That(_machine.In(Base + 5) & 0x10, Is.Zero);
        Assert.That(_machine.Interrupts.IsHigh(4), Is.False);
    }

    [Test]
    public void LoopbackConnectsOutputsToInputs()
    {
        _machine.Out(Base + 4, 0x1f);
        Assert.That(_machine.In(Base + 6), Is.EqualTo(0xf0));
        _machine.Out(Base, 0x41);
        Assert.That(_chardev.Written, Is.Empty);
        Assert.That(_machine.In(Base), Is.EqualTo(0x41));
    }

    [Test]
    public void PortsAndInterruptsFollowTheIndex()
    {
        (int Index, ulong Port, uint Irq)[] expected = [(1, 0x2f8, 3), (2, 0x3e8, 4), (3, 0x2e8, 3)];
        foreach ((int index, ulong port, uint irq) in expected)
        {
            var serial = new IsaSerial();
            _machine.Devices.Realize(serial, _bus);
            Assert.That((serial.Index, (ulong)serial.IoBase, serial.Irq), Is.EqualTo(((uint)index, port, irq)));
            Assert.That(_machine.In(port + 5), Is.EqualTo(0x60));
        }

        Assert.That(
            () => _machine.Devices.Realize(new IsaSerial(), _bus),
            Throws.TypeOf<QapiException>().With.Property("Desc").EqualTo("Max. supported number of ISA serial ports is 4."));
    }

    [Test]
    public void ChardevErrorsAreQemus()
    {
        Assert.That(
            () => _machine.Devices.Realize(new IsaSerial { Chardev = "nope" }, _bus),
            Throws.TypeOf<QapiException>().With.Property("Desc").EqualTo("Property 'serial.chardev' can't find value 'nope'"));
        Assert.That(
            () => _machine.Devices.Realize(new IsaSerial { Chardev = "c0" }, _bus),
            Throws.TypeOf<QapiException>().With.Property("Desc")
                .EqualTo("Property 'serial.chardev' can't take value 'c0': Device 'c0' is in use"));
    }

    [Test]
    public void UnrealizeFreesPortsAndBackEnd()
    {
        _machine.Devices.CompleteUnplug(_serial);
        Assert.That(_machine.In(Base + 5), Is.EqualTo(0xff));
        Assert.That(_chardev.IsBusy, Is.False);
    }
}
