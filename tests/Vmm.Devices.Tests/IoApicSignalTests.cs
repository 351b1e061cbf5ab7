using Vmm.Devices.IoApic;
using Vmm.ObjectModel.Accel;
using Vmm.TestKit.Devices;

namespace Vmm.Devices.Tests;

/// <summary>Inputs of an I/O APIC that another thread drives: messages go by signal, by the same rules as all others.</summary>
public sealed class IoApicSignalTests
{
    private const int Pin = 5;
    private const uint Masked = 1u << 16;
    private const uint Level = 1u << 15;

    private readonly List<(ulong Address, uint Data)> _sent = [];
    private FakeMachineServices _machine = null!;
    private IoApicDevice _chip = null!;
    private FakeSignal _signal = null!;

    [SetUp]
    public void Build()
    {
        _sent.Clear();
        _signal = new FakeSignal();
        _machine = new FakeMachineServices();
        _chip = new IoApicDevice { Send = (address, data) => _sent.Add((address, data)), CreateSignal = () => _signal };
        _machine.Devices.Realize(_chip, _machine.MainSystemBus);
        _chip.UseSignal(Pin);
    }

    [TearDown]
    public void End() => _machine.Dispose();

    [Test]
    public void AnEdgeIsSignalledUnlessMasked()
    {
        Redirect(Pin, 0x41 | Masked);
        _chip.SetLevel(Pin, 1);
        Assert.That(_signal.Sent, Is.Empty);
        _chip.SetLevel(Pin, 0);
        Redirect(Pin, 0x41);
        _chip.SetLevel(Pin, 1);
        _chip.SetLevel(Pin, 0);
        _chip.SetLevel(Pin, 1);
        Assert.That(_signal.Sent, Is.EqualTo(new[] { 0x41u, 0x41u }));
        Assert.That(_sent, Is.Empty);
    }

    [Test]
    public void ALevelIsSignalledAgainAtTheEndWhileItIsHigh()
    {
        Redirect(Pin, 0x42 | Level);
        _chip.SetLevel(Pin, 1);
        _chip.SetLevel(Pin, 0);
        _chip.SetLevel(Pin, 1);
        Assert.That(_signal.Sent, Has.Count.EqualTo(1), "one until its end");
        _chip.EndOfInterrupt(0x42);
        Assert.That(_signal.Sent, Has.Count.EqualTo(2));
        _chip.SetLevel(Pin, 0);
        _chip.EndOfInterrupt(0x42);
        Assert.That(_signal.Sent, Has.Count.EqualTo(2));
    }

    [Test]
    public void WhatCannotBeSignalledIsSent()
    {
        Redirect(Pin + 1, 0x50);
        _chip.SetLevel(Pin + 1, 1);
        Assert.That(_sent.Select(static s => s.Data), Is.EqualTo(new[] { 0x50u }), "another input");
        Redirect(Pin, 0x51);
        _signal.IsRefused = true;
        _chip.SetLevel(Pin, 1);
        Assert.That(_sent.Select(static s => s.Data), Is.EqualTo(new[] { 0x50u, 0x51u }), "a message that the kernel refuses");
        Assert.That(_signal.Sent, Is.Empty);
    }

    [Test]
    public void InputsAreDrivenWithoutTheMachineLock()
    {
        const int Rounds = 2000;
        Redirect(Pin, 0x43 | Level);
        Redirect(Pin + 1, 0x44);
        Thread other = new(() =>
        {
            for (int i = 0; i < Rounds; i++)
            {
                _chip.SetLevel(Pin, 1);
                _chip.SetLevel(Pin, 0);
            }
        });
        other.Start();
        for (int i = 0; i < Rounds; i++)
        {
            _chip.SetLevel(Pin + 1, 1);
            _chip.EndOfInterrupt(0x43);
        }

        other.Join();
        Assert.That(_sent, Has.Count.EqualTo(Rounds), "no edge of the other input was lost");
        _chip.EndOfInterrupt(0x43);
        int before = _signal.Sent.Count;
        _chip.SetLevel(Pin, 1);
        Assert.That(_signal.Sent, Has.Count.EqualTo(before + 1));
    }

    private void Redirect(int pin, uint low)
    {
        _machine.Memory.WriteU32(0xfec00000, (uint)(0x10 + (pin * 2)));
        _machine.Memory.WriteU32(0xfec00010, low);
    }

    private sealed class FakeSignal : IMessageSignal
    {
        private uint _data;

        public List<uint> Sent { get; } = [];

        public bool IsRefused { get; set; }

        public bool SetMessage(ulong address, uint data)
        {
            _data = data & 0xff;
            return !IsRefused;
        }

        public void Send() => Sent.Add(_data);

        public void Dispose()
        {
        }
    }
}
