using System.Buffers.Binary;
using System.Text;
using Vmm.ObjectModel.Accel;

namespace Vmm.Kvm.Tests;

/// <summary>Layouts, compared with what QEMU 7.2 prints of a CPU after reset.</summary>
public sealed class DumpTests
{
    private const string ResetState = """
        EAX=00000000 EBX=00000000 ECX=00000000 EDX=00060fb1
        ESI=00000000 EDI=00000000 EBP=00000000 ESP=00000000
        EIP=0000fff0 EFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=0
        ES =0000 00000000 0000ffff 00009300
        CS =f000 ffff0000 0000ffff 00009b00
        SS =0000 00000000 0000ffff 00009300
        DS =0000 00000000 0000ffff 00009300
        FS =0000 00000000 0000ffff 00009300
        GS =0000 00000000 0000ffff 00009300
        LDT=0000 00000000 0000ffff 00008200
        TR =0000 00000000 0000ffff 00008b00
        GDT=     00000000 0000ffff
        IDT=     00000000 0000ffff
        CR0=60000010 CR2=00000000 CR3=00000000 CR4=00000000
        DR0=0000000000000000 DR1=0000000000000000 DR2=0000000000000000 DR3=0000000000000000@
        DR6=00000000ffff0ff0 DR7=0000000000000400
        EFER=0000000000000000
        FCW=037f FSW=0000 [ST=0] FTW=00 MXCSR=00001f80
        FPR0=0000000000000000 0000 FPR1=0000000000000000 0000
        FPR2=0000000000000000 0000 FPR3=0000000000000000 0000
        FPR4=0000000000000000 0000 FPR5=0000000000000000 0000
        FPR6=0000000000000000 0000 FPR7=0000000000000000 0000
        XMM00=0000000000000000 0000000000000000 XMM01=0000000000000000 0000000000000000
        XMM02=0000000000000000 0000000000000000 XMM03=0000000000000000 0000000000000000
        XMM04=0000000000000000 0000000000000000 XMM05=0000000000000000 0000000000000000
        XMM06=0000000000000000 0000000000000000 XMM07=0000000000000000 0000000000000000

        """;

    [Test]
    public void RegistersAfterReset()
    {
        using var vm = new TestVm([0xf4]);
        vm.Locked(vm.Accelerator.ResetVcpus);
        CpuArchState state = vm.Cpu.GetState();
        state.Gpr[2] = 0x60fb1;
        var text = new StringBuilder();
        CpuDump.WriteRegisters(text, state, fpu: true);
        Assert.That(text.ToString(), Is.EqualTo(ResetState.Replace('@', ' ')));
    }

    [Test]
    public void LapicAfterReset()
    {
        byte[] page = new byte[1024];
        foreach (int lvt in (int[])[0x320, 0x330, 0x340, 0x350, 0x360, 0x370])
        {
            BinaryPrimitives.WriteUInt32LittleEndian(page.AsSpan(lvt), 0x10000);
        }

        BinaryPrimitives.WriteUInt32LittleEndian(page.AsSpan(0xf0), 0xff);
        BinaryPrimitives.WriteUInt32LittleEndian(page.AsSpan(0xe0), uint.MaxValue);
        var text = new StringBuilder();
        LapicDump.Write(text, page, 0, true);
        Assert.That(text.ToString(), Is.EqualTo(
            "dumping local APIC state for CPU 0 \n\n"
            + "LVT0\t 0x00010000 active-hi edge  masked                      Fixed  (vec 0)\n"
            + "LVT1\t 0x00010000 active-hi edge  masked                      Fixed  (vec 0)\n"
            + "LVTPC\t 0x00010000 active-hi edge  masked                      Fixed  (vec 0)\n"
            + "LVTERR\t 0x00010000 active-hi edge  masked                      Fixed  (vec 0)\n"
            + "LVTTHMR\t 0x00010000 active-hi edge  masked                      Fixed  (vec 0)\n"
            + "LVTT\t 0x00010000 active-hi edge  masked         one-shot     Fixed  (vec 0)\n"
            + "Timer\t DCR=0x0 (divide by 2) initial_count = 0 current_count = 0\n"
            + "SPIV\t 0x000000ff APIC disabled, focus=off, spurious vec 255\n"
            + "ICR\t 0x00000000 physical edge de-assert no-shorthand\n"
            + "ICR2\t 0x00000000 cpu 0 (X2APIC ID)\n"
            + "ESR\t 0x00000000\nISR\t (none)\nIRR\t (none)\n\n"
            + "APR 0x00 TPR 0x00 DFR 0x0f LDR 0x00 PPR 0x00\n"));
    }

    [Test]
    public void CodeBytesAroundTheInstructionPointer()
    {
        var state = new CpuArchState { Rip = 2 };
        var text = new StringBuilder();
        CpuDump.WriteCode(text, state, at => at < 4 ? (int)at : -1);
        Assert.That(text.ToString(), Does.StartWith("Code=00 01 <02> 03 ?? ??"));
        Assert.That(text.ToString().Split(' '), Has.Length.EqualTo(50));
    }

    [Test]
    public void Instructions()
    {
        byte[] code = [0xea, 0x5b, 0xe0, 0x00, 0xf0, 0x30, 0x36, 0x2f, 0x32];
        var text = new StringBuilder();
        Disassembly.Write(text, 0xffff0, 3, 16, (at, one) =>
        {
            bool there = at - 0xffff0 < (ulong)code.Length;
            one[0] = there ? code[at - 0xffff0] : (byte)0;
            return there;
        });
        string[] lines = text.ToString().Split('\n');
        Assert.That(lines[0], Does.StartWith("0x000ffff0:  ea 5b e0 00 f0           ljmpw    $0xf000"));
        Assert.That(lines[1], Is.EqualTo("0x000ffff5:  30 36 2f 32              xorb     %dh, 0x322f"));
        Assert.That(lines[2], Is.EqualTo("0x000ffff9: unable to read memory"));
    }
}
