namespace Vmm.Kvm.Tests;

public sealed class VcpuGateTests
{
    private readonly VcpuGate _gate = new();
    private int _turn;

    [Test]
    public void EveryNotificationArrives()
    {
        const int Threads = 3;
        const int Rounds = 2000;
        int[] turns = new int[Threads];
        Thread[] threads = new Thread[Threads];
        for (int i = 0; i < Threads; i++)
        {
            int self = i;
            threads[i] = new Thread(() =>
            {
                for (int round = 0; round < Rounds; round++)
                {
                    using (_gate.Hold())
                    {
                        while (_turn % Threads != self)
                        {
                            _gate.Wait();
                        }

                        turns[self]++;
                        _turn++;
                        _gate.NotifyAll();
                    }
                }
            });
            threads[i].Start();
        }

        foreach (Thread thread in threads)
        {
            Assert.That(thread.Join(TimeSpan.FromMinutes(2)), "a notification was lost");
        }

        Assert.That(turns, Is.All.EqualTo(Rounds));
    }

    [Test]
    public void OneHolderAtATime()
    {
        const int Threads = 4;
        const int Rounds = 20_000;
        int count = 0;
        Thread[] threads = new Thread[Threads];
        for (int i = 0; i < Threads; i++)
        {
            threads[i] = new Thread(() =>
            {
                for (int round = 0; round < Rounds; round++)
                {
                    using (_gate.Hold())
                    {
                        count++;
                    }
                }
            });
            threads[i].Start();
        }

        foreach (Thread thread in threads)
        {
            thread.Join();
        }

        Assert.That(count, Is.EqualTo(Threads * Rounds));
    }

    [Test]
    public void HandOverAllocatesNothing()
    {
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 100; i++)
        {
            using (_gate.Hold())
            {
                _gate.NotifyAll();
            }
        }

        Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.Zero);
    }
}
