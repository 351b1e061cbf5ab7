using Vmm.Block.Tests.Nbd;
using Vmm.Interop;

namespace Vmm.Block.Tests.VhostUser;

/// <summary>Front ends of an export that spoil what they share with it: they hurt only themselves.</summary>
public sealed class HostileFrontEndTests : NbdFixture
{
    private const int Size = 1 << 20;

    [SetUp]
    public void MakeExport()
    {
        Open($$"""{"driver": "file", "node-name": "n", "filename": "{{NewFile("disk", Size)}}"}""");
        Export($$"""{"type": "vhost-user-blk", "id": "e", "node-name": "n", "writable": true, "addr": {"type": "unix", "path": "{{SocketPath}}"} }""");
    }

    [TearDown]
    public void EndExport()
    {
        Exporting.Exports.Find("e")?.ShutDown();
        while (Exporting.Exports.All.Count > 0)
        {
            Loop.RunOnce(block: true);
        }
    }

    [Test]
    public void AFullEventStallsNobody() => WhileServing(() =>
    {
        using FrontEnd front = FrontEnd.Start(SocketPath);
        Assert.That(front.Request(1, 8, 4096), Is.Zero);
        Libc.SetNonBlocking(front.Call.Fd, false);
        front.Call.Drain();
        Libc.Write(front.Call.Fd, BitConverter.GetBytes(ulong.MaxValue - 1));
        try
        {
            for (int i = 0; i < 8; i++)
            {
                Assert.That(front.Request(0, 8, 4096), Is.Zero);
            }
        }
        finally
        {
            // Whoever waits for room in the event goes on, so that a failure does not last.
            front.Call.Drain();
        }
    });

    [TestCase(0, TestName = "AllOfTheMemoryIsCutOff")]
    [TestCase(0x1000, TestName = "TheRingsAreCutOff")]
    [TestCase(0x3000, TestName = "TheRequestIsCutOff")]
    public void MemoryCutShortEndsTheConnection(int rest) => WhileServing(() =>
    {
        using (FrontEnd front = FrontEnd.Start(SocketPath))
        {
            Assert.That(front.Request(1, 8, 4096), Is.Zero);
            front.Submit(1, 8, 4096);
            Assert.That(Libc.FTruncate(front.Memory.Fd, rest), Is.EqualTo(Errno.OK));
            front.Kick.Signal();
            Assert.That(SpinWait.SpinUntil(front.IsOver, TimeSpan.FromSeconds(60)), "the connection goes on");
        }

        ServesOthers();
    });

    [Test]
    public void DataCutOffFailsTheRequest() => WhileServing(() =>
    {
        using FrontEnd front = FrontEnd.Start(SocketPath);
        Assert.That(front.Request(1, 8, 4096), Is.Zero, "the memory is mapped");
        foreach (uint type in new uint[] { 0, 1 })
        {
            front.Submit(type, 8, 4096);
            Libc.FTruncate(front.Memory.Fd, FrontEnd.Data);
            front.Kick.Signal();
            Assert.That(front.Finish(), Is.EqualTo(1), $"type {type}");
            Libc.FTruncate(front.Memory.Fd, FrontEnd.MemoryBytes);
            Assert.That(front.Request(type, 8, 4096), Is.Zero, "the memory is whole again");
        }
    });

    [Test]
    public void MemoryThatComesAndGoesDuringRequestsHurtsNobodyElse() => WhileServing(() =>
    {
        Random random = new(1);
        for (int round = 0; round < 20; round++)
        {
            using FrontEnd front = FrontEnd.Start(SocketPath);
            for (int i = 0; i < 20 && !front.IsOver(); i++)
            {
                front.Submit((uint)random.Next(2), 8, 0x10000);
                front.Kick.Signal();
                for (int j = random.Next(4); j > 0; j--)
                {
                    Libc.FTruncate(front.Memory.Fd, random.Next(FrontEnd.MemoryBytes));
                }
            }
        }

        ServesOthers();
    });

    private void ServesOthers()
    {
        using FrontEnd front = FrontEnd.Start(SocketPath);
        Assert.That(front.Request(1, 8, 4096), Is.Zero);
        Assert.That(front.Request(0, 8, 4096), Is.Zero);
    }

    private void WhileServing(Action driver)
    {
        Task task = Task.Run(driver);
        task.ContinueWith(_ => Loop.Post(static () => { }), TaskScheduler.Default);
        while (!task.IsCompleted)
        {
            Loop.RunOnce(block: true);
        }

        task.GetAwaiter().GetResult();
    }
}
