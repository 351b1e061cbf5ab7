using System.Runtime.Intrinsics.X86;
using System.Text;

namespace Vmm.Kvm.CpuModels;

/// <summary>The CPUID instruction of the host itself.</summary>
internal static class HostCpuid
{
    /// <summary>Runs CPUID.</summary>
    public static (uint Eax, uint Ebx, uint Ecx, uint Edx) Read(uint function, uint index = 0)
    {
        if (!X86Base.IsSupported)
        {
            return default;
        }

        (int eax, int ebx, int ecx, int edx) = X86Base.CpuId((int)function, (int)index);
        return ((uint)eax, (uint)ebx, (uint)ecx, (uint)edx);
    }

    /// <summary>Brand string of the host.</summary>
    public static string Brand()
    {
        var text = new StringBuilder(48);
        for (uint leaf = 0x80000002; leaf <= 0x80000004; leaf++)
        {
            (uint a, uint b, uint c, uint d) = Read(leaf);
            foreach (uint word in (ReadOnlySpan<uint>)[a, b, c, d])
            {
                for (int i = 0; i < 32; i += 8)
                {
                    text.Append((char)(word >> i & 0xff));
                }
            }
        }

        return text.ToString().TrimEnd('\0');
    }

    /// <summary>Bits of physical addresses of the host.</summary>
    public static uint PhysicalBits() => Read(0x80000000).Eax >= 0x80000008 ? Read(0x80000008).Eax & 0xff : 36;
}
