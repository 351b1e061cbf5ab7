namespace Vmm.Kvm.CpuModels;

/// <content>
/// From what was asked for to what the guest gets: defaults of models that follow the host, dependencies, what the host lacks.
/// </content>
public sealed partial class X86Cpu
{
    private const uint XcrX87 = 1;
    private const uint XcrSse = 2;
    private const uint XcrAvx = 4;
    private const uint XcrBnd = 0x18;
    private const uint XcrAvx512 = 0xe0;
    private const uint XcrPkru = 0x200;
    private const uint XcrAmx = 0x60000;

    // A feature without which others make no sense (Intel SDM vol. 3, 24.6 and appendix A; AMD APM vol. 2, 15).
    private static readonly (FeatureWord From, ulong FromMask, FeatureWord To, ulong ToMask)[] s_dependencies =
    [
        (FeatureWord.Leaf7Edx, 1UL << 29, FeatureWord.ArchCapabilities, ulong.MaxValue),
        (FeatureWord.Leaf7Edx, 1UL << 30, FeatureWord.CoreCapability, ulong.MaxValue),
        (FeatureWord.Leaf1Ecx, 1UL << 15, FeatureWord.PerfCapabilities, ulong.MaxValue),
        (FeatureWord.Leaf1Ecx, 1UL << 5, FeatureWord.VmxProcessor, ulong.MaxValue),
        (FeatureWord.Leaf1Ecx, 1UL << 5, FeatureWord.VmxPin, ulong.MaxValue),
        (FeatureWord.Leaf1Ecx, 1UL << 5, FeatureWord.VmxExit, ulong.MaxValue),
        (FeatureWord.Leaf1Ecx, 1UL << 5, FeatureWord.VmxEntry, ulong.MaxValue),
        (FeatureWord.Leaf1Ecx, 1UL << 5, FeatureWord.VmxMisc, ulong.MaxValue),
        (FeatureWord.Leaf1Ecx, 1UL << 5, FeatureWord.VmxBasic, ulong.MaxValue),
        (FeatureWord.Ext1Edx, 1UL << 29, FeatureWord.VmxEntry, 1UL << 9),
        (FeatureWord.VmxProcessor, 1UL << 31, FeatureWord.VmxSecondary, ulong.MaxValue),
        (FeatureWord.XsaveEax, 1UL << 3, FeatureWord.VmxSecondary, 1UL << 20),
        (FeatureWord.Leaf1Ecx, 1UL << 30, FeatureWord.VmxSecondary, 1UL << 11),
        (FeatureWord.Leaf7Ebx, 1UL << 10, FeatureWord.VmxSecondary, 1UL << 12),
        (FeatureWord.Leaf7Ebx, 1UL << 14, FeatureWord.VmxExit, 1UL << 23),
        (FeatureWord.Leaf7Ebx, 1UL << 14, FeatureWord.VmxEntry, 1UL << 16),
        (FeatureWord.Leaf7Ebx, 1UL << 18, FeatureWord.VmxSecondary, 1UL << 16),
        (FeatureWord.Leaf7Ebx, 1UL << 25, FeatureWord.PtEcx, ulong.MaxValue),
        (FeatureWord.Ext1Edx, 1UL << 27, FeatureWord.VmxSecondary, 1UL << 3),
        (FeatureWord.VmxSecondary, 1UL << 1, FeatureWord.VmxEptVpid, 0x67_341c1UL),
        (FeatureWord.VmxSecondary, 1UL << 1, FeatureWord.VmxSecondary, 1UL << 7),
        (FeatureWord.VmxSecondary, 1UL << 5, FeatureWord.VmxEptVpid, 0xf0100000000UL),
        (FeatureWord.VmxSecondary, 1UL << 13, FeatureWord.VmxVmfunc, ulong.MaxValue),
        (FeatureWord.Ext1Ecx, 1UL << 2, FeatureWord.SvmEdx, ulong.MaxValue),
        (FeatureWord.Leaf7Ebx, 1UL << 2, FeatureWord.SgxEax, ulong.MaxValue),
        (FeatureWord.Leaf7Ebx, 1UL << 2, FeatureWord.SgxEbx, ulong.MaxValue),
        (FeatureWord.Leaf7Ebx, 1UL << 2, FeatureWord.SgxSub1Eax, ulong.MaxValue),
    ];

