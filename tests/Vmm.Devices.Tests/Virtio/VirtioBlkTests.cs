using System.Text;
using Vmm.Devices.Virtio;
using Vmm.EventLoop.Tasks;
using Vmm.ObjectModel.Block;
using Vmm.ObjectModel.Devices;
using Vmm.ObjectModel.VmState;
using Vmm.TestKit.Devices;

namespace Vmm.Devices.Tests.Virtio;

/// <summary>The disk as a driver sees it, over every kind of ring.</summary>
[TestFixture(true, false)]
[TestFixture(false, false)]
[TestFixture(false, true)]
public sealed class VirtioBlkTests(bool isLegacy, bool isPacked)
{
    private const byte Ok = 0;
    private const byte IoError = 1;
    private const byte Unsupported = 2;
    private const byte Pending = 255;

    private VirtioDisk _disk = null!;

    [SetUp]
    public void SetUp() => _disk = new VirtioDisk(isLegacy, isPacked);

    [TearDown]
    public void TearDown() => _disk.Dispose();

    [Test]
    public void RegistersAndFeaturesAreThoseOfQemu()
    {
        ulong features = _disk.SetUp();
        ulong expected = isLegacy ? 0x31006ed4ul : isPacked ? 0x539006e54ul : 0x139006e54ul;
        Assert.That(features, Is.EqualTo(expected));
        Assert.That(_disk.Read(0x00), Is.EqualTo(0x74726976u));
        Assert.That(_disk.Read(0x04), Is.EqualTo(isLegacy ? 1u : 2u));
        Assert.That(_disk.Read(0x08), Is.EqualTo(2u));
        Assert.That(_disk.Read(0x34), Is.EqualTo(1024u));
        Assert.That(_disk.Read(0x100), Is.EqualTo(128u), "capacity in sectors");
        Assert.That(_disk.Read(0x10c), Is.EqualTo(254u), "seg_max");
    }

    [Test]
    public void WhatIsWrittenIsReadBack([Values] bool isIndirect)
    {
        _disk.SetUp();
        byte[] data = Encoding.ASCII.GetBytes(new string('x', 1024));
        for (ulong i = 0; i < 40; i++)
        {
            data[0] = (byte)i;
            Assert.That(_disk.Request(1, i, data, 0, isIndirect), Is.EqualTo(Ok));
            Assert.That(_disk.Request(0, i, [], 1024, isIndirect), Is.EqualTo(Ok));
            Assert.That(_disk.Input(1024), Is.EqualTo(data));
        }

        Assert.That(_disk.Machine.Interrupts.IsHigh(VirtioDisk.Irq), Is.True);
        Assert.That(_disk.Read(0x60), Is.EqualTo(1u));
        _disk.Write(0x64, 1);
        Assert.That(_disk.Machine.Interrupts.IsHigh(VirtioDisk.Irq), Is.False);
    }

    [TestCase(true)]
    [TestCase(false)]
    public void AnotherThreadInterruptsAtOnceWhereTheControllerLetsIt(bool isFree)
    {
        _disk.SetUp();
        FreeSink sink = new();
        if (isFree)
        {
            _disk.Transport.Irq.Connect(sink, 0);
        }

        // The machine lock is held here, and the main loop does not run.
        Thread thread = new(() => _disk.Disk.InterruptQueue(0));
        thread.Start();
        thread.Join();
        Assert.That(isFree ? sink.Level != 0 : _disk.Machine.Interrupts.IsHigh(VirtioDisk.Irq), Is.EqualTo(isFree));
        _disk.Run();
        Assert.That(isFree ? sink.Level != 0 : _disk.Machine.Interrupts.IsHigh(VirtioDisk.Irq), Is.True);
        _disk.Write(0x64, 1);
        Assert.That(isFree ? sink.Level != 0 : _disk.Machine.Interrupts.IsHigh(VirtioDisk.Irq), Is.False, "acknowledged");
    }

    private sealed class FreeSink : IFreeInterruptSink
    {
        public int Level { get; private set; }

        public void SetLevel(int pin, int level) => Level = level;
    }

