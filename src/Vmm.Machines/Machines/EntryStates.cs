using Vmm.Machines.Loading;
using Vmm.ObjectModel.Accel;

namespace Vmm.Machines;

/// <summary>Turns a boot image's entry state into register state of the bootstrap processor.</summary>
internal static class EntryStates
{
    /// <summary>The state in which the kernel is entered; what the entry does not define stays as after reset.</summary>
    public static CpuArchState ToArchState(CpuEntryState entry, CpuArchState state)
    {
        ReadOnlySpan<ulong> general = [entry.Rax, entry.Rcx, entry.Rdx, entry.Rbx, entry.Rsp, entry.Rbp, entry.Rsi, entry.Rdi];
        Array.Clear(state.Gpr);
        general.CopyTo(state.Gpr);
        state.Rip = entry.Rip;
        state.Rflags = entry.Rflags;
        state.Cr0 = entry.Cr0;
        state.Cr3 = entry.Cr3;
        state.Cr4 = entry.Cr4;
        state.Efer = entry.Efer;
        for (int i = 0; i < state.Segments.Length; i++)
        {
            state.Segments[i] = Convert(i == 1 ? entry.Cs : entry.Data);
        }

        state.Tr = Convert(entry.Tr);
        state.Gdt = (entry.GdtBase, entry.GdtLimit);
        return state;
    }

    /// <summary>The state after reset, but at an address below 1 MiB: its segment is as high as it can be.</summary>
    public static CpuArchState RealMode(uint address, CpuArchState state)
    {
        ushort selector = (ushort)(address >> 4);
        state.Rip = address & 15;
        state.Segments[1] = state.Segments[1] with { Selector = selector, Base = (ulong)selector << 4 };
        return state;
    }

    private static ObjectModel.Accel.SegmentState Convert(Loading.SegmentState s) =>
        new(s.Selector, s.Base, s.Limit, s.Type, Present: s.Present, Dpl: 0, Db: s.Big, S: !s.System, L: s.Long, G: s.Granular);
}
