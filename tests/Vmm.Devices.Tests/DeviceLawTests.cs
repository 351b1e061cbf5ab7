using Vmm.ObjectModel.VmState;
using Vmm.TestKit.Devices;

namespace Vmm.Devices.Tests;

/// <summary>What holds for every device, whatever a guest does to its registers.</summary>
public sealed class DeviceLawTests
{
    private static readonly (ulong First, int Count)[] s_ports =
    [
        (0x00, 0x10), (0x20, 2), (0x40, 4), (0x60, 2), (0x64, 1), (0x70, 2), (0x80, 0x10), (0x92, 1), (0xa0, 2), (0xb2, 2), (0xc0, 0x20),
        (0xe9, 1), (0x3f8, 8), (0x4d0, 2), (0x505, 1), (0x510, 2), (0x514, 8), (0x600, 0x10), (0xcf8, 8), (0xafe0, 4), (0xb100, 0x10),
    ];

    // The DMA controllers' status register is not part of their migration section.
    private static readonly (ulong First, int Count)[] s_migratedPorts =
        [.. s_ports.Where(static p => p.First is not (0x00 or 0xc0))];

    // The clock keeps time and RAM on its battery; of the others firmware relies on what a reset leaves, and comparing with the real emulator
    // through qtest shows what that is.
    private static readonly string[] s_keepers = ["mc146818rtc", "dma", "port92", "I440FX", "piix4_pm"];

    [Test]
    public void SaveLoadSaveIsByteIdentical([Range(1, 12)] int seed)
    {
        using var first = new PcTestBoard();
        Exercise(first, seed, 4000);
        Dictionary<string, byte[]> saved = first.Save();
        using var second = new PcTestBoard();
        second.Machine.Clocks.LoadVirtual(first.Machine.Clocks.NowNs(EventLoop.ClockType.Virtual));
        second.Load(saved);
        Dictionary<string, byte[]> again = second.Save();
        foreach ((string name, byte[] bytes) in saved)
        {
            Assert.That(Convert.ToHexString(again[name]), Is.EqualTo(Convert.ToHexString(bytes)), name);
        }
    }

    [Test]
    public void ALoadedBoardBehavesLikeTheSavedOne([Range(1, 6)] int seed)
    {
        using var first = new PcTestBoard();
        Exercise(first, seed, 2000);
        Dictionary<string, byte[]> saved = first.Save();
        using var second = new PcTestBoard();
        second.Machine.Clocks.LoadVirtual(first.Machine.Clocks.NowNs(EventLoop.ClockType.Virtual));
        second.Load(saved);
        CopyMemory(first, second);
        var random1 = new Random(seed + 1000);
        var random2 = new Random(seed + 1000);
        for (int i = 0; i < 2000; i++)
        {
            ulong one = Step(first, random1, s_migratedPorts);
            ulong two = Step(second, random2, s_migratedPorts);
            Assert.That(two, Is.EqualTo(one), $"operation {i}");
        }
    }

    [Test]
    public void ResetIsThePowerOnStateAndIdempotent([Range(1, 8)] int seed)
    {
        using var used = new PcTestBoard();
        Exercise(used, seed, 4000);
        used.Reset();
        Dictionary<string, byte[]> once = used.Save();
        used.Reset();
        Dictionary<string, byte[]> twice = used.Save();
        using var fresh = new PcTestBoard();
        fresh.Machine.Clocks.LoadVirtual(used.Machine.Clocks.NowNs(EventLoop.ClockType.Virtual));
        fresh.Reset();
        Dictionary<string, byte[]> powerOn = fresh.Save();
        foreach ((string name, byte[] bytes) in once)
        {
            Assert.That(Convert.ToHexString(twice[name]), Is.EqualTo(Convert.ToHexString(bytes)), name);

            if (!s_keepers.Contains(name.Split('/')[^2]))
            {
                Assert.That(Convert.ToHexString(bytes), Is.EqualTo(Convert.ToHexString(powerOn[name])), name);
            }
        }
    }