    [Test]
    public void TheOtherRequestsReachTheBackEnd()
    {
        _disk.Disk.Serial = "a serial number that is too long";
        _disk.SetUp();
        Assert.That(_disk.Request(4, 0, [], 0), Is.EqualTo(Ok));
        Assert.That(_disk.Request(8, 0, [], 20), Is.EqualTo(Ok));
        Assert.That(Encoding.ASCII.GetString(_disk.Input(20)), Is.EqualTo("a serial number that"));
        Assert.That(_disk.Request(13, 0, Range(2, 4, 1), 0), Is.EqualTo(Ok));
        Assert.That(_disk.Request(13, 0, Range(2, 4, 0), 0), Is.EqualTo(Ok));
        Assert.That(_disk.Request(11, 0, Range(2, 4, 0), 0), Is.EqualTo(Ok));
        Assert.That(_disk.Backend.Seen, Is.EqualTo(new[] { "flush", "zeroes unmap", "zeroes", "discard" }));
        Assert.That(_disk.Request(11, 0, Range(2, 4, 1), 0), Is.EqualTo(Unsupported));
        Assert.That(_disk.Request(11, 0, Range(126, 4, 0), 0), Is.EqualTo(IoError));
        Assert.That(_disk.Request(11, 0, Range(0, uint.MaxValue, 0), 0), Is.EqualTo(IoError));
        Assert.That(_disk.Request(77, 0, [], 0), Is.EqualTo(Unsupported));
        Assert.That(_disk.Request(0, 127, [], 1024), Is.EqualTo(IoError), "beyond the end");
        Assert.That(_disk.Request(0, ulong.MaxValue, [], 512), Is.EqualTo(IoError));
        Assert.That(_disk.Request(0, 0, [], 100), Is.EqualTo(IoError), "not whole sectors");
        Assert.That(_disk.Backend.Invalid, Is.EqualTo(3), "transfers only");
    }

    [Test]
    public void AnErrorThatStopsTheMachineIsTriedAgain()
    {
        _disk.SetUp();
        _disk.Backend.Error = -28;
        _disk.Backend.Action = BlockErrorAction.Stop;
        byte[] data = new byte[512];
        data[9] = 9;
        Assert.That(_disk.Request(1, 3, data, 0), Is.EqualTo(Pending));
        _disk.Machine.Run.ChangeState(isRunning: false);
        _disk.Backend.Error = 0;
        byte[] saved = Save(_disk);
        _disk.Machine.Run.ChangeState(isRunning: true);
        _disk.Run();
        Assert.That(_disk.Status, Is.EqualTo(Ok));
        Assert.That(_disk.Backend.Bytes[(3 * 512) + 9], Is.EqualTo(9));

        // The same in the process to which the machine has moved.
        using VirtioDisk other = new(isLegacy, isPacked);
        byte[] memory = new byte[0x20000];
        _disk.Machine.Memory.WriteU8(0x9000, Pending);
        _disk.Machine.Memory.Read(0, memory);
        other.Machine.Memory.Write(0, memory);
        other.Machine.Run.ChangeState(isRunning: false);
        other.Disk.LoadState(new VmStateReader(saved), 2);
        Assert.That(Save(other), Is.EqualTo(saved));
        other.Machine.Run.ChangeState(isRunning: true);
        other.Run();
        Assert.That(other.Backend.Bytes[(3 * 512) + 9], Is.EqualTo(9));
    }

    [Test]
    public void OtherPoliciesReportAndIgnore()
    {
        _disk.SetUp();
        _disk.Backend.Error = -5;
        Assert.That(_disk.Request(1, 3, new byte[512], 0), Is.EqualTo(IoError));
        _disk.Backend.Action = BlockErrorAction.Ignore;
        Assert.That(_disk.Request(1, 3, new byte[512], 0), Is.EqualTo(Ok));
    }

    [Test]
    public void AStoppedMachineTakesNothingFromTheRing()
    {
        _disk.SetUp();
        _disk.Machine.Run.ChangeState(isRunning: false);
        Assert.That(_disk.Request(4, 0, [], 0), Is.EqualTo(Pending));
        _disk.Machine.Run.ChangeState(isRunning: true);
        _disk.Run();
        Assert.That(_disk.Status, Is.EqualTo(Ok));
    }