    /// <summary>Names of requested features that the host lacks, in table order.</summary>
    public List<string> UnavailableFeatures()
    {
        Expand();
        var names = new List<string>();
        for (int w = 0; w < CpuFeatureWords.Count; w++)
        {
            string?[] all = CpuFeatureWords.Words[w].Names;
            for (int bit = 0; bit < all.Length; bit++)
            {
                if ((FilteredFeatures[w] >> bit & 1) != 0 && all[bit] is { } name)
                {
                    names.Add(name);
                }
            }
        }

        return names;
    }

    /// <summary>
    /// Settles features and levels; idempotent. Warnings go to <see cref="Warn"/> if <see cref="Check"/> or <see cref="Enforce"/>.
    /// </summary>
    public void Expand()
    {
        if (_expanded)
        {
            return;
        }

        _expanded = true;
        ExpandFeatures();
        Filter();
        ApplyVendorAliases();
        _cpuid = null;
    }

    /// <summary>The first half of <see cref="Expand"/>: what the model asks for, before the host has its say.</summary>
    internal void ExpandFeatures()
    {
        if (_followsHost && _host.IsKvm)
        {
            for (int w = 0; w < CpuFeatureWords.Count; w++)
            {
                ulong automatic = _host.Supported((FeatureWord)w, Migratable) & ~_userPlus[w] & ~_userMinus[w];
                automatic &= (FeatureWord)w switch
                {
                    // On by request only: a topology that the guest may take for real, a promise about the host's scheduler, enclaves,
                    // and counters whose format has to match.
                    FeatureWord.Ext1Ecx => ~(1UL << 22),
                    FeatureWord.KvmEdx => ~1UL,
                    FeatureWord.KvmEax => ~(1UL << 15),
                    FeatureWord.Leaf7Ebx => ~(1UL << 2),
                    FeatureWord.PerfCapabilities or FeatureWord.SgxEax or FeatureWord.SgxEbx or FeatureWord.SgxSub1Eax => 0UL,
                    _ => ulong.MaxValue,
                };
                Features[w] |= automatic;
            }
        }

        foreach ((FeatureWord from, ulong fromMask, FeatureWord to, ulong toMask) in s_dependencies)
        {
            int t = (int)to;
            if ((Features[(int)from] & fromMask) == 0 && (Features[t] & toMask) != 0)
            {
                ulong unwanted = Features[t] & toMask & _userPlus[t];
                WarnAbout("This feature depends on other features that were not requested", to, unwanted);
                FilteredFeatures[t] |= unwanted;
                Features[t] &= ~toMask;
            }
        }

        if (!ExposeKvm)
        {
            Features[(int)FeatureWord.KvmEax] = 0;
        }

        EnableXsaveComponents();
        AdjustLevels();
    }

    private void ApplyVendorAliases()
    {
        if (IsAmd)
        {
            ref ulong ext = ref Features[(int)FeatureWord.Ext1Edx];
            ext = (ext & ~(ulong)AmdAliases) | (Features[(int)FeatureWord.Leaf1Edx] & AmdAliases);
        }
    }

