namespace Vmm.Kvm.CpuModels;

/// <summary>A register of a CPUID leaf.</summary>
public enum CpuidRegister : byte
{
    /// <summary>EAX.</summary>
    Eax,

    /// <summary>ECX.</summary>
    Ecx,

    /// <summary>EDX.</summary>
    Edx,

    /// <summary>EBX.</summary>
    Ebx,
}

/// <summary>Words of CPU features, each a CPUID register or an MSR, in the order in which clients see them.</summary>
public enum FeatureWord : byte
{
    Leaf1Edx,
    Leaf1Ecx,
    Leaf7Ebx,
    Leaf7Ecx,
    Leaf7Edx,
    Leaf7Sub1Eax,
    Ext1Edx,
    Ext1Ecx,
    Ext7Edx,
    Ext8Ebx,
    CentaurEdx,
    KvmEax,
    KvmEdx,
    SvmEdx,
    XsaveEax,
    ThermalEax,
    Xcr0Low,
    Xcr0High,
    ArchCapabilities,
    CoreCapability,
    PerfCapabilities,
    VmxProcessor,
    VmxSecondary,
    VmxPin,
    VmxExit,
    VmxEntry,
    VmxMisc,
    VmxEptVpid,
    VmxBasic,
    VmxVmfunc,
    PtEcx,
    SgxEax,
    SgxEbx,
    SgxSub1Eax,
    XssLow,
    XssHigh,
}

/// <summary>One word of features.</summary>
/// <param name="Leaf">CPUID leaf; 0 for an MSR.</param>
/// <param name="SubLeaf">Sub-leaf; null where the leaf has none.</param>
/// <param name="Register">Register of the leaf.</param>
/// <param name="Msr">MSR; 0 for a CPUID register.</param>
/// <param name="NameList">Names of the bits from bit 0 on, separated by blanks, <c>-</c> for a bit without one.</param>
public sealed record FeatureWordInfo(uint Leaf, uint? SubLeaf, CpuidRegister Register, uint Msr, string NameList)
{
    private string?[]? _names;

    /// <summary>Names by bit; null for a bit without one.</summary>
    public string?[] Names => _names ??= NameList.Length == 0 ? [] : Array.ConvertAll(NameList.Split(' '), static n => n == "-" ? null : n);

    /// <summary>How warnings call the word, such as <c>CPUID.01H:EDX</c> or <c>MSR(10AH)</c>.</summary>
    public string Label => Msr != 0 ? $"MSR({Msr:X}H)" : $"CPUID.{Leaf:X2}H:{Register.ToString().ToUpperInvariant()}";
}

/// <summary>
/// The table of CPU features (Intel SDM vol. 2A, CPUID, and vol. 4; AMD APM vol. 3, appendix E; the kernel's documentation of KVM's
/// leaves).
/// </summary>
public static class CpuFeatureWords
{
    /// <summary>Number of words.</summary>
    public const int Count = (int)FeatureWord.XssHigh + 1;

