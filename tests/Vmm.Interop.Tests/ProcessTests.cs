namespace Vmm.Interop.Tests;

[NonParallelizable]
public sealed class ProcessTests
{
    [Test]
    public void Spawned_program_has_its_descriptors_and_status()
    {
        (int? status, string output) = TestProcess.Run("/bin/sh", ["sh", "-c", "echo from $0 $1; exit 7", "zero", "one"]);
        Assert.That(output, Is.EqualTo("from zero one\n"));
        Assert.That(status, Is.EqualTo(7));
    }

    [Test]
    public void Spawned_program_starts_with_default_unblocked_signals()
    {
        Assert.That(Signals.Block([Libc.SIGUSR2]), Is.EqualTo(Errno.OK));
        Assert.That(Signals.IsBlocked(Libc.SIGUSR2));
        (int? _, string output) = TestProcess.Run("/bin/grep", ["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"]);
        Assert.That(Signals.Unblock([Libc.SIGUSR2]), Is.EqualTo(Errno.OK));
        Assert.That(output, Is.EqualTo("SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"));
    }

    [Test]
    public void Spawned_program_gets_a_session_and_environment()
    {
        Assert.That(
            Libc.Spawn(
                "/bin/sh",
                ["sh", "-c", "set -- $(cat /proc/self/stat); test \"$X\" = y && test $6 != 0 && exit 3"],
                new SpawnOptions { NewSession = true, Environment = ["X=y", "PATH=/bin:/usr/bin"] },
                out int pid),
            Is.EqualTo(Errno.OK));
        Assert.That(Libc.WaitPid(pid, 0, out int status), Is.EqualTo(pid));
        Assert.That(Libc.ExitStatus(status), Is.EqualTo(3));
        Assert.That(Libc.Spawn("/nonexistent", ["x"], new SpawnOptions(), out _), Is.EqualTo(Errno.ENOENT));
    }

    [Test]
    public void A_killed_program_tells_its_signal()
    {
        Assert.That(Libc.Pipe(0, out SafeFd read, out SafeFd write), Is.EqualTo(Errno.OK));
        using SafeFd input = read;
        using SafeFd kept = write;
        SpawnOptions options = new() { Duplicate = [(read.Fd, 0)] };
        Assert.That(Libc.Spawn("/bin/cat", ["cat"], options, out int pid), Is.EqualTo(Errno.OK));
        Assert.That(Libc.Kill(pid, Libc.SIGKILL), Is.EqualTo(Errno.OK));
        Assert.That(Libc.WaitPid(pid, 0, out int status), Is.EqualTo(pid));
        Assert.That(Libc.ExitStatus(status), Is.Null);
        Assert.That(Libc.TermSignal(status), Is.EqualTo(Libc.SIGKILL));
    }

    [Test]
    public void Own_command_line_and_executable()
    {
        Assert.That(Libc.SelfExe(), Is.EqualTo(Environment.ProcessPath));
        Assert.That(Libc.SelfCommandLine(out string[] arguments), Is.EqualTo(Errno.OK));
        Assert.That(arguments, Is.Not.Empty);
        Assert.That(Libc.SelfEnvironment(out string[] environment), Is.EqualTo(Errno.OK));
        Assert.That(environment, Has.Some.StartsWith("PATH="));
    }

    [Test]
    public void Signals_arrive_on_the_pipe_with_their_sender()
    {
        Assert.That(SignalPipe.Create([Libc.SIGUSR2, Libc.SIGHUP], out SignalPipe? pipe), Is.EqualTo(Errno.OK));
        using (pipe)
        {
            Assert.That(pipe!.TryRead(out _), Is.False);
            Assert.That(Libc.Kill(Libc.GetPid(), Libc.SIGUSR2), Is.EqualTo(Errno.OK));
            Assert.That(Libc.Poll(pipe.Fd, Libc.POLLIN, -1), Is.EqualTo(Libc.POLLIN));
            Assert.That(pipe.TryRead(out SignalInfo info));
            Assert.That(info, Is.EqualTo(new SignalInfo(Libc.SIGUSR2, 0, Libc.GetPid(), Libc.GetUid())));
            (int? status, string _) = TestProcess.Run("/bin/sh", ["sh", "-c", $"kill -HUP {Libc.GetPid()}"]);
            Assert.That(status, Is.Zero);
            Assert.That(Libc.Poll(pipe.Fd, Libc.POLLIN, -1), Is.EqualTo(Libc.POLLIN));
            Assert.That(pipe.TryRead(out info));
            Assert.That(info.Signal, Is.EqualTo(Libc.SIGHUP));
            Assert.That(info.Pid, Is.Not.EqualTo(Libc.GetPid()));
        }
    }

    [Test]
    public void The_kick_interrupts_a_blocking_call_and_nothing_else()
    {
        Assert.That(Signals.InstallKick(), Is.EqualTo(Errno.OK));
        using EventFd never = EventFd.Create();
        using ManualResetEventSlim started = new(false);
        int tid = 0;
        int result = 0;
        bool isDone = false;
        Thread thread = new(() =>
        {
            tid = Threads.Gettid();
            started.Set();
            result = Libc.Poll(never.Fd, Libc.POLLIN, -1);
            Volatile.Write(ref isDone, true);
        });
        thread.Start();
        started.Wait();

        // The kick may come before the call; a vCPU has immediate_exit for that, here it is repeated.
        while (!Volatile.Read(ref isDone))
        {
            Errno errno = Threads.TgKill(tid, Signals.Kick);
            Assert.That(errno, Is.EqualTo(Errno.OK).Or.EqualTo(Errno.ESRCH));
            thread.Join(1);
        }

        thread.Join();
        Assert.That(result, Is.EqualTo(-(int)Errno.EINTR));
    }

    [Test]
    public void Thread_name_and_affinity()
    {
        string? name = null;
        List<int> after = [];
        Thread thread = new(() =>
        {
            Threads.SetName("CPU 0/KVM");
            name = File.ReadAllText($"/proc/self/task/{Threads.Gettid()}/comm");
            List<int> allowed = [];
            Threads.GetAffinity(0, allowed);
            Threads.SetAffinity(0, [allowed[^1]]);
            Threads.GetAffinity(0, after);
        });
        thread.Start();
        thread.Join();
        Assert.That(name, Is.EqualTo("CPU 0/KVM\n"));
        Assert.That(after, Has.Count.EqualTo(1));
        Assert.That(Threads.SetAffinity(0, [100_000]), Is.EqualTo(Errno.EINVAL));
    }

    [Test]
    public void Futex_words_wake_their_waiters()
    {
        using FutexWord word = new();
        word.Wait(1);
        Thread thread = new(() =>
        {
            while (Volatile.Read(ref word.Value) == 0)
            {
                word.Wait(0);
            }
        });
        thread.Start();
        Volatile.Write(ref word.Value, 1);
        word.Wake(int.MaxValue);
        thread.Join();
        Assert.That(word.Value, Is.EqualTo(1));
    }
}
