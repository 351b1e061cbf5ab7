using Vmm.ObjectModel.Accel;
using Vmm.ObjectModel.Devices;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.Kvm.CpuModels;

/// <summary>
/// A virtual CPU as an object: a CPU model with its properties, which becomes a vCPU of the accelerator when it is realized. One class
/// serves all types <c>*-x86_64-cpu</c>; they differ in what their properties begin with. Home: main loop, machine lock.
/// </summary>
public sealed partial class X86Cpu : Device, ICpuModel
{
    /// <summary>What follows the name of a model in the name of its type.</summary>
    public const string TypeSuffix = "-x86_64-cpu";

    /// <summary>Bits of leaf 1's EDX that AMD processors repeat in leaf 80000001.</summary>
    internal const uint AmdAliases = 0x0183f3ff;

    // "topoext" of CPUID 8000_0001 ECX.
    private const ulong TopologyExtensions = 1UL << 22;

    private readonly QomTypeInfo _type;
    private readonly CpuHost _host;
    private readonly ulong[] _userPlus = new ulong[CpuFeatureWords.Count];
    private readonly ulong[] _userMinus = new ulong[CpuFeatureWords.Count];
    private readonly bool _followsHost;
    private string _tableName = "";
    private IAccelerator? _accelerator;
    private bool _expanded;
    private CpuidLeaf[]? _cpuid;

    internal X86Cpu(QomTypeInfo type, string modelName, CpuHost host)
    {
        _type = type;
        _host = host;
        ModelName = modelName;
        if (modelName is "max" or "host")
        {
            _followsHost = true;
            LoadHost();
        }
        else if (modelName == "base")
        {
            Level = 0;
        }
        else
        {
            LoadNamed(CpuModelTable.Find(modelName) ?? throw new InvalidOperationException("Unknown CPU model " + modelName));
        }
    }

    /// <inheritdoc/>
    public override QomTypeInfo Type => _type;

    /// <summary>Name of the model, e.g. <c>qemu64</c>.</summary>
    public string ModelName { get; }

    /// <summary>Words of features by <see cref="FeatureWord"/>.</summary>
    public ulong[] Features { get; } = new ulong[CpuFeatureWords.Count];

    /// <summary>Requested features that the host does not have, by word. Known after <see cref="Expand"/>.</summary>
    public ulong[] FilteredFeatures { get; } = new ulong[CpuFeatureWords.Count];

    /// <summary>Vendor string of 12 characters; empty for none.</summary>
    public string Vendor { get; set; } = "";

    /// <summary>Brand string, at most 48 characters.</summary>
    public string ModelId { get; set; } = "";

    /// <summary>CPUID signature: family, model and stepping in place.</summary>
    public uint Signature { get; private set; }

    /// <summary>Highest basic leaf; null to take what the features need.</summary>
    public uint? Level { get; set; }

    /// <summary>Highest extended leaf; null to take what the features need.</summary>
    public uint? XLevel { get; set; }

    /// <summary>Highest Centaur leaf; null to take what the features need.</summary>
    public uint? XLevel2 { get; set; }

    /// <summary>Highest sub-leaf of leaf 7; null to take what the features need.</summary>
    public uint? LevelFunc7 { get; set; }

    /// <summary>Least <see cref="Level"/>, raised by features.</summary>
    public uint MinLevel { get; set; }

    /// <summary>Least <see cref="XLevel"/>, raised by features.</summary>
    public uint MinXLevel { get; set; }

    /// <summary>Least <see cref="XLevel2"/>, raised by features.</summary>
    public uint MinXLevel2 { get; set; }

    /// <summary>Bits of physical addresses; 0 for the default.</summary>
    public uint PhysBits { get; set; }

    /// <summary>Take the bits of physical addresses from the host.</summary>
    public bool HostPhysBits { get; set; }

    /// <summary>At most that many bits from the host; 0 for no limit.</summary>
    public byte HostPhysBitsLimit { get; set; }

    /// <summary>Warn about features that the host does not have.</summary>
    public bool Check { get; set; } = true;

    /// <summary>Refuse to run without features that the host does not have.</summary>
    public bool Enforce { get; set; }

    /// <summary>Show a third-level cache.</summary>
    public bool L3Cache { get; set; } = true;

    /// <summary>Generic caches instead of those of the model.</summary>
    public bool LegacyCache { get; set; } = true;

