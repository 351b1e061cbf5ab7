using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace Vmm.TestKit.Guests;

/// <summary>Small guests for tests and benchmarks; each returns the file to pass as <c>-kernel</c>.</summary>
/// <remarks>They end with a write to isa-debug-exit at 0xf4 (exit status = value * 2 + 1) and park if nothing is there.</remarks>
public static class TestGuests
{
    /// <summary>What the hello guests write to COM1 (0x3f8) and to the debug console (0xe9).</summary>
    public const string Hello = "HELLO\n";

    /// <summary>Value that a successful guest writes to 0xf4.</summary>
    public const byte Success = 0x10;

    /// <summary>Value that a guest writes to 0xf4 when its own check failed.</summary>
    public const byte Failure = 0x11;

    private const ushort DebugConsole = 0xe9;
    private const ushort Serial = 0x3f8;
    private const ushort DebugExit = 0xf4;

    /// <summary>PVH ELF whose very first instructions write <see cref="Hello"/> to both consoles.</summary>
    public static byte[] PvhHello() => HelloImage().ToPvhElf();

    /// <summary>The same as a multiboot 1 file with addresses in its header.</summary>
    public static byte[] MultibootHello() => HelloImage().ToMultiboot();

    /// <summary>The same as a multiboot 1 ELF file.</summary>
    public static byte[] MultibootElfHello() => HelloImage().ToMultibootElf();

    /// <summary>Writes one byte to <paramref name="port"/> <paramref name="count"/> times from ring 3, then exits.</summary>
    /// <remarks>Writes 'B' to 0xe9 before and 'E' after, so that a benchmark can time what is between.</remarks>
    public static byte[] PortLoop(uint count, ushort port = 0x80) => ExitLoop(count, c => c.@out(dx, al), c => c.mov(edx, port));

    /// <summary>
    /// Runs <paramref name="body"/>, which must keep ECX, <paramref name="count"/> times from ring 3, then exits. Marks as for
    /// <see cref="PortLoop"/>.
    /// </summary>
    public static byte[] ExitLoop(uint count, Action<Assembler> body, Action<Assembler>? before = null)
    {
        return Ring3(c =>
        {
            GuestImage.Out(c, DebugConsole, (byte)'B');
            c.mov(ecx, count);
            c.xor(eax, eax);
            before?.Invoke(c);
            var loop = c.CreateLabel();
            c.Label(ref loop);
            body(c);
            c.dec(ecx);
            c.jne(loop);
            GuestImage.Out(c, DebugConsole, (byte)'E');
            GuestImage.ExitAndPark(c, Success, ring3: true);
        });
    }

    /// <summary>Stores the time stamp counter at <see cref="GuestImage.Data"/> in ring 3 for ever. Makes no exits after one 'B' to 0xe9.</summary>
    public static byte[] StampTime()
    {
        return Ring3(c =>
        {
            GuestImage.Out(c, DebugConsole, (byte)'B');
            var loop = c.CreateLabel();
            c.Label(ref loop);
            c.rdtsc();
            c.shl(rdx, 32);
            c.or(rax, rdx);
            c.mov(__qword_ptr[GuestImage.Data], rax);
            c.jmp(loop);
        });
    }

    /// <summary>Counts in ring 3 for ever; the 64-bit counter is at <see cref="GuestImage.Data"/>. Makes no exits after one 'B' to 0xe9.</summary>
    public static byte[] Spin()
    {
        return Ring3(c =>
        {
            GuestImage.Out(c, DebugConsole, (byte)'B');
            var loop = c.CreateLabel();
            c.Label(ref loop);
            c.inc(__qword_ptr[GuestImage.Data]);
            c.jmp(loop);
        });
    }