    [Test]
    public void AMutilatedSectionIsRefusedOrHarmless([Range(1, 40)] int seed)
    {
        using var board = new PcTestBoard();
        Exercise(board, seed, 500);
        Dictionary<string, byte[]> saved = board.Save();
        var random = new Random(seed);
        foreach (VmStateSection section in board.Machine.Devices.VmStates.Sections)
        {
            byte[] bytes = (byte[])saved[$"{section.Name}/{section.InstanceId}"].Clone();
            for (int i = 0; i < 1 + (bytes.Length / 16); i++)
            {
                bytes[random.Next(bytes.Length)] = (byte)random.Next(256);
            }

            if (random.Next(4) == 0)
            {
                bytes = bytes[..random.Next(bytes.Length)];
            }

            try
            {
                section.Target.LoadState(new VmStateReader(bytes), section.Target.VmStateVersion);
            }
            catch (VmStateException)
            {
            }
        }

        Exercise(board, seed, 1000);
    }

    [Test]
    public void RegisterAccessDoesNotAllocate()
    {
        using var board = new PcTestBoard();
        board.Machine.Run.IsRecording = false;
        (ulong, int)[] ports =
        [
            (0x00, 0x10), (0x20, 2), (0x40, 4), (0x60, 2), (0x64, 1), (0x80, 0x10), (0xa0, 2), (0xb2, 2), (0xc0, 0x20), (0x3f8, 8),
            (0x4d0, 2), (0x510, 2), (0x514, 8), (0xafe0, 4),
        ];
        var random = new Random(7);
        for (int i = 0; i < 20_000; i++)
        {
            Access(board, random, ports);
        }

        // The fake back end keeps what is written, and a register write may do so.
        board.Console.Written.Capacity = 1 << 20;
        board.Messages.Capacity = 1 << 20;
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 20_000; i++)
        {
            Access(board, random, ports);
        }

        Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.Zero);
    }

    private static void Exercise(PcTestBoard board, int seed, int operations)
    {
        board.Pm.EnableAt(0x600);
        var random = new Random(seed);
        for (int i = 0; i < operations; i++)
        {
            Step(board, random);
        }
    }

    private static ulong Step(PcTestBoard board, Random random, (ulong First, int Count)[]? ports = null)
    {
        switch (random.Next(40))
        {
            case 0:
                board.Machine.Step(random.Next(1, 5_000_000));
                return 0;
            case 1:
                return (ulong)board.Console.Send([(byte)random.Next(256), (byte)random.Next(256)]);
            case 2:
                board.Keyboard.Keyboard.QueueScanCode([(byte)random.Next(256)]);
                board.Keyboard.Mouse.Move(random.Next(-300, 300), random.Next(-300, 300), random.Next(-9, 9), (byte)random.Next(32));
                return 0;
            case 3:
                board.Console.Blocked = random.Next(3) == 0;
                if (!board.Console.Blocked)
                {
                    board.Console.Unblock();
                }

                return 0;
            case 4:
                ulong address = 0xfec00000 + (ulong)(random.Next(3) * 0x10);
                if (random.Next(2) == 0)
                {
                    return board.Machine.Memory.ReadU32(address);
                }

                board.Machine.Memory.WriteU32(address, (uint)random.NextInt64(1L << 32) & 0xffff_ffff);
                return 0;
            case 5:
                board.Machine.Gsi[random.Next(24)].Set(random.Next(2));
                return board.Pic.IsPending && random.Next(2) == 0 ? board.Pic.Acknowledge() : 0u;
            default:
                return Access(board, random, ports ?? s_ports);
        }
    }

    private static ulong Access(PcTestBoard board, Random random, (ulong First, int Count)[] ports)
    {
        (ulong first, int count) = ports[random.Next(ports.Length)];
        ulong port = first + (ulong)random.Next(count);
        int size = 1 << random.Next(3);
        if (random.Next(2) == 0)
        {
            return board.Machine.In(port, size);
        }

        ulong value = random.Next(4) switch
        {
            0 => 0,
            1 => 0xffffffff,
            _ => (ulong)random.NextInt64(1L << 32),
        };
        board.Machine.Out(port, value, size);
        return 0;
    }

    private static void CopyMemory(PcTestBoard from, PcTestBoard to)
    {
        byte[] bytes = new byte[0xa0000];
        from.Machine.Memory.Read(0, bytes);
        to.Machine.Memory.Write(0, bytes);
        to.Console.Blocked = from.Console.Blocked;
    }
}