    /// <summary>Topology leaf 0xB.</summary>
    public bool CpuidB { get; set; } = true;

    /// <summary>Raise levels as features need it.</summary>
    public bool FullCpuidAutoLevel { get; set; } = true;

    /// <summary>Leave out Intel leaves on AMD vendors.</summary>
    public bool VendorCpuidOnly { get; set; } = true;

    /// <summary>Tell the guest about KVM.</summary>
    public bool ExposeKvm { get; set; } = true;

    /// <summary>Only features that survive a migration (models that follow the host).</summary>
    public bool Migratable { get; set; } = true;

    /// <summary>The host's caches (models that follow the host).</summary>
    public bool HostCacheInfo { get; set; }

    /// <summary>Performance counters.</summary>
    public bool Pmu { get; set; }

    /// <summary>TSC frequency in Hz; 0 for the host's.</summary>
    public long TscFrequency { get; set; }

    /// <summary>CPU index, assigned by the machine; -1 before that.</summary>
    public int CpuIndex { get; set; } = -1;

    /// <summary>APIC id, assigned by the machine; all ones before that.</summary>
    public uint ApicId { get; set; } = uint.MaxValue;

    /// <summary>Topology of the machine.</summary>
    public CpuTopology Topology { get; set; } = CpuTopology.Single;

    /// <summary>socket-id; -1 when unset.</summary>
    public int SocketId { get; set; } = -1;

    /// <summary>die-id; -1 when unset.</summary>
    public int DieId { get; set; } = -1;

    /// <summary>core-id; -1 when unset.</summary>
    public int CoreId { get; set; } = -1;

    /// <summary>thread-id; -1 when unset.</summary>
    public int HwThreadId { get; set; } = -1;

    /// <summary>node-id; -1 when unset.</summary>
    public int NodeId { get; set; } = -1;

    /// <summary>The vCPU; null before realize.</summary>
    public IVcpu? Vcpu { get; private set; }

    /// <summary>Receives warnings about features, each without line end; null to drop them.</summary>
    public Action<string>? Warn { get; set; }

    internal bool IsAmd => Vendor is "AuthenticAMD" or "HygonGenuine";

    internal bool IsIntel => Vendor == "GenuineIntel";

    /// <inheritdoc/>
    public IReadOnlyList<CpuidLeaf> GetCpuid() => _cpuid ??= BuildCpuid();

    /// <inheritdoc/>
    public IReadOnlyList<(uint Index, ulong Value)> GetFeatureMsrs()
    {
        Expand();
        var list = new List<(uint, ulong)>();
        for (int w = 0; w < CpuFeatureWords.Count; w++)
        {
            uint msr = CpuFeatureWords.Words[w].Msr;
            bool wanted = msr switch
            {
                0 => false,
                0x10a => GetFeature(FeatureWord.Leaf7Edx, 1UL << 29),
                0xcf => GetFeature(FeatureWord.Leaf7Edx, 1UL << 30),
                0x345 => GetFeature(FeatureWord.Leaf1Ecx, 1UL << 15),
                _ => GetFeature(FeatureWord.Leaf1Ecx, 1UL << 5),
            };
            if (wanted)
            {
                list.Add((msr, _host.ComposeMsr(msr, Features[w], CpuFeatureWords.Words[w].Names)));
            }
        }

        return list;
    }

    /// <summary>Value of a feature: all its bits are set.</summary>
    public bool GetFeature(FeatureWord word, ulong mask) => (Features[(int)word] & mask) == mask;

    /// <summary>Sets a feature as the user wishes; it is then not touched by defaults.</summary>
    public void SetFeature(FeatureWord word, ulong mask, bool on)
    {
        int w = (int)word;
        Features[w] = on ? Features[w] | mask : Features[w] & ~mask;
        _userPlus[w] = on ? _userPlus[w] | mask : _userPlus[w] & ~mask;
        _userMinus[w] = on ? _userMinus[w] & ~mask : _userMinus[w] | mask;
    }

    /// <summary>CPUID family, with the extended part.</summary>
    public int Family
    {
        get
        {
            int family = (int)(Signature >> 8 & 0xf);
            return family == 0xf ? family + (int)(Signature >> 20 & 0xff) : family;
        }

        set => Signature = (Signature & ~0x0ff00f00u) | (value > 0xf ? 0xf00 | (uint)(value - 0xf) << 20 : (uint)value << 8);
    }

