using Vmm.Qapi;

namespace Vmm.ObjectModel.Qmp;

/// <summary>The types that object-add makes.</summary>
[QapiEnum]
public enum ObjectType
{
    /// <summary>Decides about identities by rules.</summary>
    AuthzList,

    /// <summary>Decides about identities by rules in a file.</summary>
    [QapiName("authz-listfile")]
    AuthzListFile,

    /// <summary>Lets one identity in.</summary>
    AuthzSimple,

    /// <summary>A thread for block nodes and virtqueues.</summary>
    [QapiName("iothread")]
    IOThread,

    /// <summary>Guest RAM in a file.</summary>
    MemoryBackendFile,

    /// <summary>Guest RAM in a memory file.</summary>
    MemoryBackendMemfd,

    /// <summary>Anonymous guest RAM.</summary>
    MemoryBackendRam,

    /// <summary>A qtest server on a character device.</summary>
    Qtest,

    /// <summary>Sensitive data.</summary>
    Secret,

    /// <summary>Sensitive data in a key of the kernel.</summary>
    [QapiName("secret_keyring")]
    SecretKeyring,

    /// <summary>A thread to start others from.</summary>
    ThreadContext,

    /// <summary>Limits that drives share.</summary>
    ThrottleGroup,

    /// <summary>TLS credentials that prove nothing.</summary>
    TlsCredsAnon,

    /// <summary>TLS credentials with keys that both ends have.</summary>
    TlsCredsPsk,

    /// <summary>TLS credentials with certificates.</summary>
    [QapiName("tls-creds-x509")]
    TlsCredsX509,
}

/// <summary>NUMA policy of guest RAM.</summary>
[QapiEnum]
public enum HostMemPolicy
{
    /// <summary>The host's.</summary>
    Default,

    /// <summary>From the given nodes while they have memory.</summary>
    Preferred,

    /// <summary>From the given nodes only.</summary>
    Bind,

    /// <summary>From the given nodes in turn.</summary>
    Interleave,
}

/// <summary>How a secret is written.</summary>
[QapiEnum]
[QapiName("QCryptoSecretFormat")]
public enum SecretFormat
{
    /// <summary>As it is.</summary>
    Raw,

    /// <summary>Base64.</summary>
    Base64,
}

/// <summary>Arguments of object-add.</summary>
[QapiUnion(Discriminator = "qom-type")]
public sealed partial record ObjectOptions
{
    /// <summary>Type of the object.</summary>
    public required ObjectType QomType { get; init; }

    /// <summary>Name of the object below /objects.</summary>
    public required string Id { get; init; }

    /// <summary>Properties in a dictionary of their own, as clients of version 2.6 send them.</summary>
    public QValue? Props { get; init; }

    /// <summary>Properties of an authz-list.</summary>
    [QapiBranch("authz-list")]
    public AuthZListProperties? AuthzList { get; init; }

    /// <summary>Properties of an authz-list-file.</summary>
    [QapiBranch("authz-listfile")]
    public AuthZListFileProperties? AuthzListFile { get; init; }

    /// <summary>Properties of an authz-simple.</summary>
    [QapiBranch("authz-simple")]
    public AuthZSimpleProperties? AuthzSimple { get; init; }

    /// <summary>Properties of an iothread.</summary>
    [QapiBranch("iothread")]
    public IothreadProperties? Iothread { get; init; }

    /// <summary>Properties of a memory-backend-file.</summary>
    [QapiBranch("memory-backend-file")]
    public MemoryBackendFileProperties? MemoryBackendFile { get; init; }

    /// <summary>Properties of a memory-backend-memfd.</summary>
    [QapiBranch("memory-backend-memfd")]
    public MemoryBackendMemfdProperties? MemoryBackendMemfd { get; init; }

    /// <summary>Properties of a memory-backend-ram.</summary>
    [QapiBranch("memory-backend-ram")]
    public MemoryBackendProperties? MemoryBackendRam { get; init; }

    /// <summary>Properties of a qtest server.</summary>
    [QapiBranch("qtest")]
    public QtestProperties? Qtest { get; init; }

    /// <summary>Properties of a secret.</summary>
    [QapiBranch("secret")]
    public SecretProperties? Secret { get; init; }

    /// <summary>Properties of a secret_keyring.</summary>
    [QapiBranch("secret_keyring")]
    public SecretKeyringProperties? SecretKeyring { get; init; }

    /// <summary>Properties of a thread-context.</summary>
    [QapiBranch("thread-context")]
    public ThreadContextProperties? ThreadContext { get; init; }

    /// <summary>Properties of a throttle-group.</summary>
    [QapiBranch("throttle-group")]
    public ThrottleGroupProperties? ThrottleGroup { get; init; }

    /// <summary>Properties of TLS credentials that prove nothing.</summary>
    [QapiBranch("tls-creds-anon")]
    public TlsCredsAnonProperties? TlsCredsAnon { get; init; }

    /// <summary>Properties of TLS credentials with keys.</summary>
    [QapiBranch("tls-creds-psk")]
    public TlsCredsPskProperties? TlsCredsPsk { get; init; }

