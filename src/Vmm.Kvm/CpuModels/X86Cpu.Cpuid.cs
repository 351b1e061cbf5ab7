using Vmm.Interop.KvmApi;
using Vmm.ObjectModel.Accel;

namespace Vmm.Kvm.CpuModels;

/// <content>
/// The CPUID table of one vCPU (Intel SDM vol. 2A, CPUID; AMD APM vol. 3, appendix E; the kernel's documentation of KVM's leaves).
/// </content>
public sealed partial class X86Cpu
{
    private const uint KvmSignatureLeaf = 0x40000000;

    /// <summary>Bits of physical addresses that the guest sees.</summary>
    public uint EffectivePhysBits
    {
        get
        {
            bool longMode = GetFeature(FeatureWord.Ext1Edx, 1UL << 29);
            if (!longMode)
            {
                return GetFeature(FeatureWord.Leaf1Edx, 1UL << 17) ? 36u : 32u;
            }

            if (HostPhysBits)
            {
                uint host = _host.PhysicalBits;
                return HostPhysBitsLimit > 0 && host > HostPhysBitsLimit ? HostPhysBitsLimit : host;
            }

            return PhysBits != 0 ? PhysBits : 40;
        }
    }

    private CpuidLeaf[] BuildCpuid()
    {
        Expand();
        var table = new List<CpuidLeaf>(48);
        if (_host.IsKvm && ExposeKvm)
        {
            // "KVMKVMKVM" in EBX, ECX, EDX.
            table.Add(new CpuidLeaf(KvmSignatureLeaf, 0, false, KvmSignatureLeaf + 1, 0x4b4d564b, 0x564b4d56, 0x4d));
            table.Add(new CpuidLeaf(KvmSignatureLeaf + 1, 0, false, Word(FeatureWord.KvmEax), 0, 0, Word(FeatureWord.KvmEdx)));
        }

        for (uint leaf = 0; leaf <= (Level ?? 0); leaf++)
        {
            AddBasic(table, leaf);
        }

        for (uint leaf = 0x80000000; leaf <= (XLevel ?? 0); leaf++)
        {
            AddExtended(table, leaf);
        }

        if (XLevel2 >= 0xc0000000)
        {
            Add(table, 0xc0000000, (XLevel2.Value, 0, 0, 0));
            Add(table, 0xc0000001, (Signature, 0, 0, Word(FeatureWord.CentaurEdx)));
        }

        return table.ToArray();
    }

    private static void Add(List<CpuidLeaf> table, uint leaf, (uint Eax, uint Ebx, uint Ecx, uint Edx) r)
    {
        // What is zero everywhere reads as zero without an entry.
        if ((r.Eax | r.Ebx | r.Ecx | r.Edx) != 0)
        {
            table.Add(new CpuidLeaf(leaf, 0, false, r.Eax, r.Ebx, r.Ecx, r.Edx));
        }
    }

    private static void AddIndexed(List<CpuidLeaf> table, uint leaf, uint index, (uint Eax, uint Ebx, uint Ecx, uint Edx) r) =>
        table.Add(new CpuidLeaf(leaf, index, true, r.Eax, r.Ebx, r.Ecx, r.Edx));

    private static (uint, uint, uint, uint) Registers(in KvmCpuidEntry2 e) => (e.eax, e.ebx, e.ecx, e.edx);

    private uint Word(FeatureWord word) => (uint)Features[(int)word];

