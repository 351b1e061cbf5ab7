using System.Globalization;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.Kvm.CpuModels;

/// <summary>Properties of CPU objects, made from the feature table when a type's properties are first asked for.</summary>
internal static class CpuProperties
{
    /// <summary>What type <c>cpu</c> adds.</summary>
    public static QomPropertyInfo[] Generic() =>
    [
        Link("memory", "link<memory-region>"),
    ];

    /// <summary>What type <c>x86_64-cpu</c> adds.</summary>
    public static QomPropertyInfo[] X86()
    {
        var list = new List<QomPropertyInfo>(440);
        AddIdentity(list);
        AddSettings(list);
        for (int w = 0; w < CpuFeatureWords.Count; w++)
        {
            if (CpuFeatureWords.IsSettable((FeatureWord)w))
            {
                AddFeatures(list, (FeatureWord)w);
            }
        }

        foreach ((string alias, string name) in CpuFeatureWords.Aliases)
        {
            if (CpuFeatureWords.TryFind(name, out FeatureWord word, out ulong mask))
            {
                list.Add(Feature(alias, word, mask));
            }
        }

        return list.ToArray();
    }

    /// <summary>What models that follow the host add.</summary>
    public static QomPropertyInfo[] FollowingHost() =>
    [
        Bool("migratable", static c => c.Migratable, static (c, v) => c.Migratable = v),
        Bool("host-cache-info", static c => c.HostCacheInfo, static (c, v) => c.HostCacheInfo = v),
    ];

    private static void AddIdentity(List<QomPropertyInfo> list)
    {
        list.Add(Ranged("family", static c => c.Family, static (c, v) => c.Family = (int)v, 0, 0xff + 0xf));
        list.Add(Ranged("model", static c => c.Model, static (c, v) => c.Model = (int)v, 0, 0xff));
        list.Add(Ranged("stepping", static c => c.Stepping, static (c, v) => c.Stepping = (int)v, 0, 0xf));
        list.Add(new QomPropertyInfo("vendor", "string", static o => ((X86Cpu)o).Vendor, SetVendor));
        list.Add(new QomPropertyInfo("model-id", "string", static o => ((X86Cpu)o).ModelId, SetModelId));
        list.Add(new QomPropertyInfo(
            "tsc-frequency", "int", static o => ((X86Cpu)o).TscFrequency, static (o, input) => SetTsc(o, input.ReadInt64())));
        list.Add(new QomPropertyInfo("feature-words", "X86CPUFeatureWordInfo", static o => FeatureWordList(((X86Cpu)o).Features), null));
        list.Add(new QomPropertyInfo(
            "filtered-features", "X86CPUFeatureWordInfo", static o => FeatureWordList(((X86Cpu)o).FilteredFeatures), null));
        list.Add(new QomPropertyInfo("unavailable-features", "strList", Unavailable, null));
    }

    private static void AddSettings(List<QomPropertyInfo> list)
    {
        list.Add(Number("level", "uint32", static c => c.Level ?? uint.MaxValue, static (c, v) => c.Level = (uint)v, uint.MaxValue));
        list.Add(Number("xlevel", "uint32", static c => c.XLevel ?? uint.MaxValue, static (c, v) => c.XLevel = (uint)v, uint.MaxValue));
        list.Add(Number("xlevel2", "uint32", static c => c.XLevel2 ?? uint.MaxValue, static (c, v) => c.XLevel2 = (uint)v, uint.MaxValue));
        list.Add(Number(
            "level-func7", "uint32", static c => c.LevelFunc7 ?? uint.MaxValue, static (c, v) => c.LevelFunc7 = (uint)v, uint.MaxValue));
        list.Add(Number("min-level", "uint32", static c => c.MinLevel, static (c, v) => c.MinLevel = (uint)v, uint.MaxValue));
        list.Add(Number("min-xlevel", "uint32", static c => c.MinXLevel, static (c, v) => c.MinXLevel = (uint)v, uint.MaxValue));
        list.Add(Number("min-xlevel2", "uint32", static c => c.MinXLevel2, static (c, v) => c.MinXLevel2 = (uint)v, uint.MaxValue));
        list.Add(Number("phys-bits", "uint32", static c => c.PhysBits, static (c, v) => c.PhysBits = (uint)v, uint.MaxValue));
        list.Add(Number(
            "host-phys-bits-limit", "uint8", static c => c.HostPhysBitsLimit, static (c, v) => c.HostPhysBitsLimit = (byte)v, 255));
        list.Add(Number("apic-id", "uint32", static c => c.ApicId, static (c, v) => c.ApicId = (uint)v, uint.MaxValue));
        list.Add(Id("socket-id", static c => c.SocketId, static (c, v) => c.SocketId = v));
        list.Add(Id("die-id", static c => c.DieId, static (c, v) => c.DieId = v));
        list.Add(Id("core-id", static c => c.CoreId, static (c, v) => c.CoreId = v));
        list.Add(Id("thread-id", static c => c.HwThreadId, static (c, v) => c.HwThreadId = v));
        list.Add(Id("node-id", static c => c.NodeId, static (c, v) => c.NodeId = v));
        list.Add(Bool("check", static c => c.Check, static (c, v) => c.Check = v));
        list.Add(Bool("enforce", static c => c.Enforce, static (c, v) => c.Enforce = v));
        list.Add(Bool("host-phys-bits", static c => c.HostPhysBits, static (c, v) => c.HostPhysBits = v));
        list.Add(Bool("kvm", static c => c.ExposeKvm, static (c, v) => c.ExposeKvm = v));
        list.Add(Bool("pmu", static c => c.Pmu, static (c, v) => c.Pmu = v));
        list.Add(Bool("l3-cache", static c => c.L3Cache, static (c, v) => c.L3Cache = v));
        list.Add(Bool("legacy-cache", static c => c.LegacyCache, static (c, v) => c.LegacyCache = v));
        list.Add(Bool("cpuid-0xb", static c => c.CpuidB, static (c, v) => c.CpuidB = v));
        list.Add(Bool("full-cpuid-auto-level", static c => c.FullCpuidAutoLevel, static (c, v) => c.FullCpuidAutoLevel = v));
        list.Add(Bool("x-vendor-cpuid-only", static c => c.VendorCpuidOnly, static (c, v) => c.VendorCpuidOnly = v));
    }

