using System.Buffers.Binary;
using System.Diagnostics;
using Vmm.Interop;
using Vmm.Interop.KvmApi;

namespace Vmm.Benchmarks;

/// <summary>
/// The least that a user of /dev/kvm can do: one vCPU, one slot of memory, an interrupt controller in the kernel, and a loop that answers
/// every access with nothing. What it needs per exit is the kernel's cost.
/// </summary>
internal static class BareLoop
{
    private const ulong RamBytes = 64 << 20;
    private const int ThreadCpuClock = 3;

    /// <summary>
    /// "wall" and "cpu" microseconds per exit of a guest as for <see cref="GuestProbes.Exits"/>, given as a 32-bit ELF file.
    /// </summary>
    public static IProbe Exits(byte[] elf, int count) => new FreshProbe(series =>
    {
        Check(KvmSystem.Open(out KvmSystem? kvm));
        using KvmSystem system = kvm!;
        Check(system.CreateVm(0, out KvmVmFd? created));
        using KvmVmFd vm = created!;
        Check(vm.SetTssAddr(0xFFFBD000));
        Check(vm.CreateIrqchip());
        const int Flags = Libc.MAP_PRIVATE | Libc.MAP_ANONYMOUS;
        Check(MappedMemory.Map(RamBytes, Libc.PROT_READ | Libc.PROT_WRITE, Flags, -1, 0, out MappedMemory? mapped));
        using MappedMemory ram = mapped!;
        uint entry = Load(elf, ram.AsSpan());
        Check(vm.SetUserMemoryRegion(new KvmUserspaceMemoryRegion { memory_size = RamBytes, userspace_addr = (ulong)ram.Address }));
        Check(vm.CreateVcpu(0, out KvmVcpuFd? vcpu));
        using KvmVcpuFd cpu = vcpu!;
        Check(system.GetSupportedCpuid(out KvmCpuidEntry2[] cpuid));
        Check(cpu.SetCpuid2(cpuid));
        EnterProtectedMode(cpu, entry);

        // A thread of its own, as in an emulator; its clock counts nothing else.
        Thread thread = new(() => Run(cpu, count, series));
        thread.Start();
        thread.Join();
    });

    private static void Run(KvmVcpuFd cpu, int count, Series series)
    {
        KvmRun run = cpu.Run;
        long time = 0;
        long used = 0;
        while (true)
        {
            int result = cpu.Enter();
            if (result != 0)
            {
                if (result is -(int)Errno.EINTR or -(int)Errno.EAGAIN)
                {
                    continue;
                }

                throw new IOException(((Errno)(-result)).ToString());
            }

            switch (run.ExitReason)
            {
                case KvmUapi.KVM_EXIT_IO when run.IoIsOut && run.IoPort == 0xe9:
                    if (run.IoData[0] == 'B')
                    {
                        used = Libc.ClockNs(ThreadCpuClock);
                        time = Stopwatch.GetTimestamp();
                    }
                    else if (run.IoData[0] == 'E')
                    {
                        series.Add("wall", Stopwatch.GetElapsedTime(time).TotalMicroseconds / count);
                        series.Add("cpu", (Libc.ClockNs(ThreadCpuClock) - used) / 1e3 / count);
                        return;
                    }

                    break;
                case KvmUapi.KVM_EXIT_IO:
                    break;
                case KvmUapi.KVM_EXIT_MMIO:
                    break;
                default:
                    throw new IOException($"exit {run.ExitReason}");
            }
        }
    }

    private static uint Load(ReadOnlySpan<byte> elf, Span<byte> ram)
    {
        int headers = BinaryPrimitives.ReadInt32LittleEndian(elf[28..]);
        int size = BinaryPrimitives.ReadUInt16LittleEndian(elf[42..]);
        int count = BinaryPrimitives.ReadUInt16LittleEndian(elf[44..]);
        for (int i = 0; i < count; i++)
        {
            ReadOnlySpan<byte> header = elf.Slice(headers + (i * size), size);
            if (BinaryPrimitives.ReadInt32LittleEndian(header) == 1)
            {
                int from = BinaryPrimitives.ReadInt32LittleEndian(header[4..]);
                int to = BinaryPrimitives.ReadInt32LittleEndian(header[12..]);
                int bytes = BinaryPrimitives.ReadInt32LittleEndian(header[16..]);
                elf.Slice(from, bytes).CopyTo(ram[to..]);
            }
        }

        return BinaryPrimitives.ReadUInt32LittleEndian(elf[24..]);
    }

    // As PVH wants it: flat 32-bit segments, paging off.
    private static void EnterProtectedMode(KvmVcpuFd cpu, uint entry)
    {
        Check(cpu.GetSregs(out KvmSregs sregs));
        KvmSegment code = new() { limit = 0xffffffff, selector = 8, type = 11, present = 1, db = 1, s = 1, g = 1 };
        KvmSegment data = code with { selector = 16, type = 3 };
        sregs.cs = code;
        sregs.ds = data;
        sregs.es = data;
        sregs.fs = data;
        sregs.gs = data;
        sregs.ss = data;
        sregs.cr0 = 0x11;
        Check(cpu.SetSregs(sregs));
        Check(cpu.SetRegs(new KvmRegs { rip = entry, rflags = 2 }));
    }

    private static void Check(Errno e)
    {
        if (e != Errno.OK)
        {
            throw new IOException(e.ToString());
        }
    }
}
