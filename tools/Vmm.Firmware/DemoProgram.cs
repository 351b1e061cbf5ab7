using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace Vmm.Firmware;

/// <summary>The demonstration guest: 64-bit code in ring 3 that writes memory, and between two rounds answers keys on COM1.</summary>
internal sealed class DemoProgram(Assembler c, RomImage rom)
{
    /// <summary>Variables, 256 bytes, cleared at reset.</summary>
    public const uint Variables = 0x5000;

    public const uint ApCount = Variables;
    public const uint NmiCount = Variables + 4;

    private const uint RamSize = Variables + 8;
    private const uint CpuCount = Variables + 0x10;
    private const uint WorkloadOn = Variables + 0x14;
    private const uint Rounds = Variables + 0x18;
    private const uint NmiSeen = Variables + 0x20;
    private const uint Brand = Variables + 0x40;

    private const uint WorkStart = 0x400000;
    private const uint WorkPages = 1024;
    private const int MinimumRam = 16 << 20;

    // Rounds between two looks at the serial port, each of which is an exit: about a tenth of a millisecond of work.
    private const int RoundsPerPoll = 256;

    private const ushort Com1 = 0x3f8;
    private const ushort LineStatus = Com1 + 5;
    private const ushort FwCfgSelector = 0x510;
    private const ushort FwCfgData = 0x511;
    private const ushort PmControl = 0x604;
    private const ushort Pvpanic = 0x505;
    private const uint GedSleepControl = 0xfea00200;
    private const uint GedReset = 0xfea00202;

    private Label _putChar = c.CreateLabel();
    private Label _putText = c.CreateLabel();
    private Label _putDecimal = c.CreateLabel();
    private Label _fwCfgRead = c.CreateLabel();
    private Label _showMemory = c.CreateLabel();
    private Label _showCpus = c.CreateLabel();
    private Label _showHelp = c.CreateLabel();

    public void Emit()
    {
        InitialiseHardware();
        ReadFwCfg();
        AwaitOtherProcessors();
        Print("\n\nVmm boot ROM: no kernel and no firmware was given, so this demonstration guest runs.\n");
        c.call(_showMemory);
        c.call(_showCpus);
        c.call(_showHelp);

        // The workload needs the range from 4 to 8 MiB.
        c.cmp(__qword_ptr[RamSize], MinimumRam);
        var poll = c.CreateLabel();
        c.jb(poll);
        c.mov(__dword_ptr[WorkloadOn], 1);
        EmitMainLoop(poll);
        EmitSubroutines();
    }

    private void EmitMainLoop(Label poll)
    {
        var idle = c.CreateLabel();
        var work = c.CreateLabel();
        var noNmi = c.CreateLabel();
        c.Label(ref poll);
        c.mov(eax, __dword_ptr[NmiCount]);
        c.cmp(eax, __dword_ptr[NmiSeen]);
        c.je(noNmi);
        c.mov(__dword_ptr[NmiSeen], eax);
        Print("A non-maskable interrupt arrived.\n");
        c.Label(ref noNmi);

        // Where there is no UART the status reads as all ones.
        c.mov(edx, LineStatus);
        c.@in(al, dx);
        c.cmp(al, 0xff);
        c.je(work);
        c.test(al, 1);
        c.je(work);
        c.mov(edx, Com1);
        c.@in(al, dx);
        c.or(al, 0x20);
        EmitKeys(poll);

        c.Label(ref work);
        c.cmp(__dword_ptr[WorkloadOn], 0);
        c.je(idle);
        c.mov(ebx, RoundsPerPoll);
        var round = c.CreateLabel();
        var page = c.CreateLabel();
        c.Label(ref round);
        c.mov(rax, __qword_ptr[Rounds]);
        c.mov(edi, WorkStart);
        c.mov(ecx, WorkPages);
        c.Label(ref page);
        c.mov(__qword_ptr[rdi], rax);
        c.add(rdi, 4096);
        c.dec(ecx);
        c.jne(page);
        c.inc(__qword_ptr[Rounds]);
        c.dec(ebx);
        c.jne(round);
        c.jmp(poll);

        c.Label(ref idle);
        c.mov(ecx, 50_000);
        var pause = c.CreateLabel();
        c.Label(ref pause);
        c.pause();
        c.dec(ecx);
        c.jne(pause);
        c.jmp(poll);
    }

    private void EmitKeys(Label poll)
    {
        Key('h', poll, () => c.call(_showHelp));
        Key('m', poll, () => c.call(_showMemory));
        Key('c', poll, () => c.call(_showCpus));
        Key('w', poll, ToggleWorkload);
        Key('r', poll, Reboot);
        Key('s', poll, PowerOff);
        Key('p', poll, Panic);
        c.jmp(poll);
    }

