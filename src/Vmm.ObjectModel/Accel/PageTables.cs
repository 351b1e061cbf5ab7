using Vmm.Memory;

namespace Vmm.ObjectModel.Accel;

/// <summary>Paging of the x86 (Intel SDM vol. 3, chapter 4), walked in software for monitors and debuggers.</summary>
public static class PageTables
{
    private const ulong Present = 1;
    private const ulong PageSizeBit = 1 << 7;
    private const ulong AddressMask = 0x000f_ffff_ffff_f000;
    private const ulong Cr0Paging = 1UL << 31;
    private const ulong Cr4Pse = 1 << 4;
    private const ulong Cr4Pae = 1 << 5;
    private const ulong Cr4La57 = 1 << 12;
    private const ulong EferLma = 1 << 10;

    /// <summary>Modes of paging.</summary>
    public enum Mode
    {
        /// <summary>Linear addresses are physical.</summary>
        None,

        /// <summary>Two levels, 32-bit entries.</summary>
        Bits32,

        /// <summary>Three levels, 64-bit entries.</summary>
        Pae,

        /// <summary>Four levels.</summary>
        Level4,

        /// <summary>Five levels.</summary>
        Level5,
    }

    /// <summary>The mode that the control registers select.</summary>
    public static Mode ModeOf(CpuArchState state) =>
        (state.Cr0 & Cr0Paging) == 0 ? Mode.None
        : (state.Cr4 & Cr4Pae) == 0 ? Mode.Bits32
        : (state.Efer & EferLma) == 0 ? Mode.Pae
        : (state.Cr4 & Cr4La57) != 0 ? Mode.Level5 : Mode.Level4;

    /// <summary>Reads entries of page tables.</summary>
    public interface IEntries
    {
        /// <summary>A little-endian entry of 32 bits at a physical address.</summary>
        uint ReadU32(ulong address);

        /// <summary>A little-endian entry of 64 bits at a physical address.</summary>
        ulong ReadU64(ulong address);
    }

    /// <summary>The physical address of <paramref name="linear"/>; false when not mapped. Permissions are not checked.</summary>
    public static bool TryTranslate(CpuArchState state, AddressSpace memory, ulong linear, out ulong physical) =>
        TryTranslate(state, new SpaceEntries(memory), linear, out physical);

    /// <inheritdoc cref="TryTranslate(CpuArchState, AddressSpace, ulong, out ulong)"/>
    public static bool TryTranslate<TEntries>(CpuArchState state, TEntries memory, ulong linear, out ulong physical)
        where TEntries : IEntries
    {
        Mode mode = ModeOf(state);
        physical = 0;
        if (mode is Mode.Bits32 or Mode.Pae)
        {
            linear = (uint)linear;
        }

        switch (mode)
        {
            case Mode.None:
                physical = linear;
                return true;
            case Mode.Bits32:
                return TryTranslate32(state, memory, (uint)linear, out physical);
        }

        int levels = mode == Mode.Level5 ? 5 : mode == Mode.Level4 ? 4 : 3;
        ulong table = mode == Mode.Pae ? state.Cr3 & 0xffff_ffe0 : state.Cr3 & AddressMask;
        if (levels > 3)
        {
            int unused = 64 - 12 - (levels * 9);
            if ((ulong)((long)linear << unused >> unused) != linear)
            {
                return false;
            }
        }

        for (int level = levels; level > 0; level--)
        {
            int shift = 12 + ((level - 1) * 9);
            ulong index = mode == Mode.Pae && level == 3 ? linear >> 30 & 3 : linear >> shift & 0x1ff;
            ulong entry = memory.ReadU64(table + (index * 8));
            if ((entry & Present) == 0)
            {
                return false;
            }

            bool large = (level == 2 || (level == 3 && mode != Mode.Pae)) && (entry & PageSizeBit) != 0;
            if (level == 1 || large)
            {
                ulong pageMask = (1UL << shift) - 1;
                physical = (entry & AddressMask & ~pageMask) | (linear & pageMask);
                return true;
            }

            table = entry & AddressMask;
        }

        return false;
    }

    private static bool TryTranslate32<TEntries>(CpuArchState state, TEntries memory, uint linear, out ulong physical)
        where TEntries : IEntries
    {
        physical = 0;
        uint directory = memory.ReadU32((state.Cr3 & 0xffff_f000) + ((linear >> 22) * 4));
        if ((directory & Present) == 0)
        {
            return false;
        }

        if ((directory & PageSizeBit) != 0 && (state.Cr4 & Cr4Pse) != 0)
        {
            // PSE-36: bits 13..20 of the entry are bits 32..39 of the address.
            physical = ((ulong)(directory & 0x1fe000) << 19) | (directory & 0xffc0_0000) | (linear & 0x3f_ffff);
            return true;
        }

        uint entry = memory.ReadU32((directory & 0xffff_f000) + ((linear >> 12 & 0x3ff) * 4));
        if ((entry & Present) == 0)
        {
            return false;
        }

        physical = (entry & 0xffff_f000) | (linear & 0xfff);
        return true;
    }

    private readonly struct SpaceEntries(AddressSpace memory) : IEntries
    {
        public uint ReadU32(ulong address) => memory.ReadU32(address);

        public ulong ReadU64(ulong address) => memory.ReadU64(address);
    }
}
