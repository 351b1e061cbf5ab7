using Vmm.EventLoop.Tasks;

namespace Vmm.EventLoop.Tests;

/// <summary>Awaiting on a loop: inline continuations, order, failures, no allocation at any depth.</summary>
public sealed class IoTaskTests
{
    private EventLoop _loop = null!;

    [SetUp]
    public void MakeLoop()
    {
        _loop = new EventLoop("test", new Clocks());
        _loop.Bind();
    }

    [TearDown]
    public void CloseLoop() => _loop.Dispose();

    [Test]
    public void ACompletedMethodNeedsNoLoop()
    {
        IoTask<int> task = Add(new IoTask<int>(1), new IoTask<int>(2));
        Assert.That(task.IsCompleted);
        Assert.That(task.GetAwaiter().GetResult(), Is.EqualTo(3));
    }

    [Test]
    public void TheContinuationRunsInsideTheCompletion()
    {
        IoCompletion<int> source = new();
        IoTask<int> task = Add(source.Task, new IoTask<int>(2));
        Assert.That(task.IsCompleted, Is.False);
        source.SetResult(40);
        Assert.That(task.IsCompleted);
        Assert.That(task.GetAwaiter().GetResult(), Is.EqualTo(42));
    }

    [Test]
    public void AnExceptionComesOutOfTheAwait()
    {
        IoCompletion<int> source = new();
        IoTask<int> task = Add(source.Task, new IoTask<int>(2));
        source.SetException(new InvalidDataException("x"));
        Assert.That(() => task.GetAwaiter().GetResult(), Throws.TypeOf<InvalidDataException>());
        Assert.That(() => Fail().GetAwaiter().GetResult(), Throws.TypeOf<InvalidDataException>());

        static async IoTask<int> Fail()
        {
            await IoTask.CompletedTask;
            throw new InvalidDataException("y");
        }
    }

    [Test]
    public void ATaskIsAwaitedOnce()
    {
        IoCompletion<int> source = new();
        IoTask<int> task = Add(source.Task, new IoTask<int>(2));
        source.SetResult(1);
        task.GetAwaiter().GetResult();
        Assert.That(() => task.GetAwaiter().GetResult(), Throws.InvalidOperationException);
    }

    [Test]
    [Category("Allocation")]
    public void ManyAtOnceAllocateNothingInSteadyState()
    {
        IoCompletion<int>[] sources = [.. Enumerable.Range(0, 64).Select(_ => new IoCompletion<int>())];
        IoTask<int>[] tasks = new IoTask<int>[sources.Length];
        long before = 0;
        for (int round = 0; round < 20; round++)
        {
            if (round == 10)
            {
                before = GC.GetAllocatedBytesForCurrentThread();
            }

            for (int i = 0; i < sources.Length; i++)
            {
                tasks[i] = Add(sources[i].Task, new IoTask<int>(i));
            }

            for (int i = 0; i < sources.Length; i++)
            {
                sources[i].SetResult(round);
                tasks[i].GetAwaiter().GetResult();
            }
        }

        long bytes = GC.GetAllocatedBytesForCurrentThread() - before;
#if DEBUG
        Assert.That(bytes, Is.LessThan(10 * 64 * 200), "state machines are classes in debug builds; their boxes are reused even so");
#else
        Assert.That(bytes, Is.Zero);
#endif
    }

    [Test]
    public void WorkComesBackToItsLoop()
    {
        LoopWorkers workers = new(2);
        Square[] works = [.. Enumerable.Range(0, 8).Select(_ => new Square())];
        long sum = 0;
        int left = works.Length;
        for (int i = 0; i < works.Length; i++)
        {
            works[i].Value = i;
            Run(works[i]).Forget();
        }

        while (left > 0)
        {
            _loop.RunOnce(block: true);
        }

        Assert.That(sum, Is.EqualTo(140));

        async IoTask Run(Square work)
        {
            long result = await work.RunAsync(workers);
            _loop.AssertOnHomeLoop();
            sum += result;
            left--;
        }
    }

    [TestCase(1, 3)]
    [TestCase(3, 40)]
    public void FewWorkersDoMuchWorkAgainAndAgain(int threads, int count)
    {
        LoopWorkers workers = new(threads);
        Square[] works = [.. Enumerable.Range(0, count).Select(static i => new Square { Value = i })];
        long expected = works.Sum(static w => (long)w.Value * w.Value);

        // Between two rounds all, some, or none of the workers have gone to sleep.
        for (int round = 0; round < 300; round++)
        {
            long sum = 0;
            int left = count;
            foreach (Square work in works)
            {
                Run(work).Forget();
            }

            while (left > 0)
            {
                _loop.RunOnce(block: true);
            }

            Assert.That(sum, Is.EqualTo(expected));

            async IoTask Run(Square work)
            {
                long result = await work.RunAsync(workers);
                sum += result;
                left--;
            }
        }
    }

    [Test]
    public void AMutexIsHandedOverInOrder()
    {
        LoopMutex mutex = new();
        List<int> order = [];
        IoCompletion<bool> gate = new();
        _loop.RunUntil(mutex.EnterAsync());
        for (int i = 0; i < 3; i++)
        {
            Enter(i).Forget();
        }

        Assert.That(order, Is.Empty);
        mutex.Exit();
        while (order.Count < 3)
        {
            _loop.RunOnce(block: true);
        }

        Assert.That(order, Is.EqualTo(new[] { 0, 1, 2 }));
        Assert.That(mutex.IsHeld, Is.False);

        async IoTask Enter(int i)
        {
            await mutex.EnterAsync();
            order.Add(i);
            mutex.Exit();
        }
    }

    private static async IoTask<int> Add(IoTask<int> a, IoTask<int> b) => await a + await b;

    private sealed class Square : LoopWork
    {
        public int Value { get; set; }

        protected override long Execute() => Value * Value;
    }
}