    private static readonly FeatureWordInfo[] s_words =
    [
        Cpuid(0x1, null, CpuidRegister.Edx,
            "fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov pat pse36 pn clflush - ds acpi mmx fxsr sse sse2 ss " +
            "ht tm ia64 pbe"),
        Cpuid(0x1, null, CpuidRegister.Ecx,
            "pni pclmulqdq dtes64 monitor ds-cpl vmx smx est tm2 ssse3 cid - fma cx16 xtpr pdcm - pcid dca sse4.1 sse4.2 x2apic " +
            "movbe popcnt tsc-deadline aes xsave - avx f16c rdrand hypervisor"),
        Cpuid(0x7, 0, CpuidRegister.Ebx,
            "fsgsbase tsc-adjust sgx bmi1 hle avx2 - smep bmi2 erms invpcid rtm - - mpx - avx512f avx512dq rdseed adx smap " +
            "avx512ifma pcommit clflushopt clwb intel-pt avx512pf avx512er avx512cd sha-ni avx512bw avx512vl"),
        Cpuid(0x7, 0, CpuidRegister.Ecx,
            "- avx512vbmi umip pku - waitpkg avx512vbmi2 - gfni vaes vpclmulqdq avx512vnni avx512bitalg - avx512-vpopcntdq - la57 " +
            "- - - - - rdpid - bus-lock-detect cldemote - movdiri movdir64b - sgxlc pks"),
        Cpuid(0x7, 0, CpuidRegister.Edx,
            "- - avx512-4vnniw avx512-4fmaps fsrm - - - avx512-vp2intersect - md-clear - - - serialize - tsx-ldtrk - - arch-lbr - " +
            "- amx-bf16 avx512-fp16 amx-tile amx-int8 spec-ctrl stibp - arch-capabilities core-capability ssbd"),
        Cpuid(0x7, 1, CpuidRegister.Eax,
            "- - - - avx-vnni avx512-bf16"),
        Cpuid(0x80000001, null, CpuidRegister.Edx,
            "- - - - - - - - - - - syscall - - - - - - - - nx - mmxext - - fxsr-opt pdpe1gb rdtscp - lm 3dnowext 3dnow"),
        Cpuid(0x80000001, null, CpuidRegister.Ecx,
            "lahf-lm cmp-legacy svm extapic cr8legacy abm sse4a misalignsse 3dnowprefetch osvw ibs xop skinit wdt - lwp fma4 tce " +
            "- nodeid-msr - tbm topoext perfctr-core perfctr-nb"),
        Cpuid(0x80000007, null, CpuidRegister.Edx,
            "- - - - - - - - invtsc"),
        Cpuid(0x80000008, null, CpuidRegister.Ebx,
            "clzero - xsaveerptr - - - - - - wbnoinvd - - ibpb - ibrs amd-stibp - - - - - - - - amd-ssbd virt-ssbd amd-no-ssb"),
        Cpuid(0xc0000001, null, CpuidRegister.Edx,
            "- - xstore xstore-en - - xcrypt xcrypt-en ace2 ace2-en phe phe-en pmm pmm-en"),
        Cpuid(0x40000001, null, CpuidRegister.Eax,
            "kvmclock kvm-nopiodelay kvm-mmu kvmclock kvm-asyncpf kvm-steal-time kvm-pv-eoi kvm-pv-unhalt - kvm-pv-tlb-flush - " +
            "kvm-pv-ipi kvm-poll-control kvm-pv-sched-yield kvm-asyncpf-int kvm-msi-ext-dest-id - - - - - - - - " +
            "kvmclock-stable-bit"),
        Cpuid(0x40000001, null, CpuidRegister.Edx,
            "kvm-hint-dedicated"),
        Cpuid(0x8000000a, null, CpuidRegister.Edx,
            "npt lbrv svm-lock nrip-save tsc-scale vmcb-clean flushbyasid decodeassists - - pause-filter - pfthreshold avic - " +
            "v-vmsave-vmload vgif - - - - - - - - - - - svme-addr-chk"),
        Cpuid(0xd, 1, CpuidRegister.Eax,
            "xsaveopt xsavec xgetbv1 xsaves xfd"),
        Cpuid(0x6, null, CpuidRegister.Eax,
            "- - arat"),
        Cpuid(0xd, 0, CpuidRegister.Eax, "- - avx mpx mpx avx512f avx512f avx512f - pku - - - - - - - amx-tile amx-tile"),
        Cpuid(0xd, 0, CpuidRegister.Edx, ""),
        Msr(0x10a,
            "rdctl-no ibrs-all rsba skip-l1dfl-vmentry ssb-no mds-no pschange-mc-no tsx-ctrl taa-no"),
        Msr(0xcf,
            "- - - - - split-lock-detect"),
        Msr(0x345,
            "- - - - - - - - - - - - - full-width-write"),
        Msr(0x48e,
            "- - vmx-vintr-pending vmx-tsc-offset - - - vmx-hlt-exit - vmx-invlpg-exit vmx-mwait-exit vmx-rdpmc-exit " +
            "vmx-rdtsc-exit - - vmx-cr3-load-noexit vmx-cr3-store-noexit - - vmx-cr8-load-exit vmx-cr8-store-exit " +
            "vmx-flexpriority vmx-vnmi-pending vmx-movdr-exit vmx-io-exit vmx-io-bitmap - vmx-mtf vmx-msr-bitmap vmx-monitor-exit " +
            "vmx-pause-exit vmx-secondary-ctls"),
        Msr(0x48b,
            "vmx-apicv-xapic vmx-ept vmx-desc-exit vmx-rdtscp-exit vmx-apicv-x2apic vmx-vpid vmx-wbinvd-exit " +
            "vmx-unrestricted-guest vmx-apicv-register vmx-apicv-vid vmx-ple vmx-rdrand-exit vmx-invpcid-exit vmx-vmfunc " +
            "vmx-shadow-vmcs vmx-encls-exit vmx-rdseed-exit vmx-pml - - vmx-xsaves - - - - vmx-tsc-scaling"),
        Msr(0x48d,
            "vmx-intr-exit - - vmx-nmi-exit - vmx-vnmi vmx-preemption-timer vmx-posted-intr"),
        Msr(0x48f,
            "- - vmx-exit-nosave-debugctl - - - - - - - - - vmx-exit-load-perf-global-ctrl - - vmx-exit-ack-intr - - " +
            "vmx-exit-save-pat vmx-exit-load-pat vmx-exit-save-efer vmx-exit-load-efer vmx-exit-save-preemption-timer " +
            "vmx-exit-clear-bndcfgs - vmx-exit-clear-rtit-ctl - - - vmx-exit-load-pkrs"),
        Msr(0x490,
            "- - vmx-entry-noload-debugctl - - - - - - vmx-entry-ia32e-mode - - - vmx-entry-load-perf-global-ctrl " +
            "vmx-entry-load-pat vmx-entry-load-efer vmx-entry-load-bndcfgs - vmx-entry-load-rtit-ctl - - - vmx-entry-load-pkrs"),
        Msr(0x485,
            "- - - - - vmx-store-lma vmx-activity-hlt vmx-activity-shutdown vmx-activity-wait-sipi - - - - - - - - - - - - - - - " +
            "- - - - - vmx-vmwrite-vmexit-fields vmx-zero-len-inject"),
        Msr(0x48c,
            "vmx-ept-execonly - - - - - vmx-page-walk-4 vmx-page-walk-5 - - - - - - - - vmx-ept-2mb vmx-ept-1gb - - vmx-invept " +
            "vmx-eptad vmx-ept-advanced-exitinfo - - - vmx-invept-all-context - - - - - vmx-invvpid - - - - - - - " +
            "vmx-invvpid-single-addr vmx-invept-single-context vmx-invvpid-all-context vmx-invept-single-context-noglobals"),
        Msr(0x480,
            "- - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - " +
            "vmx-ins-outs vmx-true-ctls"),
        Msr(0x491,
            "vmx-eptp-switching"),
        Cpuid(0x14, 0, CpuidRegister.Ecx,
            "- - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - intel-pt-lip"),
        Cpuid(0x12, 0, CpuidRegister.Eax,
            "sgx1 sgx2"),
        Cpuid(0x12, 0, CpuidRegister.Ebx,
            "sgx-exinfo"),
        Cpuid(0x12, 1, CpuidRegister.Eax,
            "- sgx-debug sgx-mode64 - sgx-provisionkey sgx-tokenkey - sgx-kss"),
        Cpuid(0xd, 1, CpuidRegister.Ecx, ""),
        Cpuid(0xd, 1, CpuidRegister.Edx, ""),
    ];