    [Test]
    public void ARequestFromBeforeAResetIsNotGivenBack()
    {
        _disk.SetUp();
        IoCompletion<int> hold = new();
        _disk.Backend.Hold = hold;
        Assert.That(_disk.Request(4, 0, [], 0), Is.EqualTo(Pending));
        _disk.Write(0x70, 0);
        Assert.That(_disk.Read(0x70), Is.Not.Zero, "the reset is not over");
        hold.SetResult(0);
        _disk.Run();
        Assert.That(_disk.Read(0x70), Is.Zero);
        Assert.That(_disk.Status, Is.EqualTo(Pending));
        _disk.Backend.Hold = null;
        _disk.SetUp();
        Assert.That(_disk.Request(4, 0, [], 0), Is.EqualTo(Ok));
    }

    [Test]
    public void ABrokenDriverBreaksTheDeviceUntilItIsReset([Range(0, 3)] int how)
    {
        _disk.SetUp();
        _disk.Submit(4, 0, [], 0);
        ulong descriptor = VirtioDisk.Ring;
        switch (how)
        {
            case 0:
                _disk.Machine.Memory.WriteU64(descriptor, 0xffff_ffff_0000);
                break;
            case 1:
                _disk.Machine.Memory.WriteU32(descriptor + 8, 0);
                break;
            case 2:
                _disk.Machine.Memory.WriteU32(descriptor + 8, 15);
                break;
            default:
                // The chain ends after the header: in the packed ring what remains is the mark of an available descriptor.
                _disk.Machine.Memory.WriteU16(descriptor + 14, isPacked ? (ushort)0x80 : (ushort)0);
                break;
        }

        _disk.AssertBroken();
    }

    [Test]
    public void ASavedDeviceIsSavedAgainUnchanged()
    {
        _disk.SetUp();
        _disk.Request(4, 0, [], 0);
        _disk.Submit(4, 0, [], 0);
        byte[] saved = Save(_disk);
        using VirtioDisk other = new(isLegacy, isPacked);
        byte[] memory = new byte[0x20000];
        _disk.Machine.Memory.Read(0, memory);
        other.Machine.Memory.Write(0, memory);
        other.Disk.LoadState(new VmStateReader(saved), 2);
        Assert.That(Save(other), Is.EqualTo(saved));
        other.Kick();
        Assert.That(other.Status, Is.EqualTo(Ok));
        for (int length = 0; length < Math.Min(saved.Length, 400); length++)
        {
            Assert.Throws<VmStateException>(() => other.Disk.LoadState(new VmStateReader(saved.AsMemory(0, Math.Min(length, 100))), 2));
        }
    }

    [Test]
    [Category("Allocation")]
    public void RequestsDoNotAllocate()
    {
        _disk.SetUp();
        _disk.Machine.Run.IsRecording = false;
        Assert.That(_disk.Request(0, 3, [], 1024, isIndirect: true), Is.EqualTo(Ok));
        Repeat(1200);
        long before = GC.GetAllocatedBytesForCurrentThread();
        Repeat(1000);
        long bytes = GC.GetAllocatedBytesForCurrentThread() - before;
#if DEBUG
        Assert.That(bytes, Is.LessThanOrEqualTo(360 * 1000), "state machines are classes in debug builds");
#else
        Assert.That(bytes, Is.Zero);
#endif
        Assert.That(_disk.Backend.Requests, Is.EqualTo(2201));
    }

    private void Repeat(int count)
    {
        for (int i = 0; i < count; i++)
        {
            _disk.Repeat();
        }
    }

    private static byte[] Range(ulong sector, uint sectors, uint flags) =>
        [.. BitConverter.GetBytes(sector), .. BitConverter.GetBytes(sectors), .. BitConverter.GetBytes(flags)];

    private static byte[] Save(VirtioDisk disk)
    {
        VmStateWriter writer = new();
        disk.Disk.SaveState(writer);
        return writer.WrittenSpan.ToArray();
    }
}
