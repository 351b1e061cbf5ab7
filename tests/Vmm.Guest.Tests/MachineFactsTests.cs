using System.Buffers.Binary;
using System.Diagnostics;
using System.Globalization;
using System.Text;
using Iced.Intel;
using Vmm.TestKit.Guests;
using Vmm.TestKit.Processes;
using static Iced.Intel.AssemblerRegisters;

namespace Vmm.Guest.Tests;

/// <summary>What a guest or its firmware learns from the machine, beside the real QEMU.</summary>
public sealed class MachineFactsTests
{
    [Test]
    public void TheRamThatFirmwareIsToldOfIsQemus(
        [Values("microvm", "pc")] string machine, [Values(64, 3071, 3072, 3073, 3583, 3584, 4096, 5120)] int megabytes)
    {
        RequireQemu();
        (ulong, ulong)[] expected = RamInFwCfg(Emulator.RealQemu!, "tcg", machine, megabytes);
        Assert.That(expected, Is.Not.Empty);
        Assert.That(RamInFwCfg(Emulator.OurBinary, "qtest", machine, megabytes), Is.EqualTo(expected));
    }

    [Test]
    public void TheClockShowsTheYearAndTheCentury()
    {
        GuestRun.RequireKvm();
        RequireQemu();
        byte[] kernel = new GuestImage()
            .Code(32, GuestImage.Entry, c =>
            {
                foreach (byte register in (byte[])[0x32, 9, 8, 7])
                {
                    GuestImage.Out(c, 0x70, register);
                    c.@in(al, 0x71);
                    c.mov(edx, 0xe9);
                    c.@out(dx, al);
                }

                GuestImage.ExitAndPark(c, TestGuests.Success);
            })
            .ToPvhElf();
        Assert.Multiple(() =>
        {
            Assert.That(Date(Emulator.RealQemu!, "microvm,rtc=on"), Is.EqualTo("20310203"));
            Assert.That(Date(Emulator.OurBinary, "microvm,rtc=on"), Is.EqualTo("20310203"));
            Assert.That(Date(Emulator.OurBinary, "pc"), Is.EqualTo("20310203"));
        });

        string Date(string binary, string machine)
        {
            string directory = Emulator.NewDirectory();
            File.WriteAllBytes(Path.Combine(directory, "kernel"), kernel);
            using Emulator e = Emulator.StartBinary(
                binary, false, directory, "-accel", "kvm", "-machine", machine, "-m", "64", "-nodefaults", "-display", "none", "-kernel", "kernel",
                "-debugcon", "file:debug", "-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-rtc", "base=2031-02-03T04:05:06,clock=vm");
            Assert.That(e.WaitExit(), Is.EqualTo(GuestRun.SuccessStatus), e.Errors);
            return Convert.ToHexString(File.ReadAllBytes(Path.Combine(directory, "debug")));
        }
    }

    /// <summary>A kernel may allow interrupts before it has touched any controller: the timer, which runs from reset, must not arrive.</summary>
    [TestCase("microvm")]
    [TestCase("pc")]
    [TestCase("pc,kernel-irqchip=split")]
    public void NoInterruptArrivesThatNobodyAskedFor(string machine)
    {
        byte[] kernel = new GuestImage()
            .Code(32, GuestImage.Entry, c =>
            {
                // No IDT: an interrupt would end in a triple fault. The timer's first period is 55 ms.
                c.lidt(__[GuestImage.Tss]);
                c.sti();
                c.rdtsc();
                c.mov(esi, eax);
                Label wait = c.CreateLabel();
                c.Label(ref wait);
                c.rdtsc();
                c.sub(eax, esi);
                c.cmp(eax, 1_000_000_000);
                c.jb(wait);
                GuestImage.ExitAndPark(c, TestGuests.Success);
            })
            .ToPvhElf();
        Assert.That(GuestRun.ToEnd(machine, kernel, "-m", "64", "-no-reboot").Status, Is.EqualTo(GuestRun.SuccessStatus));
    }

    private static void RequireQemu()
    {
        if (Emulator.RealQemu is null)
        {
            Assert.Ignore("compares with Debian's qemu-system-x86, which is not installed");
        }
    }

    /// <summary>The RAM entries of the file etc/e820, read over the qtest protocol: start and length.</summary>
    private static (ulong Start, ulong Length)[] RamInFwCfg(string binary, string accelerator, string machine, int megabytes)
    {
        ProcessStartInfo info = new(
            binary,
            [
                "-accel", accelerator, "-machine", machine, "-m", megabytes.ToString(CultureInfo.InvariantCulture), "-S", "-nodefaults",
                "-display", "none", "-qtest", "stdio", "-qtest-log", "none",
            ])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
        };
        using Process process = Process.Start(info)!;
        try
        {
            // The directory is item 0x19: a count, then entries of 64 bytes (size, selector, name), big endian.
            int count = BinaryPrimitives.ReadInt32BigEndian(Read(0x19, 4));
            byte[] directory = Read(0x19, 4 + (count * 64));
            for (int i = 0; i < count; i++)
            {
                ReadOnlySpan<byte> entry = directory.AsSpan(4 + (i * 64), 64);
                if (!Encoding.ASCII.GetString(entry[8..]).TrimEnd('\0').Equals("etc/e820", StringComparison.Ordinal))
                {
                    continue;
                }

                byte[] map = Read(BinaryPrimitives.ReadUInt16BigEndian(entry[4..]), BinaryPrimitives.ReadInt32BigEndian(entry));
                List<(ulong, ulong)> ram = [];
                for (int at = 0; at < map.Length; at += 20)
                {
                    if (BinaryPrimitives.ReadUInt32LittleEndian(map.AsSpan(at + 16)) == 1)
                    {
                        ulong start = BinaryPrimitives.ReadUInt64LittleEndian(map.AsSpan(at));
                        ram.Add((start, BinaryPrimitives.ReadUInt64LittleEndian(map.AsSpan(at + 8))));
                    }
                }

                return [.. ram];
            }

            return [];
        }
        finally
        {
            process.Kill();
            process.WaitForExit();
        }

        byte[] Read(int item, int length)
        {
            Ask($"outw 0x510 0x{item:x}");
            byte[] bytes = new byte[length];
            for (int i = 0; i < length; i++)
            {
                bytes[i] = Convert.ToByte(Ask("inb 0x511")[3..], 16);
            }

            return bytes;
        }

        string Ask(string line)
        {
            process.StandardInput.WriteLine(line);
            process.StandardInput.Flush();
            string? answer;
            do
            {
                answer = process.StandardOutput.ReadLine();
            }
            while (answer is not null && answer.StartsWith("IRQ", StringComparison.Ordinal));
            Assert.That(answer, Does.StartWith("OK"), line);
            return answer!;
        }
    }
}