    private void AddBasic(List<CpuidLeaf> table, uint leaf)
    {
        int logical = Topology.Cores * Topology.Threads;
        switch (leaf)
        {
            case 0:
                (uint b, uint d, uint c) = VendorWords();
                Add(table, 0, (Level ?? 0, b, c, d));
                break;
            case 1:
                uint ebx = (ApicId << 24) | 8 << 8;
                uint edx = Word(FeatureWord.Leaf1Edx);
                if (logical > 1)
                {
                    ebx |= (uint)logical << 16;
                    edx |= 1 << 28;
                }

                Add(table, 1, (Signature, ebx, Word(FeatureWord.Leaf1Ecx), edx));
                break;
            case 2:
                // Descriptors of the generic caches: L1D 2C, L1I 30, L2 7D, L3 4D.
                (uint, uint, uint, uint) descriptors = HostCacheInfo ? HostCpuid.Read(2)
                    : VendorCpuidOnly && IsAmd ? default : (1u, 0u, L3Cache ? 0x4du : 0u, 0x2c307du);
                table.Add(new CpuidLeaf(2, 0, false, descriptors.Item1, descriptors.Item2, descriptors.Item3, descriptors.Item4));
                break;
            case 4:
                AddIntelCaches(table);
                break;
            case 5:
                Add(table, 5, (0, 0, 3, 0));
                break;
            case 6:
                Add(table, 6, (Word(FeatureWord.ThermalEax), 0, 0, 0));
                break;
            case 7:
                AddIndexed(
                    table, 7, 0, (LevelFunc7 ?? 0, Word(FeatureWord.Leaf7Ebx), Word(FeatureWord.Leaf7Ecx), Word(FeatureWord.Leaf7Edx)));
                if (LevelFunc7 >= 1)
                {
                    AddIndexed(table, 7, 1, (Word(FeatureWord.Leaf7Sub1Eax), 0, 0, 0));
                }

                break;
            case 0xa:
                Add(table, 0xa, Pmu ? Registers(_host.Leaf(0xa)) : default);
                break;
            case 0xb:
                AddTopology(table, 0xb);
                break;
            case 0xd:
                AddXsave(table);
                break;
            case 0x12:
                AddPassThrough(table, 0x12, false, 2);
                break;
            case 0x14:
                bool trace = GetFeature(FeatureWord.Leaf7Ebx, 1UL << 25);
                AddPassThrough(table, 0x14, trace, trace ? 1u : 0);
                break;
            case 0x1d:
                // Tile palette 1 of AMX: 8 tiles of 1 KiB, 64 bytes a row, 16 rows.
                bool amx = GetFeature(FeatureWord.Leaf7Edx, 1UL << 24);
                AddIndexed(table, 0x1d, 0, (amx ? 1u : 0, 0, 0, 0));
                if (amx)
                {
                    AddIndexed(table, 0x1d, 1, (0x04002000, 0x00080040, 0x10, 0));
                }

                break;
            case 0x1e:
                AddIndexed(table, 0x1e, 0, GetFeature(FeatureWord.Leaf7Edx, 1UL << 24) ? (0u, 0x4010u, 0u, 0u) : default);
                break;
            case 0x1f:
                if (Topology.Dies > 1 && (IsIntel || !VendorCpuidOnly))
                {
                    AddTopology(table, 0x1f);
                }

                break;
        }
    }

    private void AddPassThrough(List<CpuidLeaf> table, uint leaf, bool present, uint last)
    {
        for (uint index = 0; index <= last; index++)
        {
            AddIndexed(table, leaf, index, present ? Registers(_host.Leaf(leaf, index)) : default);
        }
    }

    private void AddIntelCaches(List<CpuidLeaf> table)
    {
        uint index = 0;
        if (HostCacheInfo)
        {
            while (index < 16 && HostCpuid.Read(4, index) is var host && (host.Eax & 0x1f) != 0)
            {
                AddIndexed(table, 4, index++, host);
            }
        }
        else if (!(VendorCpuidOnly && IsAmd))
        {
            CpuCache[] caches = LegacyCache ? CpuCache.IntelGeneric : CpuCache.ForModel(_tableName);
            foreach (CpuCache cache in caches)
            {
                if (cache.Level == 3 && !L3Cache)
                {
                    break;
                }

                int sharing = cache.Level switch { 1 => 1, 2 => Topology.Threads, _ => 1 << Topology.DieShift };
                (uint ebx, uint ecx, uint edx) = cache.Geometry;
                AddIndexed(table, 4, index++, (cache.Header(sharing, Topology.Cores), ebx, ecx, edx));
            }
        }

        AddIndexed(table, 4, index, default);
    }

    private void AddTopology(List<CpuidLeaf> table, uint leaf)
    {
        if (leaf == 0xb && !CpuidB)
        {
            AddIndexed(table, leaf, 0, default);
            return;
        }

        uint index = 0;
        int perDie = Topology.Cores * Topology.Threads;
        Level((uint)Topology.CoreShift, (uint)Topology.Threads, 1);
        if (leaf == 0x1f)
        {
            Level((uint)Topology.DieShift, (uint)perDie, 2);
            Level((uint)Topology.SocketShift, (uint)(perDie * Topology.Dies), 5);
        }
        else
        {
            // The count is that of a die also where a socket has several: what guests have always seen.
            Level((uint)Topology.SocketShift, (uint)perDie, 2);
        }

        AddIndexed(table, leaf, index, (0, 0, index, ApicId));

        void Level(uint shift, uint count, uint type)
        {
            AddIndexed(table, leaf, index, (shift, count, type << 8 | index, ApicId));
            index++;
        }
    }

    private void AddXsave(List<CpuidLeaf> table)
    {
        uint components = Word(FeatureWord.Xcr0Low);
        if (components != 0 && GetFeature(FeatureWord.Leaf1Ecx, 1UL << 26))
        {
            uint size = 576;
            for (int i = 2; i < 32; i++)
            {
                if ((components >> i & 1) != 0)
                {
                    KvmCpuidEntry2 component = _host.Leaf(0xd, (uint)i);
                    size = Math.Max(size, component.eax + component.ebx);
                }
            }

            AddIndexed(table, 0xd, 0, (components, size, size, Word(FeatureWord.Xcr0High)));
            uint xsave = Word(FeatureWord.XsaveEax);
            AddIndexed(table, 0xd, 1, (xsave, 0, Word(FeatureWord.XssLow), Word(FeatureWord.XssHigh)));
            for (uint i = 2; i < 32; i++)
            {
                if ((components >> (int)i & 1) != 0)
                {
                    KvmCpuidEntry2 component = _host.Leaf(0xd, i);
                    AddIndexed(table, 0xd, i, (component.eax, component.ebx, component.ecx & 0b110, 0));
                }
            }
        }

        AddIndexed(table, 0xd, 63, default);
    }