    /// <summary>Writes a growing number to the first word of every page of a range from ring 3, round after round.</summary>
    /// <param name="start">First guest physical address, at least 2 MiB and below 2 GiB.</param>
    /// <param name="length">Bytes, a multiple of 4096.</param>
    /// <param name="rounds">After so many the guest exits; 0 is never. Every round ends with '.' to 0xe9.</param>
    public static byte[] DirtyMemory(uint start, uint length, uint rounds = 0)
    {
        return Ring3(c =>
        {
            c.mov(r8d, 1);
            var round = c.CreateLabel();
            c.Label(ref round);
            c.mov(edi, start);
            c.mov(ecx, length / 4096);
            var page = c.CreateLabel();
            c.Label(ref page);
            c.mov(__qword_ptr[rdi], r8);
            c.add(rdi, 4096);
            c.dec(ecx);
            c.jne(page);
            GuestImage.Out(c, DebugConsole, (byte)'.');
            c.inc(r8d);
            if (rounds != 0)
            {
                c.cmp(r8d, rounds + 1);
                c.jne(round);
                GuestImage.ExitAndPark(c, Success, ring3: true);
            }
            else
            {
                c.jmp(round);
            }
        });
    }

    /// <summary>
    /// Every vCPU writes '0' + its APIC id to 0xe9, in whatever order they start; when <paramref name="cpus"/> have reported, the first one
    /// writes a line feed and exits.
    /// </summary>
    public static byte[] SmpReport(int cpus)
    {
        const uint trampoline = 0x8000;
        const uint counter = GuestImage.Data;
        const uint apic = 0xfee00000;
        const uint trampolineCode = GuestImage.LongCode;

        // Real mode: report, count, park. Assembled for its final place and copied there.
        return new GuestImage()
            .Code(16, trampolineCode, c =>
            {
                c.cli();
                c.mov(eax, 1);
                c.cpuid();
                c.shr(ebx, 24);
                c.mov(al, bl);
                c.add(al, (byte)'0');
                c.mov(dx, DebugConsole);
                c.@out(dx, al);

                // Segment FFFF reaches the first 64 KiB above 1 MiB; offsets there are 16 less.
                c.mov(ax, 0xffff);
                c.mov(ds, ax);
                c.@lock.inc(__dword_ptr[(ushort)(counter - 0xffff0)]);
                var park = c.CreateLabel();
                c.Label(ref park);
                c.hlt();
                c.jmp(park);
            })
            .Code(32, GuestImage.Entry, c =>
            {
                c.mov(esp, GuestImage.KernelStackTop);
                c.mov(esi, trampolineCode);
                c.mov(edi, trampoline);
                c.mov(ecx, 64);
                c.rep.movsd();

                // Software-enable the local APIC, then INIT and two start-up messages to all others.
                c.mov(__dword_ptr[apic + 0xf0], 0x1ff);
                c.mov(__dword_ptr[apic + 0x300], 0xc4500);
                Delay(c, 20_000);
                c.mov(__dword_ptr[apic + 0x300], 0xc4600 | (trampoline >> 12));
                Delay(c, 2_000);
                c.mov(__dword_ptr[apic + 0x300], 0xc4600 | (trampoline >> 12));
                c.mov(eax, 1);
                c.cpuid();
                c.shr(ebx, 24);
                c.lea(eax, __[ebx + '0']);
                c.mov(edx, DebugConsole);
                c.@out(dx, al);
                c.@lock.inc(__dword_ptr[counter]);
                var wait = c.CreateLabel();
                c.Label(ref wait);
                c.pause();
                c.cmp(__dword_ptr[counter], cpus);
                c.jb(wait);
                GuestImage.Out(c, DebugConsole, (byte)'\n');
                GuestImage.ExitAndPark(c, Success);
            })
            .ToPvhElf();
    }

    /// <summary>
    /// Walks the PVH memory map and writes "start length type" in hexadecimal, one line per entry, to 0xe9; in every RAM entry above 2 MiB it
    /// writes and reads back a pattern at both ends, and exits with <see cref="Success"/> or <see cref="Failure"/>.
    /// </summary>
    public static byte[] MemoryProbe()
    {
        return new GuestImage()
            .EnterLongMode(gigabytes: 16)
            .Code(64, GuestImage.LongCode, EmitMemoryProbe)
            .ToPvhElf();
    }

