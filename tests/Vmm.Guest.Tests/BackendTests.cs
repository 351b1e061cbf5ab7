using System.Globalization;
using System.Text.Json.Nodes;
using Vmm.TestKit.Guests;
using Vmm.TestKit.Processes;

namespace Vmm.Guest.Tests;

/// <summary>Guest RAM in each kind of memory back end, written by a guest and read from outside.</summary>
public sealed class BackendTests
{
    private const uint Start = 16 << 20;
    private const int Length = 1 << 20;
    private const byte Rounds = 3;

    [TestCase("memory-backend-ram,id=mem,size=64M")]
    [TestCase("memory-backend-ram,id=mem,size=64M,prealloc=on")]
    [TestCase("memory-backend-ram,id=mem,size=64M,share=on")]
    [TestCase("memory-backend-memfd,id=mem,size=64M")]
    [TestCase("memory-backend-memfd,id=mem,size=64M,share=off,seal=off")]
    [TestCase("memory-backend-memfd,id=mem,size=64M,prealloc=on")]
    [TestCase("memory-backend-file,id=mem,size=64M,mem-path=ram,share=on")]
    [TestCase("memory-backend-file,id=mem,size=64M,mem-path=ram,share=on,prealloc=on")]
    [TestCase("memory-backend-file,id=mem,size=64M,mem-path=ram,share=off")]
    [TestCase("memory-backend-file,id=mem,size=64M,mem-path=.,share=on")]
    public void TheGuestsWritesAreThere(string backend)
    {
        using GuestRun run = GuestRun.Start(
            "microvm,memory-backend=mem", TestGuests.DirtyMemory(Start, Length, Rounds), debugExit: false, "-m", "64", "-object", backend);
        QmpClient qmp = run.Emulator.Qmp();
        run.WaitDebug(t => t == "...");
        byte[] expected = new byte[Length];
        for (int page = 0; page < Length; page += 4096)
        {
            expected[page] = Rounds;
        }

        string saved = Path.Combine(run.Emulator.Directory, "saved");
        qmp.Execute("pmemsave", new JsonObject { ["val"] = Start, ["size"] = Length, ["filename"] = saved });
        Assert.That(File.ReadAllBytes(saved).AsSpan().SequenceEqual(expected));
        string file = Path.Combine(run.Emulator.Directory, "ram");
        if (backend.Contains("mem-path=ram", StringComparison.Ordinal))
        {
            byte[] inFile = new byte[Length];
            using FileStream stream = new(file, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
            Assert.That(stream.Length, Is.EqualTo(64 << 20));
            stream.Position = Start;
            stream.ReadExactly(inFile);
            bool shared = backend.Contains("share=on", StringComparison.Ordinal);
            Assert.That(inFile.AsSpan().SequenceEqual(shared ? expected : new byte[Length]));
        }
        else
        {
            Assert.That(File.Exists(file), Is.False);
        }
    }

    [TestCase("", 0, "mg", "dd")]
    [TestCase(",prealloc=on", 65536, "mg", "dd")]
    [TestCase(",dump=off", 0, "mg dd", "")]
    [TestCase(",merge=off", 0, "", "mg dd")]
    [TestCase(",dump=off,merge=off", 0, "dd", "mg")]
    public void TheHostIsToldHowToTreatIt(string options, int residentKiB, string flags, string not)
    {
        using GuestRun run = GuestRun.Start(
            "microvm,memory-backend=mem", TestGuests.Spin(), debugExit: false,
            "-m", "64", "-object", "memory-backend-ram,id=mem,size=64M" + options, "-S");
        QmpClient qmp = run.Emulator.Qmp();
        qmp.Execute("query-memdev");
        (long resident, string[] actual) = Mapping(run.Emulator.Process.Id, 65536);
        Assert.Multiple(() =>
        {
            Assert.That(resident, residentKiB == 0 ? Is.LessThan(32768) : Is.EqualTo(residentKiB));
            foreach (string flag in flags.Split(' ', StringSplitOptions.RemoveEmptyEntries))
            {
                Assert.That(actual, Does.Contain(flag));
            }

            foreach (string flag in not.Split(' ', StringSplitOptions.RemoveEmptyEntries))
            {
                Assert.That(actual, Does.Not.Contain(flag));
            }
        });
    }

    [Test]
    public void ItsPagesComeFromTheNodesThatWereAskedFor(
        [Values("bind", "preferred", "interleave")] string policy,
        [Values(
            "memory-backend-ram,id=mem,size=64M,prealloc=on,host-nodes=0,policy={0}",
            "memory-backend-ram,id=mem,size=64M,prealloc=on,host-nodes=0-0,host-nodes=0,policy={0}",
            """{{"qom-type":"memory-backend-ram","id":"mem","size":67108864,"prealloc":true,"host-nodes":[0],"policy":"{0}"}}""")] string backend)
    {
        if (!File.Exists("/proc/self/numa_maps"))
        {
            Assert.Ignore("needs a kernel with memory policies (CONFIG_NUMA)");
        }

        using GuestRun run = GuestRun.Start(
            "microvm,memory-backend=mem", TestGuests.Spin(), debugExit: false,
            "-m", "64", "-object", string.Format(CultureInfo.InvariantCulture, backend, policy));
        run.WaitDebug(t => t == "B");
        string[] all = File.ReadAllLines($"/proc/{run.Emulator.Process.Id}/numa_maps");
        string[] lines = Array.FindAll(all, l => l.Contains("anon=16384", StringComparison.Ordinal));
        Assert.That(lines, Has.Length.EqualTo(1));
        Assert.That(lines[0].Split(' ')[1], Does.StartWith(policy == "preferred" ? "prefer" : policy).And.EndWith(":0"));
    }

    /// <summary>Resident memory and flags of the only mapping of that size, as /proc/PID/smaps shows them.</summary>
    private static (long ResidentKiB, string[] Flags) Mapping(int process, long sizeKiB)
    {
        List<(long, string[])> found = [];
        long size = 0;
        long resident = 0;
        foreach (string line in File.ReadLines($"/proc/{process}/smaps"))
        {
            string[] words = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            switch (words[0])
            {
                case "Size:":
                    size = long.Parse(words[1], CultureInfo.InvariantCulture);
                    break;
                case "Rss:":
                    resident = long.Parse(words[1], CultureInfo.InvariantCulture);
                    break;
                case "VmFlags:" when size == sizeKiB:
                    found.Add((resident, words[1..]));
                    break;
            }
        }

        Assert.That(found, Has.Count.EqualTo(1));
        return found[0];
    }
}
