namespace Vmm.Kvm.CpuModels;

/// <summary>One cache, for the leaves that describe caches.</summary>
/// <param name="Type">1 data, 2 instructions, 3 unified.</param>
/// <param name="Level">1 to 3.</param>
/// <param name="SizeKiB">Size in KiB.</param>
/// <param name="Ways">Associativity.</param>
/// <param name="Sets">Sets.</param>
/// <param name="SelfInit">Needs no initialisation by software.</param>
/// <param name="NoInvdSharing">Write-back invalidate does not reach lower levels of threads that share it.</param>
/// <param name="Inclusive">Contains lower levels.</param>
/// <param name="ComplexIndexing">Address bits are hashed.</param>
internal sealed record CpuCache(
    int Type, int Level, int SizeKiB, int Ways, int Sets, bool SelfInit, bool NoInvdSharing,
    bool Inclusive = false, bool ComplexIndexing = false)
{
    private const int LineSize = 64;

    /// <summary>Generic caches of leaf 4: 32 KiB, 32 KiB, 4 MiB, 16 MiB.</summary>
    public static CpuCache[] IntelGeneric { get; } =
    [
        new(1, 1, 32, 8, 64, true, true),
        new(2, 1, 32, 8, 64, true, true),
        new(3, 2, 4096, 16, 4096, true, true),
        new(3, 3, 16384, 16, 16384, true, false, true, true),
    ];

    /// <summary>Generic caches of the AMD leaves: 64 KiB, 64 KiB, 512 KiB, 16 MiB.</summary>
    public static CpuCache[] AmdGeneric { get; } =
    [
        new(1, 1, 64, 2, 512, true, true),
        new(2, 1, 64, 2, 512, true, true),
        new(3, 2, 512, 16, 512, false, false),
        new(3, 3, 16384, 16, 16384, true, false, true, true),
    ];

    /// <summary>Caches of the real processors among the named models (AMD product data); null for models with generic ones.</summary>
    public static CpuCache[] ForModel(string name)
    {
        bool first = name.StartsWith("EPYC-v", StringComparison.Ordinal) || name.StartsWith("Dhyana", StringComparison.Ordinal);
        int l3 = name.StartsWith("EPYC-Milan", StringComparison.Ordinal) ? 32768
            : name.StartsWith("EPYC-Rome", StringComparison.Ordinal) ? 16384 : 8192;
        return
        [
            new(1, 1, 32, 8, 64, true, true),
            first ? new(2, 1, 64, 4, 256, true, true) : new(2, 1, 32, 8, 64, true, true),
            new(3, 2, 512, 8, 1024, false, false),
            new(3, 3, l3, 16, l3, true, false, true, true),
        ];
    }

    /// <summary>EBX, ECX and EDX of leaves 4 and 8000001D.</summary>
    public (uint Ebx, uint Ecx, uint Edx) Geometry => (
        (uint)(LineSize - 1) | (uint)(Ways - 1) << 22,
        (uint)(Sets - 1),
        (NoInvdSharing ? 1u : 0) | (Inclusive ? 2u : 0) | (ComplexIndexing ? 4u : 0));

    /// <summary>EAX of leaves 4 and 8000001D, for as many logical CPUs that share the cache and cores in the package.</summary>
    public uint Header(int sharing, int cores) =>
        (uint)Type | (uint)Level << 5 | (SelfInit ? 1u << 8 : 0) | (uint)(sharing - 1) << 14 | (uint)(cores - 1) << 26;

    /// <summary>A first-level cache in leaf 80000005.</summary>
    public uint AmdLevel1 => (uint)SizeKiB << 24 | (uint)Ways << 16 | 1 << 8 | LineSize;

    /// <summary>The second level in leaf 80000006.</summary>
    public uint AmdLevel2 => (uint)SizeKiB << 16 | AmdWays << 12 | 1 << 8 | LineSize;

    /// <summary>The third level in leaf 80000006, in units of 512 KiB.</summary>
    public uint AmdLevel3 => (uint)(SizeKiB / 512) << 18 | AmdWays << 12 | 1 << 8 | LineSize;

    /// <summary>Associativity as leaf 80000006 encodes it.</summary>
    private uint AmdWays => Ways switch
    {
        <= 1 => 1,
        2 => 2,
        4 => 4,
        8 => 6,
        16 => 8,
        32 => 10,
        48 => 11,
        64 => 12,
        96 => 13,
        128 => 14,
        _ => 15,
    };
}