    private static void EmitMemoryProbe(Assembler c)
    {
        var printHex = c.CreateLabel();
        var failed = c.CreateLabel();
        var check = c.CreateLabel();
        GuestImage.LongModeProlog(c);

        // RSI: memory map, R12: entries left.
        c.mov(rsi, __qword_ptr[rbx + 40]);
        c.mov(r12d, __dword_ptr[rbx + 48]);
        var next = c.CreateLabel();
        var skip = c.CreateLabel();
        c.Label(ref next);
        c.mov(rdi, __qword_ptr[rsi]);
        c.mov(r9d, ' ');
        c.call(printHex);
        c.mov(rdi, __qword_ptr[rsi + 8]);
        c.call(printHex);
        c.mov(edi, __dword_ptr[rsi + 16]);
        c.mov(r9d, '\n');
        c.call(printHex);

        c.cmp(__dword_ptr[rsi + 16], 1);
        c.jne(skip);
        c.mov(rdi, __qword_ptr[rsi]);
        c.mov(rbp, rdi);
        c.add(rbp, __qword_ptr[rsi + 8]);
        c.cmp(rdi, 0x100000);
        c.jb(skip);
        var notOurs = c.CreateLabel();
        c.jne(notOurs);
        c.mov(edi, 0x200000);
        c.Label(ref notOurs);
        c.call(check);
        c.lea(rdi, __[rbp - 8]);
        c.call(check);
        c.Label(ref skip);
        c.add(rsi, 24);
        c.dec(r12d);
        c.jne(next);

        // Nothing may alias: the first pattern written must still be there.
        c.mov(edi, 0x200000);
        c.mov(rax, rdi);
        c.not(rax);
        c.cmp(__qword_ptr[rdi], rax);
        c.jne(failed);
        GuestImage.ExitAndPark(c, Success);

        c.Label(ref failed);
        GuestImage.Out(c, DebugConsole, (byte)'F');
        GuestImage.ExitAndPark(c, Failure);

        // Writes the complement of the address in RDI there and reads it back.
        c.Label(ref check);
        c.mov(rax, rdi);
        c.not(rax);
        c.mov(__qword_ptr[rdi], rax);
        c.cmp(__qword_ptr[rdi], rax);
        c.jne(failed);
        c.ret();

        // RDI in hexadecimal without leading zeros, then R9.
        c.Label(ref printHex);
        c.mov(edx, DebugConsole);
        c.mov(ecx, 16);
        c.xor(r8d, r8d);
        var digit = c.CreateLabel();
        var quiet = c.CreateLabel();
        var emit = c.CreateLabel();
        c.Label(ref digit);
        c.rol(rdi, 4);
        c.mov(eax, edi);
        c.and(eax, 15);
        c.or(r8d, eax);
        c.cmp(ecx, 1);
        c.je(emit);
        c.test(r8d, r8d);
        c.je(quiet);
        c.Label(ref emit);
        c.add(eax, '0');
        c.cmp(eax, '9');
        var plain = c.CreateLabel();
        c.jbe(plain);
        c.add(eax, 'a' - '9' - 1);
        c.Label(ref plain);
        c.@out(dx, al);
        c.Label(ref quiet);
        c.dec(ecx);
        c.jne(digit);
        c.mov(eax, r9d);
        c.@out(dx, al);
        c.ret();
    }

    private static GuestImage HelloImage()
    {
        return new GuestImage().Code(32, GuestImage.Entry, c =>
        {
            foreach (var ch in Hello)
            {
                GuestImage.Out(c, Serial, (byte)ch);
                c.mov(edx, DebugConsole);
                c.@out(dx, al);
            }

            GuestImage.ExitAndPark(c, Success);
        });
    }

    /// <summary>A guest whose <paramref name="body"/> runs in ring 3 in 64-bit mode, with every port open to it and interrupts off.</summary>
    public static byte[] Ring3(Action<Assembler> body)
    {
        return new GuestImage()
            .EnterLongMode(gigabytes: 2)
            .Code(64, GuestImage.LongCode, c =>
            {
                GuestImage.LongModeProlog(c);
                GuestImage.EnterUser(c, GuestImage.UserCode);
            })
            .Code(64, GuestImage.UserCode, body)
            .ToPvhElf();
    }

    private static void Delay(Assembler c, int iterations)
    {
        c.mov(ecx, iterations);
        var loop = c.CreateLabel();
        c.Label(ref loop);
        c.dec(ecx);
        c.jne(loop);
    }
}
