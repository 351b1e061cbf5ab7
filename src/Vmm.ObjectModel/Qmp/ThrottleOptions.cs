using Vmm.Qapi;

namespace Vmm.ObjectModel.Qmp;

/// <summary>Limits of a throttle group.</summary>
[QapiStruct]
public sealed partial record ThrottleLimits
{
    /// <summary>Requests per second, all requests.</summary>
    public long? IopsTotal { get; init; }

    /// <summary>Requests per second in bursts, all requests.</summary>
    public long? IopsTotalMax { get; init; }

    /// <summary>Longest burst of all requests in seconds.</summary>
    public long? IopsTotalMaxLength { get; init; }

    /// <summary>Requests per second, reads.</summary>
    public long? IopsRead { get; init; }

    /// <summary>Requests per second in bursts, reads.</summary>
    public long? IopsReadMax { get; init; }

    /// <summary>Longest burst of reads in seconds.</summary>
    public long? IopsReadMaxLength { get; init; }

    /// <summary>Requests per second, writes.</summary>
    public long? IopsWrite { get; init; }

    /// <summary>Requests per second in bursts, writes.</summary>
    public long? IopsWriteMax { get; init; }

    /// <summary>Longest burst of writes in seconds.</summary>
    public long? IopsWriteMaxLength { get; init; }

    /// <summary>Bytes per second, all requests.</summary>
    public long? BpsTotal { get; init; }

    /// <summary>Bytes per second in bursts, all requests.</summary>
    public long? BpsTotalMax { get; init; }

    /// <summary>Longest burst of all requests in seconds.</summary>
    public long? BpsTotalMaxLength { get; init; }

    /// <summary>Bytes per second, reads.</summary>
    public long? BpsRead { get; init; }

    /// <summary>Bytes per second in bursts, reads.</summary>
    public long? BpsReadMax { get; init; }

    /// <summary>Longest burst of reads in seconds.</summary>
    public long? BpsReadMaxLength { get; init; }

    /// <summary>Bytes per second, writes.</summary>
    public long? BpsWrite { get; init; }

    /// <summary>Bytes per second in bursts, writes.</summary>
    public long? BpsWriteMax { get; init; }

    /// <summary>Longest burst of writes in seconds.</summary>
    public long? BpsWriteMaxLength { get; init; }

    /// <summary>Bytes that count as one request.</summary>
    public long? IopsSize { get; init; }
}

/// <summary>Properties of a throttle-group.</summary>
[QapiStruct]
public sealed partial record ThrottleGroupProperties
{
    /// <summary>The limits.</summary>
    public ThrottleLimits? Limits { get; init; }

    /// <summary>Requests per second, all requests.</summary>
    [QapiFeature("unstable")]
    public long? XIopsTotal { get; init; }

    /// <summary>Requests per second in bursts, all requests.</summary>
    [QapiFeature("unstable")]
    public long? XIopsTotalMax { get; init; }

    /// <summary>Longest burst of all requests in seconds.</summary>
    [QapiFeature("unstable")]
    public long? XIopsTotalMaxLength { get; init; }

    /// <summary>Requests per second, reads.</summary>
    [QapiFeature("unstable")]
    public long? XIopsRead { get; init; }

    /// <summary>Requests per second in bursts, reads.</summary>
    [QapiFeature("unstable")]
    public long? XIopsReadMax { get; init; }

    /// <summary>Longest burst of reads in seconds.</summary>
    [QapiFeature("unstable")]
    public long? XIopsReadMaxLength { get; init; }

    /// <summary>Requests per second, writes.</summary>
    [QapiFeature("unstable")]
    public long? XIopsWrite { get; init; }

    /// <summary>Requests per second in bursts, writes.</summary>
    [QapiFeature("unstable")]
    public long? XIopsWriteMax { get; init; }

    /// <summary>Longest burst of writes in seconds.</summary>
    [QapiFeature("unstable")]
    public long? XIopsWriteMaxLength { get; init; }

    /// <summary>Bytes per second, all requests.</summary>
    [QapiFeature("unstable")]
    public long? XBpsTotal { get; init; }

    /// <summary>Bytes per second in bursts, all requests.</summary>
    [QapiFeature("unstable")]
    public long? XBpsTotalMax { get; init; }

    /// <summary>Longest burst of all requests in seconds.</summary>
    [QapiFeature("unstable")]
    public long? XBpsTotalMaxLength { get; init; }

    /// <summary>Bytes per second, reads.</summary>
    [QapiFeature("unstable")]
    public long? XBpsRead { get; init; }

    /// <summary>Bytes per second in bursts, reads.</summary>
    [QapiFeature("unstable")]
    public long? XBpsReadMax { get; init; }

    /// <summary>Longest burst of reads in seconds.</summary>
    [QapiFeature("unstable")]
    public long? XBpsReadMaxLength { get; init; }

    /// <summary>Bytes per second, writes.</summary>
    [QapiFeature("unstable")]
    public long? XBpsWrite { get; init; }

    /// <summary>Bytes per second in bursts, writes.</summary>
    [QapiFeature("unstable")]
    public long? XBpsWriteMax { get; init; }

    /// <summary>Longest burst of writes in seconds.</summary>
    [QapiFeature("unstable")]
    public long? XBpsWriteMaxLength { get; init; }

    /// <summary>Bytes that count as one request.</summary>
    [QapiFeature("unstable")]
    public long? XIopsSize { get; init; }
}
