using Vmm.ObjectModel.Accel;

namespace Vmm.Kvm;

/// <summary>Registers by the names that expressions of the terminal use.</summary>
public static class CpuRegisters
{
    private static readonly string[] s_general = ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"];
    private static readonly string[] s_segments = ["es", "cs", "ss", "ds", "fs", "gs"];

    /// <summary>The value of a register; null for a name that means none. General registers have their full width.</summary>
    public static long? Read(CpuArchState state, string name)
    {
        switch (name)
        {
            case "eip":
                return (long)state.Rip;
            case "pc":
                return (long)(state.Segments[1].Base + state.Rip);
            case "eflags":
                return (long)state.Rflags;
            case "sp":
                return (long)state.Gpr[4];
            case "fp":
                return (long)state.Gpr[5];
        }

        int general = Array.IndexOf(s_general, name);
        if (general >= 0)
        {
            return (long)state.Gpr[general];
        }

        if (name is ['r', ..] && int.TryParse(name.AsSpan(1), out int number) && number is >= 8 and <= 15)
        {
            return (long)state.Gpr[number];
        }

        int dot = name.IndexOf('.', StringComparison.Ordinal);
        int segment = Array.IndexOf(s_segments, dot < 0 ? name : name[..dot]);
        return segment < 0 ? null : (dot < 0 ? "" : name[dot..]) switch
        {
            "" => state.Segments[segment].Selector,
            ".base" => (long)state.Segments[segment].Base,
            ".limit" => state.Segments[segment].Limit,
            _ => null,
        };
    }
}