    private void AddExtended(List<CpuidLeaf> table, uint leaf)
    {
        int logical = Topology.Cores * Topology.Threads;
        CpuCache[] caches = LegacyCache ? CpuCache.AmdGeneric : CpuCache.ForModel(_tableName);
        switch (leaf)
        {
            case 0x80000000:
                (uint b, uint d, uint c) = VendorWords();
                Add(table, leaf, (XLevel ?? 0, b, c, d));
                break;
            case 0x80000001:
                // Several logical CPUs that are cores rather than threads: AMD's CmpLegacy.
                uint cmpLegacy = logical > 1 && !IsIntel ? 2u : 0;
                Add(table, leaf, (Signature, 0, Word(FeatureWord.Ext1Ecx) | cmpLegacy, Word(FeatureWord.Ext1Edx)));
                break;
            case 0x80000002:
            case 0x80000003:
            case 0x80000004:
                int from = (int)(leaf - 0x80000002) * 16;
                Add(table, leaf, (BrandWord(from), BrandWord(from + 4), BrandWord(from + 8), BrandWord(from + 12)));
                break;
            case 0x80000005:
                Add(table, leaf, HostCacheInfo ? HostCpuid.Read(leaf) : (0x01ff01ff, 0x01ff01ff, caches[0].AmdLevel1, caches[1].AmdLevel1));
                break;
            case 0x80000006:
                Add(table, leaf, HostCacheInfo ? HostCpuid.Read(leaf)
                    : (0, 0x42004200, caches[2].AmdLevel2, L3Cache ? caches[3].AmdLevel3 : 0));
                break;
            case 0x80000007:
                Add(table, leaf, (0, 0, 0, Word(FeatureWord.Ext7Edx)));
                break;
            case 0x80000008:
                uint bits = EffectivePhysBits;
                if (GetFeature(FeatureWord.Ext1Edx, 1UL << 29))
                {
                    bits |= GetFeature(FeatureWord.Leaf7Ecx, 1UL << 16) ? 57u << 8 : 48u << 8;
                }

                uint threads = logical > 1 ? (uint)Topology.SocketShift << 12 | (uint)(logical - 1) : 0;
                Add(table, leaf, (bits, Word(FeatureWord.Ext8Ebx), threads, 0));
                break;
            case 0x8000000a:
                Add(table, leaf, GetFeature(FeatureWord.Ext1Ecx, 1UL << 2) ? (1u, 0x10u, 0u, Word(FeatureWord.SvmEdx)) : default);
                break;
            case 0x8000001d:
                AddAmdCaches(table, caches);
                break;
            case 0x8000001e:
                Add(table, leaf, AmdPlace());
                break;
        }
    }

    private void AddAmdCaches(List<CpuidLeaf> table, CpuCache[] caches)
    {
        const uint leaf = 0x8000001d;
        uint index = 0;
        if (HostCacheInfo)
        {
            while (index < 16 && HostCpuid.Read(leaf, index) is var host && (host.Eax & 0x1f) != 0)
            {
                AddIndexed(table, leaf, index++, host);
            }
        }
        else
        {
            foreach (CpuCache cache in caches)
            {
                int sharing = cache.Level == 3 ? Topology.Cores * Topology.Threads : Topology.Threads;
                (uint ebx, uint ecx, uint edx) = cache.Geometry;
                AddIndexed(table, leaf, index++, (cache.Header(sharing, 1), ebx, ecx, edx));
            }
        }

        AddIndexed(table, leaf, index, default);
    }

    private (uint, uint, uint, uint) AmdPlace()
    {
        uint core = ApicId >> Topology.CoreShift & ((1u << (Topology.DieShift - Topology.CoreShift)) - 1);
        uint die = ApicId >> Topology.DieShift & ((1u << (Topology.SocketShift - Topology.DieShift)) - 1);
        uint socket = ApicId >> Topology.SocketShift;
        uint node = socket * (uint)Topology.Dies + die;
        return core > 255 ? default : (ApicId, (uint)(Topology.Threads - 1) << 8 | core, (uint)(Topology.Dies - 1) << 8 | node & 0xff, 0u);
    }

    private (uint B, uint D, uint C) VendorWords()
    {
        Span<uint> words = stackalloc uint[3];
        for (int i = 0; i < Math.Min(12, Vendor.Length); i++)
        {
            words[i / 4] |= (uint)(byte)Vendor[i] << (i % 4 * 8);
        }

        return (words[0], words[1], words[2]);
    }

    private uint BrandWord(int from)
    {
        uint word = 0;
        for (int i = 0; i < 4 && from + i < Math.Min(48, ModelId.Length); i++)
        {
            word |= (uint)(byte)ModelId[from + i] << (i * 8);
        }

        return word;
    }
}