    private void Key(char key, Label poll, Action action)
    {
        var next = c.CreateLabel();
        c.cmp(al, (byte)key);
        c.jne(next);
        action();
        c.jmp(poll);
        c.Label(ref next);
    }

    private void ToggleWorkload()
    {
        var off = c.CreateLabel();
        var done = c.CreateLabel();
        var enough = c.CreateLabel();
        c.cmp(__qword_ptr[RamSize], MinimumRam);
        c.jae(enough);
        Print("The workload needs 16 MiB of memory.\n");
        c.jmp(done);
        c.Label(ref enough);
        c.xor(__dword_ptr[WorkloadOn], 1);
        c.je(off);
        Print("Workload on.\n");
        c.jmp(done);
        c.Label(ref off);
        Print("Workload off.\n");
        c.Label(ref done);
        c.nop();
    }

    private void Reboot()
    {
        Print("Rebooting.\n");
        Out8(0xcf9, 0x02);
        Out8(0xcf9, 0x06);
        Out8(0x64, 0xfe);
        c.mov(edi, GedReset);
        c.mov(__byte_ptr[rdi], 0x42);
        Print("Nothing resets this machine.\n");
    }

    // SLP_EN with the sleep type for soft off: 0 in the PIIX4's control register, 5 in a generic event device's sleep register.
    private void PowerOff()
    {
        Print("Switching off.\n");
        c.mov(edx, PmControl);
        c.mov(eax, 0x2000);
        c.@out(dx, ax);
        c.mov(edi, GedSleepControl);
        c.mov(__byte_ptr[rdi], 0x34);
        Print("Nothing switches this machine off.\n");
    }

    private void Panic()
    {
        var absent = c.CreateLabel();
        var done = c.CreateLabel();
        c.mov(edx, Pvpanic);
        c.@in(al, dx);
        c.cmp(al, 0xff);
        c.je(absent);
        Print("Reporting a panic.\n");
        Out8(Pvpanic, 1);
        c.jmp(done);
        c.Label(ref absent);
        Print("There is no pvpanic device; start with -device pvpanic.\n");
        c.Label(ref done);
        c.nop();
    }

    private void InitialiseHardware()
    {
        // 115200 baud, 8 bits, no parity, FIFOs on.
        Out8(Com1 + 1, 0x00);
        Out8(Com1 + 3, 0x83);
        Out8(Com1, 0x01);
        Out8(Com1 + 1, 0x00);
        Out8(Com1 + 3, 0x03);
        Out8(Com1 + 2, 0x07);
        Out8(Com1 + 4, 0x03);

        // A PIIX4 wants to be told where its power management registers are: function 3 of device 1, base at 0x40, enable in 0x80.
        var noPiix4 = c.CreateLabel();
        PciSelect(0x80000b00);
        c.@in(eax, dx);
        c.cmp(eax, 0x71138086);
        c.jne(noPiix4);
        PciSelect(0x80000b40);
        c.mov(eax, 0x601);
        c.@out(dx, eax);
        PciSelect(0x80000b80);
        c.@in(al, dx);
        c.or(al, 1);
        c.@out(dx, al);
        c.Label(ref noPiix4);
        c.nop();
    }

    private void PciSelect(uint address)
    {
        c.mov(edx, 0xcf8);
        c.mov(eax, address);
        c.@out(dx, eax);
        c.mov(edx, 0xcfc);
    }

    // Keys of fw_cfg: 0 signature, 3 RAM size (8 bytes), 5 number of processors (2 bytes).
    private void ReadFwCfg()
    {
        var absent = c.CreateLabel();
        var done = c.CreateLabel();
        c.xor(eax, eax);
        c.mov(ecx, 4);
        c.call(_fwCfgRead);
        c.cmp(ebx, 0x554d4551);
        c.jne(absent);
        c.mov(eax, 3);
        c.mov(ecx, 8);
        c.call(_fwCfgRead);
        c.mov(__qword_ptr[RamSize], rbx);
        c.mov(eax, 5);
        c.mov(ecx, 2);
        c.call(_fwCfgRead);
        c.mov(__dword_ptr[CpuCount], ebx);
        c.jmp(done);
        c.Label(ref absent);
        c.mov(eax, __dword_ptr[ApCount]);
        c.inc(eax);
        c.mov(__dword_ptr[CpuCount], eax);
        c.Label(ref done);
        c.nop();
    }

    // Bounded, so that a processor that does not start costs a moment and not the machine.
    private void AwaitOtherProcessors()
    {
        var wait = c.CreateLabel();
        var done = c.CreateLabel();
        c.mov(ecx, 50_000_000);
        c.Label(ref wait);
        c.mov(eax, __dword_ptr[ApCount]);
        c.inc(eax);
        c.cmp(eax, __dword_ptr[CpuCount]);
        c.jae(done);
        c.dec(ecx);
        c.jne(wait);
        c.Label(ref done);
        c.nop();
    }