    private void EnableXsaveComponents()
    {
        bool Has(FeatureWord word, int bit) => (Features[(int)word] >> bit & 1) != 0;

        uint components = 0;
        if (Has(FeatureWord.Leaf1Ecx, 26))
        {
            components = XcrX87 | XcrSse;
            components |= Has(FeatureWord.Leaf1Ecx, 28) ? XcrAvx : 0;
            components |= Has(FeatureWord.Leaf7Ebx, 14) ? XcrBnd : 0;
            components |= Has(FeatureWord.Leaf7Ebx, 16) ? XcrAvx512 : 0;
            components |= Has(FeatureWord.Leaf7Ecx, 3) ? XcrPkru : 0;
            components |= Has(FeatureWord.Leaf7Edx, 24) ? XcrAmx : 0;
        }
        else
        {
            Features[(int)FeatureWord.XsaveEax] &= _followsHost ? 0 : ulong.MaxValue;
        }

        Features[(int)FeatureWord.Xcr0Low] = components;
        Features[(int)FeatureWord.Xcr0High] = 0;
        Features[(int)FeatureWord.XssLow] = 0;
        Features[(int)FeatureWord.XssHigh] = 0;
    }

    private void AdjustLevels()
    {
        if (FullCpuidAutoLevel)
        {
            foreach (FeatureWord word in (ReadOnlySpan<FeatureWord>)
            [
                FeatureWord.Leaf1Edx, FeatureWord.Leaf1Ecx, FeatureWord.ThermalEax, FeatureWord.Leaf7Ebx, FeatureWord.Leaf7Ecx,
                FeatureWord.Leaf7Edx, FeatureWord.Leaf7Sub1Eax, FeatureWord.Ext1Edx, FeatureWord.Ext1Ecx, FeatureWord.Ext7Edx,
                FeatureWord.Ext8Ebx, FeatureWord.CentaurEdx, FeatureWord.SvmEdx, FeatureWord.XsaveEax,
            ])
            {
                if (Features[(int)word] != 0)
                {
                    RaiseLevel(CpuFeatureWords.Info(word).Leaf);
                }
            }

            if (GetFeature(FeatureWord.Leaf7Ebx, 1UL << 25))
            {
                RaiseLevel(0x14);
            }

            if (GetFeature(FeatureWord.Leaf7Edx, 1UL << 24))
            {
                RaiseLevel(0x1e);
            }

            if (Topology.Dies > 1 && (IsIntel || !VendorCpuidOnly))
            {
                RaiseLevel(0x1f);
            }

            if (GetFeature(FeatureWord.Ext1Ecx, 1UL << 2))
            {
                RaiseLevel(0x8000000a);
            }

            if (GetFeature(FeatureWord.Leaf7Ebx, 1UL << 2))
            {
                RaiseLevel(0x12);
            }
        }

        LevelFunc7 ??= Features[(int)FeatureWord.Leaf7Sub1Eax] != 0 ? 1u : 0;
        Level ??= MinLevel;
        XLevel ??= MinXLevel;
        XLevel2 ??= MinXLevel2;
    }

    private void RaiseLevel(uint leaf)
    {
        switch (leaf >> 28)
        {
            case 0:
                MinLevel = Math.Max(MinLevel, leaf);
                break;
            case 8:
                MinXLevel = Math.Max(MinXLevel, leaf);
                break;
            case 0xc:
                MinXLevel2 = Math.Max(MinXLevel2, leaf);
                break;
        }
    }

    private void Filter()
    {
        for (int w = 0; w < CpuFeatureWords.Count; w++)
        {
            ulong missing = Features[w] & ~_host.Supported((FeatureWord)w, migratableOnly: false);
            if (missing != 0)
            {
                WarnAbout("host doesn't support requested feature", (FeatureWord)w, missing);
                FilteredFeatures[w] |= missing;
                Features[w] &= ~missing;
            }
        }
    }

    private void WarnAbout(string what, FeatureWord word, ulong bits)
    {
        if (Warn is null || bits == 0 || !(Check || Enforce))
        {
            return;
        }

        FeatureWordInfo info = CpuFeatureWords.Info(word);
        for (int bit = 0; bit < 64; bit++)
        {
            if ((bits >> bit & 1) != 0)
            {
                string? name = bit < info.Names.Length && CpuFeatureWords.IsSettable(word) ? info.Names[bit] : null;
                Warn($"{what}: {info.Label}{(name is null ? "" : "." + name)} [bit {bit}]");
            }
        }
    }
}
