using Vmm.Interop;
using Vmm.Interop.KvmApi;

namespace Vmm.Kvm.CpuModels;

/// <summary>
/// What the host's KVM can give a guest. Asked once, when first needed. Without KVM (a machine whose CPUs never execute) everything is
/// possible.
/// </summary>
public sealed class CpuHost
{
    private readonly Func<KvmSystem?> _kvm;
    private readonly Func<bool> _kernelApic;
    private KvmCpuidEntry2[]? _entries;
    private readonly Dictionary<uint, ulong>? _msrs;
    private KvmSystem? _system;
    private bool _loaded;

    /// <param name="kvm">Opens or finds /dev/kvm; null when this process does not use KVM.</param>
    /// <param name="kernelApic">True when local APICs are (to be) in the kernel.</param>
    public CpuHost(Func<KvmSystem?> kvm, Func<bool> kernelApic)
    {
        _kvm = kvm;
        _kernelApic = kernelApic;
    }

    /// <summary>
    /// A host described by its KVM leaves, feature MSRs, brand and bits of physical addresses, instead of the one we run on.
    /// </summary>
    internal CpuHost(KvmCpuidEntry2[] entries, Dictionary<uint, ulong> msrs, string brand, uint physicalBits)
    {
        _kvm = static () => null;
        _kernelApic = static () => true;
        _entries = entries;
        _msrs = msrs;
        _loaded = true;
        Brand = brand;
        PhysicalBits = physicalBits;
    }

    /// <summary>MWAIT does not leave the guest, so that a guest may have it where KVM can arrange that.</summary>
    public bool GuestPowerManagement { get; init; }

    /// <summary>The operator has been told that this vendor's guests may not expect several threads in a core.</summary>
    internal bool HasWarnedOfThreads { get; set; }

    /// <summary>Brand string of the host.</summary>
    public string Brand
    {
        get => field ??= HostCpuid.Brand();
        private init;
    }

    /// <summary>Bits of physical addresses of the host.</summary>
    public uint PhysicalBits
    {
        get => field == 0 ? field = HostCpuid.PhysicalBits() : field;
        private init;
    }

    /// <summary>True when guests run on KVM.</summary>
    public bool IsKvm
    {
        get
        {
            Load();
            return _entries is not null;
        }
    }

    /// <summary>A leaf of the host's processor as KVM offers it; zeroes where it does not.</summary>
    public KvmCpuidEntry2 Leaf(uint function, uint index = 0)
    {
        Load();
        foreach (ref readonly KvmCpuidEntry2 entry in _entries.AsSpan())
        {
            if (entry.function == function && ((entry.flags & KvmUapi.KVM_CPUID_FLAG_SIGNIFCANT_INDEX) == 0 || entry.index == index))
            {
                return entry;
            }
        }

        return default;
    }

    /// <summary>Bits of a feature word that a guest can have.</summary>
    /// <param name="word">The word.</param>
    /// <param name="migratableOnly">Only features that keep their meaning when the guest moves to another host.</param>
    public ulong Supported(FeatureWord word, bool migratableOnly)
    {
        Load();
        FeatureWordInfo info = CpuFeatureWords.Info(word);
        ulong bits = _entries is null ? ulong.MaxValue : info.Msr != 0 ? FeatureMsr(info.Msr) : Adjusted(word, info);
        if (migratableOnly && word is not (FeatureWord.Xcr0Low or FeatureWord.Xcr0High or FeatureWord.XssLow or FeatureWord.XssHigh))
        {
            ulong named = 0;
            string?[] names = info.Names;
            for (int bit = 0; bit < names.Length; bit++)
            {
                if (names[bit] is not null)
                {
                    named |= 1UL << bit;
                }
            }

            if (word == FeatureWord.Ext7Edx)
            {
                // An invariant TSC ends when the guest arrives on a host with another frequency.
                named &= ~(1UL << 8);
            }

            bits &= named;
        }

        return bits;
    }

    /// <summary>The value of a feature MSR with those features: fields that are no features are the host's.</summary>
    internal ulong ComposeMsr(uint msr, ulong features, string?[] names)
    {
        ulong host = ReadMsr(msr);
        if (IsVmxControl(msr))
        {
            // The lower half tells which controls are always 1; the upper half which may be.
            ulong must = (uint)host;
            return must | (features | must) << 32;
        }

        ulong named = 0;
        for (int bit = 0; bit < names.Length; bit++)
        {
            named |= names[bit] is null ? 0 : 1UL << bit;
        }

        return (host & ~named) | (features & named);
    }

    private static bool IsVmxControl(uint msr) => msr is 0x48b or 0x48d or 0x48e or 0x48f or 0x490;

    private static uint Register(in KvmCpuidEntry2 leaf, CpuidRegister register) => register switch
    {
        CpuidRegister.Eax => leaf.eax,
        CpuidRegister.Ebx => leaf.ebx,
        CpuidRegister.Ecx => leaf.ecx,
        _ => leaf.edx,
    };

    private ulong Adjusted(FeatureWord word, FeatureWordInfo info)
    {
        uint bits = Register(Leaf(info.Leaf, info.SubLeaf ?? 0), info.Register);
        bool kernelApic = _kernelApic();
        switch (word)
        {
            case FeatureWord.Leaf1Edx:
                // MTRR, PAT, MCE and MCA are emulated whatever the processor has.
                bits |= 1u << 12 | 1u << 16 | 1u << 7 | 1u << 14;
                break;
            case FeatureWord.Leaf1Ecx:
                bits |= 1u << 31;
                if (kernelApic && _system?.CheckExtension(KvmUapi.KVM_CAP_TSC_DEADLINE_TIMER) != 0)
                {
                    bits |= 1u << 24;
                }

                if (!kernelApic)
                {
                    bits &= ~(1u << 21);
                }

                if (GuestPowerManagement
                    && ((ulong)(_system?.CheckExtension(KvmUapi.KVM_CAP_X86_DISABLE_EXITS) ?? 0) & KvmUapi.KVM_X86_DISABLE_EXITS_MWAIT) != 0)
                {
                    bits |= 1u << 3;
                }

                break;
            case FeatureWord.ThermalEax:
                bits = 1u << 2;
                break;
            case FeatureWord.Leaf7Edx:
                bits = FeatureMsr(0x10a) == 0 ? bits & ~(1u << 29) : bits;
                break;
            case FeatureWord.Ext1Edx:
                bits |= Register(Leaf(1), CpuidRegister.Edx) & X86Cpu.AmdAliases;
                break;
            case FeatureWord.Ext1Ecx:
                // Topology leaves are ours to fill in.
                bits |= 1u << 22;
                break;
            case FeatureWord.KvmEax:
                if (!kernelApic)
                {
                    bits &= ~(1u << 7);
                }

                break;
            case FeatureWord.KvmEdx:
                bits |= 1;
                break;
        }

        return bits;
    }

    private ulong FeatureMsr(uint msr) => IsVmxControl(msr) ? ReadMsr(msr) >> 32 : ReadMsr(msr);

    private ulong ReadMsr(uint msr)
    {
        Span<KvmMsrEntry> entry = [new KvmMsrEntry(msr, 0)];
        return _msrs?.GetValueOrDefault(msr) ?? (_system?.GetFeatureMsrs(entry) == 1 ? entry[0].data : 0);
    }

    private void Load()
    {
        if (_loaded)
        {
            return;
        }

        _loaded = true;
        _system = _kvm();
        if (_system is not null && _system.GetSupportedCpuid(out KvmCpuidEntry2[] entries) == Errno.OK)
        {
            _entries = entries;
        }
    }
}