    private static readonly (string Alias, string Name)[] s_aliases =
    [
        ("sse3", "pni"), ("pclmuldq", "pclmulqdq"), ("sse4-1", "sse4.1"), ("sse4-2", "sse4.2"), ("xd", "nx"), ("ffxsr", "fxsr-opt"),
        ("i64", "lm"), ("ds_cpl", "ds-cpl"), ("tsc_adjust", "tsc-adjust"), ("fxsr_opt", "fxsr-opt"), ("lahf_lm", "lahf-lm"),
        ("cmp_legacy", "cmp-legacy"), ("nodeid_msr", "nodeid-msr"), ("perfctr_core", "perfctr-core"), ("perfctr_nb", "perfctr-nb"),
        ("kvm_nopiodelay", "kvm-nopiodelay"), ("kvm_mmu", "kvm-mmu"), ("kvm_asyncpf", "kvm-asyncpf"),
        ("kvm_asyncpf_int", "kvm-asyncpf-int"), ("kvm_steal_time", "kvm-steal-time"), ("kvm_pv_eoi", "kvm-pv-eoi"),
        ("kvm_pv_unhalt", "kvm-pv-unhalt"), ("kvm_poll_control", "kvm-poll-control"), ("svm_lock", "svm-lock"),
        ("nrip_save", "nrip-save"), ("tsc_scale", "tsc-scale"), ("vmcb_clean", "vmcb-clean"), ("pause_filter", "pause-filter"),
        ("sse4_1", "sse4.1"), ("sse4_2", "sse4.2"),
    ];

    /// <summary>The words by <see cref="FeatureWord"/>.</summary>
    public static ReadOnlySpan<FeatureWordInfo> Words => s_words;

    /// <summary>Other names of features.</summary>
    public static ReadOnlySpan<(string Alias, string Name)> Aliases => s_aliases;

    /// <summary>Description of one word.</summary>
    public static FeatureWordInfo Info(FeatureWord word) => s_words[(int)word];

    /// <summary>
    /// True for words whose bits are features of their own; those of XCR0 are state components, named after the feature they serve.
    /// </summary>
    public static bool IsSettable(FeatureWord word) => word != FeatureWord.Xcr0Low;

    /// <summary>Finds a feature by its name or an alias; a feature may be several bits of a word.</summary>
    public static bool TryFind(string name, out FeatureWord word, out ulong mask)
    {
        foreach ((string alias, string real) in s_aliases)
        {
            if (alias == name)
            {
                name = real;
                break;
            }
        }

        for (int w = 0; w < s_words.Length; w++)
        {
            if (!s_words[w].NameList.Contains(name, StringComparison.Ordinal))
            {
                continue;
            }

            mask = 0;
            string?[] names = s_words[w].Names;
            for (int bit = 0; bit < names.Length; bit++)
            {
                if (names[bit] == name)
                {
                    mask |= 1UL << bit;
                }
            }

            if (mask != 0)
            {
                word = (FeatureWord)w;
                return true;
            }
        }

        word = default;
        mask = 0;
        return false;
    }

    private static FeatureWordInfo Cpuid(uint leaf, uint? subLeaf, CpuidRegister register, string names) =>
        new(leaf, subLeaf, register, 0, names);

    private static FeatureWordInfo Msr(uint msr, string names) => new(0, null, default, msr, names);
}
