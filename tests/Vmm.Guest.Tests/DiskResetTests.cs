using System.Buffers.Binary;
using Vmm.TestKit.Guests;

namespace Vmm.Guest.Tests;

/// <summary>
/// Resets, pauses and ends of a machine with writes of its disk under way: what the guest knew to be done is there, nothing of before is written
/// over what comes after.
/// </summary>
[TestFixture("")]
[TestFixture(",iothread=io")]
public sealed class DiskResetTests(string thread) : DiskWriterFixture(thread)
{
    private const int Resets = 4;

    [TestCase(false)]
    [TestCase(true)]
    public void AResetLosesNothing(bool isLimited)
    {
        Launch("raw");
        for (int i = 0; i < Resets; i++)
        {
            WriteOn(200);
            if (isLimited)
            {
                HoldRequests();
            }

            (long start, long written) = Life();
            Qmp.Execute("system_reset");
            Qmp.WaitEvent("RESET");
            Limit();
            WaitFor(() => Life().Start > start && Written() >= 40);
            Qmp.Execute("stop");
            AssertIsAfterReset(start, written);
            Qmp.Execute("cont");
        }
    }

    [Test]
    public void ATripleFaultLosesNothing()
    {
        const int CrashAfter = 40;
        Launch("raw", CrashAfter);
        WaitFor(() => Life().Start > Resets);
        Qmp.Execute("stop");
        AssertIsAfterReset(Life().Start - 1, CrashAfter);
    }

    [TestCase(false)]
    [TestCase(true)]
    public void NothingIsWrittenWhileTheMachineIsStopped(bool isLimited)
    {
        Launch("raw");
        WriteOn();
        if (isLimited)
        {
            HoldRequests();
        }

        Qmp.Execute("stop");
        byte[] before = File.ReadAllBytes(PathOf("disk"));
        (_, long written) = Life();
        AssertIsOf("disk", (written, written), "raw");
        if (isLimited)
        {
            Assert.That(Outstanding(), Is.Zero, "what was under way has been answered");
        }

        Limit();
        Assert.That(File.ReadAllBytes(PathOf("disk")).AsSpan().SequenceEqual(before));
        Qmp.Execute("cont");
        WriteOn();
        (long, long) last = Quit();
        AssertIsOf("disk", last, "raw");
    }

    [TestCase("raw", false)]
    [TestCase("qcow2", false)]
    [TestCase("qcow2", true)]
    public void TheEndOfTheProcessLosesNothing(string format, bool isLimited)
    {
        Launch(format);
        WriteOn();
        if (isLimited)
        {
            HoldRequests();
        }

        (_, long written) = Life();
        Qmp.Execute("quit");
        Run.Emulator.WaitExit();
        AssertIsOf("disk", (written, uint.MaxValue), format);
    }

    [Test]
    public void AKilledProcessHasWrittenWhatItHasAnswered()
    {
        Launch("raw");
        WriteOn();
        (_, long written) = Life();
        Run.Emulator.Process.Kill();
        Run.Emulator.Process.WaitForExit();
        AssertIsOf("disk", (written, uint.MaxValue), "raw");
    }

    // So slow that of the guest's next writes the first is done, and the others stay under way.
    private void HoldRequests()
    {
        Qmp.Execute("stop");
        Limit(bytesPerSecond: 16);
        Qmp.Execute("cont");
        WaitFor(() => Outstanding() == DiskWriterGuest.Depth - 1);
    }

    // Writes that the guest has asked for and that are not answered.
    private int Outstanding()
    {
        ushort submitted = BinaryPrimitives.ReadUInt16LittleEndian(Memory(DiskWriterGuest.Submitted, 2));
        return (ushort)(submitted - BinaryPrimitives.ReadUInt16LittleEndian(Memory(DiskWriterGuest.Answered, 2)));
    }

    // The machine is stopped in a later life than the one that is told of.
    private void AssertIsAfterReset(long start, long written)
    {
        (long now, long done) = Life();
        long[] contents = Contents("disk", "raw");
        long[] before = After(start, written);
        long[] expected = After(now, done);
        foreach ((int block, long value) in UnderWay(now, done))
        {
            expected[block] = contents[block] == value ? value : expected[block];
        }

        for (int block = 0; block < DiskWriterGuest.Blocks; block++)
        {
            if (expected[block] == 0)
            {
                // What was known to be done before, or something later of then.
                Assert.That(contents[block], Is.GreaterThanOrEqualTo(before[block]), $"block {block}: lost");
                Assert.That(contents[block] >> 32, Is.LessThan(now), $"block {block}");
                expected[block] = contents[block];
            }
        }

        AssertAre("disk", contents, expected);
    }
}