    /// <summary>CPUID model, with the extended part.</summary>
    public int Model
    {
        get => (int)(Signature >> 4 & 0xf) | (int)(Signature >> 12 & 0xf0);
        set => Signature = (Signature & ~0xf00f0u) | ((uint)value & 0xf) << 4 | ((uint)value & 0xf0) << 12;
    }

    /// <summary>CPUID stepping.</summary>
    public int Stepping
    {
        get => (int)(Signature & 0xf);
        set => Signature = (Signature & ~0xfu) | (uint)value & 0xf;
    }

    /// <inheritdoc/>
    protected override void Realize(IMachineServices machine)
    {
        Expand();
        CheckHost();
        _accelerator = machine.Accelerator;
        Vcpu = _accelerator.CreateVcpu(new VcpuSetup(CpuIndex, ApicId, this));
        if (IsAmd && Topology.Threads > 1 && !GetFeature(FeatureWord.Ext1Ecx, TopologyExtensions) && !_host.HasWarnedOfThreads)
        {
            _host.HasWarnedOfThreads = true;
            Warn?.Invoke($"This family of AMD CPU doesn't support hyperthreading({Topology.Threads})\n"
                + "Please configure -smp options properly or try enabling topoext feature.");
        }
    }

    /// <inheritdoc/>
    protected override void Unrealize()
    {
        if (Vcpu is { } vcpu)
        {
            Vcpu = null;
            _accelerator!.DestroyVcpu(vcpu);
        }
    }

    private void LoadHost()
    {
        if (!_host.IsKvm)
        {
            LoadNamed(CpuModelTable.Find("qemu64")!);
            return;
        }

        var leaf0 = _host.Leaf(0);
        Vendor = VendorOf(leaf0.ebx, leaf0.edx, leaf0.ecx);
        Signature = _host.Leaf(1).eax & 0x0fff0fff;
        ModelId = _host.Brand;
        MinLevel = leaf0.eax;
        MinXLevel = _host.Leaf(0x80000000).eax;
        MinXLevel2 = _host.Leaf(0xc0000000).eax;
        HostPhysBits = true;
        Pmu = true;
    }

    private void LoadNamed(CpuModelDefinition model)
    {
        model.Features.CopyTo(Features, 0);
        Family = model.Family;
        Model = model.Model;
        Stepping = model.Stepping;
        MinLevel = model.Level;
        MinXLevel = model.XLevel;
        ModelId = model.ModelId;
        LegacyCache = !model.OwnCaches;
        _tableName = model.Name;

        // The vendor of a guest is that of the host: system call instructions differ between them.
        var leaf0 = _host.Leaf(0);
        Vendor = _host.IsKvm ? VendorOf(leaf0.ebx, leaf0.edx, leaf0.ecx)
            : model.Name.StartsWith("EPYC", StringComparison.Ordinal) || model.Name.StartsWith("Opteron", StringComparison.Ordinal)
              || model.Name.StartsWith("qemu", StringComparison.Ordinal) || model.Name.StartsWith("phenom", StringComparison.Ordinal)
              || model.Name.StartsWith("athlon", StringComparison.Ordinal) ? "AuthenticAMD"
            : model.Name.StartsWith("Dhyana", StringComparison.Ordinal) ? "HygonGenuine" : "GenuineIntel";
    }

    private static string VendorOf(uint ebx, uint edx, uint ecx) => string.Create(12, (ebx, edx, ecx), static (span, r) =>
    {
        for (int i = 0; i < 4; i++)
        {
            span[i] = (char)(r.ebx >> (i * 8) & 0xff);
            span[i + 4] = (char)(r.edx >> (i * 8) & 0xff);
            span[i + 8] = (char)(r.ecx >> (i * 8) & 0xff);
        }
    });

    private void CheckHost()
    {
        if (Enforce && FilteredFeatures.AsSpan().ContainsAnyExcept(0UL))
        {
            throw new QapiException("Host doesn't support requested features");
        }

        if (PhysBits is not 0 and (< 32 or > 52))
        {
            throw new QapiException(QapiErrorClass.GenericError, $"phys-bits should be between 32 and 52  (but is {PhysBits})");
        }
    }
}