    private void EmitSubroutines()
    {
        // Reads ECX bytes of item AX into RBX, little-endian.
        c.Label(ref _fwCfgRead);
        var next = c.CreateLabel();
        c.mov(edx, FwCfgSelector);
        c.@out(dx, ax);
        c.mov(edx, FwCfgData);
        c.xor(ebx, ebx);
        c.mov(r8d, ecx);
        c.Label(ref next);
        c.@in(al, dx);
        c.movzx(eax, al);
        c.or(rbx, rax);
        c.ror(rbx, 8);
        c.dec(ecx);
        c.jne(next);

        // So far the value sits at the top of RBX; bring it down by the bytes that were not read.
        c.mov(ecx, 8);
        c.sub(ecx, r8d);
        c.shl(ecx, 3);
        c.shr(rbx, cl);
        c.ret();

        // AL to the serial port; waits for room, but not for ever.
        c.Label(ref _putChar);
        var wait = c.CreateLabel();
        var send = c.CreateLabel();
        c.push(rdx);
        c.push(rcx);
        c.push(rax);
        c.mov(edx, LineStatus);
        c.mov(ecx, 1000);
        c.Label(ref wait);
        c.@in(al, dx);
        c.test(al, 0x20);
        c.jne(send);
        c.dec(ecx);
        c.jne(wait);
        c.Label(ref send);
        c.pop(rax);
        c.mov(edx, Com1);
        c.@out(dx, al);
        c.pop(rcx);
        c.pop(rdx);
        c.ret();

        // Text at RSI.
        c.Label(ref _putText);
        var end = c.CreateLabel();
        c.mov(al, __byte_ptr[rsi]);
        c.test(al, al);
        c.je(end);
        c.call(_putChar);
        c.inc(rsi);
        c.jmp(_putText);
        c.Label(ref end);
        c.ret();

        // RAX in decimal: digits go onto the stack, then come off in order.
        c.Label(ref _putDecimal);
        var divide = c.CreateLabel();
        var emit = c.CreateLabel();
        c.mov(ecx, 10);
        c.xor(ebx, ebx);
        c.Label(ref divide);
        c.xor(edx, edx);
        c.div(rcx);
        c.push(rdx);
        c.inc(ebx);
        c.test(rax, rax);
        c.jne(divide);
        c.Label(ref emit);
        c.pop(rax);
        c.add(al, (byte)'0');
        c.call(_putChar);
        c.dec(ebx);
        c.jne(emit);
        c.ret();

        EmitReports();
    }

    private void EmitReports()
    {
        c.Label(ref _showMemory);
        Print("Memory: ");
        c.mov(rax, __qword_ptr[RamSize]);
        c.shr(rax, 20);
        c.call(_putDecimal);
        Print(" MiB. Workload: ");
        c.mov(rax, __qword_ptr[Rounds]);
        c.call(_putDecimal);
        Print(" rounds over the 1024 pages from 4 MiB.\n");
        c.ret();

        c.Label(ref _showCpus);
        Print("CPUs: ");
        c.mov(eax, __dword_ptr[CpuCount]);
        c.call(_putDecimal);
        Print(", started: ");
        c.mov(eax, __dword_ptr[ApCount]);
        c.inc(eax);
        c.call(_putDecimal);
        Print(" (all but the first are parked). ");

        // The brand string is 48 bytes from three leaves.
        for (uint i = 0; i < 3; i++)
        {
            c.mov(eax, 0x80000002 + i);
            c.cpuid();
            c.mov(__dword_ptr[Brand + i * 16], eax);
            c.mov(__dword_ptr[Brand + i * 16 + 4], ebx);
            c.mov(__dword_ptr[Brand + i * 16 + 8], ecx);
            c.mov(__dword_ptr[Brand + i * 16 + 12], edx);
        }

        c.mov(esi, Brand);
        c.call(_putText);
        Print("\n");
        c.ret();

        c.Label(ref _showHelp);
        Print(
            "Keys: h help, m memory, c CPUs, w workload on or off, p panic, r reboot, s switch off.\n"
            + "Steer this machine over QMP: start it with -qmp unix:/tmp/qmp.sock,server=on,wait=off and send\n"
            + "  {\"execute\": \"qmp_capabilities\"}\n"
            + "  {\"execute\": \"query-status\"}\n"
            + "  {\"execute\": \"stop\"}  {\"execute\": \"cont\"}  {\"execute\": \"inject-nmi\"}\n"
            + "  {\"execute\": \"human-monitor-command\", \"arguments\": {\"command-line\": \"info registers\"}}\n"
            + "  {\"execute\": \"quit\"}\n");
        c.ret();
    }

    private void Print(string text)
    {
        c.mov(esi, rom.Text(text));
        c.call(_putText);
    }

    private void Out8(ushort port, byte value)
    {
        c.mov(edx, port);
        c.mov(eax, value);
        c.@out(dx, al);
    }
}