    /// <summary>Properties of TLS credentials with certificates.</summary>
    [QapiBranch("tls-creds-x509")]
    public TlsCredsX509Properties? TlsCredsX509 { get; init; }
}

/// <summary>Properties of an iothread.</summary>
[QapiStruct]
public sealed partial record IothreadProperties
{
    /// <summary>Most requests submitted together; 0 for the default.</summary>
    public long? AioMaxBatch { get; init; }

    /// <summary>Workers kept ready.</summary>
    public long? ThreadPoolMin { get; init; }

    /// <summary>Most workers.</summary>
    public long? ThreadPoolMax { get; init; }

    /// <summary>Longest polling time in nanoseconds.</summary>
    public long? PollMaxNs { get; init; }

    /// <summary>Factor by which polling time grows.</summary>
    public long? PollGrow { get; init; }

    /// <summary>Divisor by which polling time shrinks.</summary>
    public long? PollShrink { get; init; }
}

/// <summary>Properties of all memory back ends.</summary>
[QapiStruct]
public partial record MemoryBackendProperties
{
    /// <summary>Core dumps contain the memory.</summary>
    public bool? Dump { get; init; }

    /// <summary>Host NUMA nodes.</summary>
    public IReadOnlyList<ushort>? HostNodes { get; init; }

    /// <summary>The host may merge equal pages.</summary>
    public bool? Merge { get; init; }

    /// <summary>How the nodes are used.</summary>
    public HostMemPolicy? Policy { get; init; }

    /// <summary>Touch all pages at once.</summary>
    public bool? Prealloc { get; init; }

    /// <summary>Threads that touch pages.</summary>
    public uint? PreallocThreads { get; init; }

    /// <summary>A thread-context from which those threads are started.</summary>
    public string? PreallocContext { get; init; }

    /// <summary>Map shared.</summary>
    public bool? Share { get; init; }

    /// <summary>Reserve swap space or huge pages.</summary>
    public bool? Reserve { get; init; }

    /// <summary>Bytes.</summary>
    [QapiSize]
    public required ulong Size { get; init; }

    /// <summary>Name the memory by the object's path in migrations.</summary>
    [QapiFeature("unstable")]
    public bool? XUseCanonicalPathForRamblockId { get; init; }
}

/// <summary>Properties of a memory-backend-file.</summary>
[QapiStruct]
public sealed partial record MemoryBackendFileProperties : MemoryBackendProperties
{
    /// <summary>Alignment of the mapping in bytes.</summary>
    [QapiSize]
    public ulong? Align { get; init; }

    /// <summary>The contents may be lost when the object goes.</summary>
    public bool? DiscardData { get; init; }

    /// <summary>File or directory.</summary>
    public required string MemPath { get; init; }

    /// <summary>The file is on persistent memory.</summary>
    public bool? Pmem { get; init; }

    /// <summary>Map the file read-only.</summary>
    public bool? Readonly { get; init; }
}

/// <summary>Properties of a memory-backend-memfd.</summary>
[QapiStruct]
public sealed partial record MemoryBackendMemfdProperties : MemoryBackendProperties
{
    /// <summary>Use huge pages.</summary>
    public bool? Hugetlb { get; init; }

    /// <summary>Size of a huge page in bytes.</summary>
    [QapiSize]
    public ulong? Hugetlbsize { get; init; }

    /// <summary>The file cannot change its size.</summary>
    public bool? Seal { get; init; }
}

/// <summary>Properties of a qtest server.</summary>
[QapiStruct]
public sealed partial record QtestProperties
{
    /// <summary>Character device of the protocol.</summary>
    public required string Chardev { get; init; }

    /// <summary>File to which the conversation is written.</summary>
    public string? Log { get; init; }
}

/// <summary>Properties of all secrets.</summary>
[QapiStruct]
public partial record SecretCommonProperties
{
    /// <summary>Whether the data is there; it is once the object exists, and cannot be set.</summary>
    [QapiFeature("deprecated")]
    public bool? Loaded { get; init; }

    /// <summary>How the data is written.</summary>
    public SecretFormat? Format { get; init; }

    /// <summary>Secret with which the data is encrypted.</summary>
    public string? Keyid { get; init; }

    /// <summary>Initialisation vector in base64.</summary>
    public string? Iv { get; init; }
}

/// <summary>Properties of a secret.</summary>
[QapiStruct]
public sealed partial record SecretProperties : SecretCommonProperties
{
    /// <summary>The data.</summary>
    public string? Data { get; init; }

    /// <summary>File with the data.</summary>
    public string? File { get; init; }
}

/// <summary>Properties of a secret_keyring.</summary>
[QapiStruct]
public sealed partial record SecretKeyringProperties : SecretCommonProperties
{
    /// <summary>Serial number of the key.</summary>
    public required int Serial { get; init; }
}

/// <summary>Properties of a thread-context.</summary>
[QapiStruct]
public sealed partial record ThreadContextProperties
{
    /// <summary>Host CPUs on which the thread may run.</summary>
    public IReadOnlyList<ushort>? CpuAffinity { get; init; }

    /// <summary>Host NUMA nodes on whose CPUs the thread may run.</summary>
    public IReadOnlyList<ushort>? NodeAffinity { get; init; }
}
