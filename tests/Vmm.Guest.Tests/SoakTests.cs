using System.Buffers.Binary;
using System.Text.Json.Nodes;
using Iced.Intel;
using Vmm.TestKit.Guests;
using Vmm.TestKit.Processes;
using static Iced.Intel.AssemblerRegisters;

namespace Vmm.Guest.Tests;

/// <summary>Thousands of pauses and resets of a running guest while a second client asks without pause.</summary>
public sealed class SoakTests
{
    // What the collector and the allocator may add between the middle and the end; a leak of one small object per cycle is more.
    private const int RssSlackKiB = 1 << 10;
    private const string SecondMonitor = "unix:second.sock,server=on,wait=off";

    [TestCase("microvm")]
    [TestCase("pc")]
    public void TenThousandPauses(string machine)
    {
        const int cycles = 5_000;
        using GuestRun run = GuestRun.Start(machine, TestGuests.Spin(), debugExit: false, "-m", "64", "-smp", "2", "-qmp", SecondMonitor);
        run.WaitDebug(t => t == "B");
        Poll(run, ["STOP", "RESUME"], cycles, qmp =>
        {
            long middle = 0;
            for (int i = 0; i < cycles; i++)
            {
                qmp.Execute("stop");
                qmp.WaitEvent("STOP");
                qmp.Execute("cont");
                qmp.WaitEvent("RESUME");
                middle = i == cycles / 2 ? run.AnonymousKiB : middle;
            }

            Assert.Multiple(() =>
            {
                Assert.That(qmp.Events, Is.Empty);
                Assert.That(run.AnonymousKiB - middle, Is.LessThan(RssSlackKiB));
            });
        });
    }

    [TestCase("microvm")]
    [TestCase("pc")]
    public void AThousandResets(string machine)
    {
        const int cycles = 500;
        using GuestRun run = GuestRun.Start(machine, TestGuests.Spin(), debugExit: false, "-m", "64", "-smp", "2", "-qmp", SecondMonitor);
        run.WaitDebug(t => t == "B");
        Poll(run, ["RESET"], cycles, qmp =>
        {
            long middle = 0;
            for (int i = 0; i < cycles; i++)
            {
                qmp.Execute("system_reset");
                JsonObject reset = qmp.WaitEvent("RESET");
                Assert.That(reset["data"]!.ToJsonString(), Is.EqualTo("""{"guest":false,"reason":"host-qmp-system-reset"}"""));
                run.WaitDebug(t => t.Length == i + 2);
                middle = i == cycles / 2 ? run.AnonymousKiB : middle;
            }

            Assert.Multiple(() =>
            {
                Assert.That(qmp.Events, Is.Empty);
                Assert.That(run.DebugText, Is.EqualTo(new string('B', cycles + 1)));
                Assert.That(run.AnonymousKiB - middle, Is.LessThan(RssSlackKiB));
            });
        });
    }

    /// <summary>Each port write of a guest that counts them in ring 3 arrives at the device once, however often it is stopped in between.</summary>
    [TestCase("microvm")]
    [TestCase("pc")]
    public void NoPortWriteIsLostOrDoubled(string machine)
    {
        const int cycles = 1_000;
        using GuestRun run = GuestRun.Start(machine, PortStorm(), debugExit: false, "-m", "64");
        QmpClient qmp = run.Emulator.Qmp();
        run.WaitDebug(t => t.Length > 0);
        string file = Path.Combine(run.Emulator.Directory, "counter");
        long last = 0;
        for (int i = 0; i < cycles; i++)
        {
            qmp.Execute("stop");
            if (i % 10 == 0 || i == cycles - 1)
            {
                qmp.Execute("pmemsave", new JsonObject { ["val"] = GuestImage.Data, ["size"] = 8, ["filename"] = file });
                long counted = BinaryPrimitives.ReadInt64LittleEndian(File.ReadAllBytes(file));
                long written = run.DebugLength;

                // The guest counts after its write: the pause may fall between the two.
                Assert.That(written - counted, Is.InRange(0, 1), $"cycle {i}: {counted} counted");
                Assert.That(run.DebugLength, Is.EqualTo(written), "it goes on while it is stopped");
                Assert.That(written, Is.GreaterThanOrEqualTo(last));
                last = written;
            }

            qmp.Execute("cont");
            if (i % 10 == 0)
            {
                // A busy host may not run the vCPU at all between two commands: every tenth pause has to interrupt something.
                Assert.That(run.WaitFor(() => run.DebugLength > last, 60), $"cycle {i}: the guest does not go on");
            }
        }
    }

    /// <summary>Runs <paramref name="body"/> while another client asks for the status without pause and counts events.</summary>
    private static void Poll(GuestRun run, string[] events, int each, Action<QmpClient> body)
    {
        QmpClient qmp = run.Emulator.Qmp();
        using QmpClient poller = QmpClient.Connect(Path.Combine(run.Emulator.Directory, "second.sock"), () => !run.Emulator.Process.HasExited);
        poller.Negotiate();
        Dictionary<string, int> seen = [];
        bool done = false;
        Exception? failure = null;
        int answers = 0;
        Thread thread = new(() =>
        {
            try
            {
                bool last;
                do
                {
                    last = Volatile.Read(ref done);
                    poller.Execute("query-status");
                    foreach (JsonObject e in poller.Events)
                    {
                        string name = (string)e["event"]!;
                        seen[name] = seen.GetValueOrDefault(name) + 1;
                    }

                    poller.Events.Clear();
                    answers++;
                }
                while (!last);
            }
            catch (Exception e)
            {
                failure = e;
            }
        });
        thread.Start();
        try
        {
            body(qmp);
        }
        finally
        {
            Volatile.Write(ref done, true);
            thread.Join();
        }

        Assert.Multiple(() =>
        {
            Assert.That(failure, Is.Null);
            Assert.That(answers, Is.Positive);
            Assert.That(seen, Is.EquivalentTo(events.Select(e => KeyValuePair.Create(e, each))));
        });
    }

    private static byte[] PortStorm()
    {
        return TestGuests.Ring3(c =>
        {
            c.mov(edx, 0xe9);
            c.mov(eax, '.');
            Label loop = c.CreateLabel();
            c.Label(ref loop);
            c.@out(dx, al);
            c.inc(__qword_ptr[GuestImage.Data]);
            c.jmp(loop);
        });
    }
}