    private static void AddFeatures(List<QomPropertyInfo> list, FeatureWord word)
    {
        string?[] names = CpuFeatureWords.Info(word).Names;
        for (int bit = 0; bit < names.Length; bit++)
        {
            if (names[bit] is { } name && Array.IndexOf(names, name) == bit)
            {
                ulong mask = 0;
                for (int other = bit; other < names.Length; other++)
                {
                    mask |= names[other] == name ? 1UL << other : 0;
                }

                list.Add(Feature(name, word, mask));
            }
        }
    }

    private static QomPropertyInfo Feature(string name, FeatureWord word, ulong mask) => new(
        name,
        "bool",
        o => ((X86Cpu)o).GetFeature(word, mask),
        (o, input) => ((X86Cpu)o).SetFeature(word, mask, input.ReadBool()));

    private static QomPropertyInfo Bool(string name, Func<X86Cpu, bool> get, Action<X86Cpu, bool> set) =>
        new(name, "bool", o => get((X86Cpu)o), (o, input) => set((X86Cpu)o, input.ReadBool()), "on/off") { IsDeviceProperty = true };

    private static QomPropertyInfo Number(string name, string type, Func<X86Cpu, ulong> get, Action<X86Cpu, ulong> set, ulong max) =>
        new(name, type, o => get((X86Cpu)o), (o, input) => set((X86Cpu)o, max == 255 ? input.ReadUInt8() : input.ReadUInt32()))
        {
            IsDeviceProperty = true,
        };

    private static QomPropertyInfo Id(string name, Func<X86Cpu, int> get, Action<X86Cpu, int> set) =>
        new(name, "int32", o => get((X86Cpu)o), (o, input) => set((X86Cpu)o, input.ReadInt32())) { IsDeviceProperty = true };

    private static QomPropertyInfo Link(string name, string type) => new(name, type, static _ => "", null);

    private static QomPropertyInfo Ranged(string name, Func<X86Cpu, int> get, Action<X86Cpu, long> set, int min, int max) => new(
        name,
        "int",
        o => get((X86Cpu)o),
        (o, input) =>
        {
            long value = input.ReadInt64();
            if (value < min || value > max)
            {
                throw new QapiException(
                    QapiErrorClass.GenericError, $"Property .{name} doesn't take value {value} (minimum: {min}, maximum: {max})");
            }

            set((X86Cpu)o, value);
        });

    private static void SetVendor(QomObject o, PropertyInput input)
    {
        string value = input.ReadString();
        if (value.Length != 12)
        {
            throw new QapiException(QapiErrorClass.GenericError, $"Property '.vendor' doesn't take value '{value}'");
        }

        ((X86Cpu)o).Vendor = value;
    }

    private static void SetModelId(QomObject o, PropertyInput input)
    {
        string value = input.ReadString();
        ((X86Cpu)o).ModelId = value.Length > 48 ? value[..48] : value;
    }

    private static void SetTsc(QomObject o, long value)
    {
        if (value < 0)
        {
            throw new QapiException(
                QapiErrorClass.GenericError, $"Property .tsc-frequency doesn't take value {value} (minimum: 0, maximum: {long.MaxValue})");
        }

        ((X86Cpu)o).TscFrequency = value;
    }

    private static QValue Unavailable(QomObject o)
    {
        var list = new QList();
        foreach (string name in ((X86Cpu)o).UnavailableFeatures())
        {
            list.Add(name);
        }

        return list;
    }

    private static QValue FeatureWordList(ulong[] features)
    {
        // Clients get the CPUID words, the last of the table first.
        var list = new QList();
        for (int w = CpuFeatureWords.Count - 1; w >= 0; w--)
        {
            FeatureWordInfo info = CpuFeatureWords.Words[w];
            if (info.Msr != 0)
            {
                continue;
            }

            var entry = new QDict
            {
                ["cpuid-register"] = info.Register.ToString().ToUpperInvariant(),
                ["cpuid-input-eax"] = (long)info.Leaf,
                ["features"] = (long)(uint)features[w],
            };
            if (info.SubLeaf is { } index)
            {
                entry["cpuid-input-ecx"] = (long)index;
            }

            list.Add(entry);
        }

        return list;
    }

}
