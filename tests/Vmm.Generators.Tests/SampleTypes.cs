using Vmm.Qapi;

namespace Vmm.Generators.Tests;

/// <summary>Kinds of sample.</summary>
[QapiEnum]
public enum SampleKind
{
    /// <summary>A socket.</summary>
    Socket,

    /// <summary>A ring buffer.</summary>
    [QapiName("ringbuf")]
    RingBuffer,

    /// <summary>Nothing.</summary>
    Null,
}

/// <summary>An address.</summary>
[QapiStruct]
public sealed partial record SampleAddress
{
    public required string Host { get; init; }

    public ushort? To { get; init; }

    public required SampleKind Type { get; init; }
}

[QapiStruct]
public partial record SampleBase
{
    public required string Id { get; init; }

    [QapiFeature("deprecated")]
    public bool? Wait { get; init; }
}

[QapiStruct]
public sealed partial record SampleSocket : SampleBase
{
    public required SampleAddress Addr { get; init; }

    public IReadOnlyList<SampleAddress>? More { get; init; }

    public long[][]? Matrix { get; init; }
}

[QapiStruct]
public sealed partial record SampleRing(ulong? Size, double Ratio, QValue? Anything, sbyte Small);

[QapiUnion(Discriminator = "kind")]
public sealed partial record SampleBackend
{
    public string? Label { get; init; }

    public required SampleKind Kind { get; init; }

    [QapiBranch("socket", Wrapped = true)]
    public SampleSocket? Socket { get; init; }

    [QapiBranch("ringbuf")]
    public SampleRing? Ring { get; init; }
}

[QapiAlternate]
[QapiName("SampleRefWire")]
public sealed partial record SampleRef
{
    public string? Reference { get; init; }

    public SampleAddress? Definition { get; init; }

    public QNull? Nothing { get; init; }
}

/// <summary>Something happened to a port.</summary>
[QmpEvent("SAMPLE_CHANGE", RateLimitMs = 1000, RateKey = "id")]
public sealed partial record SampleChange(string Id, bool Open, long Len, long Offset);

/// <summary>The sample stopped.</summary>
[QmpEvent("SAMPLE_STOP")]
public sealed partial record SampleStop;

/// <summary>Commands of an instance.</summary>
public sealed class SampleCommands
{
    public List<string> Calls { get; } = [];

    /// <summary>Adds a backend.</summary>
    [QmpCommand("sample-add", ArgsType = "id:s,backend:q,count:i?", Since = "1.4", AllowOob = true)]
    public SampleSocket Add(string id, SampleBackend backend, int count = 3)
    {
        Calls.Add($"{id} {backend.Kind} {count}");
        return new SampleSocket { Id = id, Addr = new SampleAddress { Host = "h", Type = SampleKind.Null }, Matrix = [[1, 2], []] };
    }

    /// <summary>Takes everything.</summary>
    [QmpCommand("sample-open", ArgsType = "driver:O", ArgsSchema = typeof(SampleAddress))]
    public void Open(QDict options) => Calls.Add(options.ToJson());

    /// <summary>Takes a record.</summary>
    [QmpCommand("sample-boxed", ArgsType = "host:s,to:i?,type:s")]
    public async Task<int> Boxed(SampleAddress address)
    {
        await Task.Yield();
        return address.To ?? 0;
    }

    /// <summary>Waits.</summary>
    [QmpCommand("sample-wait", ArgsType = "ref:q?,flag:-f,cpu:i")]
    public ValueTask Wait([QapiName("ref")] SampleRef? reference, IMonitorSession session, [QapiRelaxed] int? cpu, bool flag = false)
    {
        Calls.Add($"{reference?.Reference} {reference?.Definition?.Host} {flag} {cpu} {session.Name}");
        return default;
    }

    /// <summary>Prints memory.</summary>
    [HmpCommand("x", ArgsType = "fmt:/,addr:l", Params = "/fmt addr", Help = "virtual memory dump")]
    public void Examine(HmpContext context, HmpFormat fmt, ulong addr) => context.PrintLine($"{fmt.Count}{fmt.Format}{fmt.Size} {addr}");
}

/// <summary>Commands without an instance.</summary>
public static class SampleStatics
{
    /// <summary>Tells the status.</summary>
    [QmpCommand("query-sample", AllowPreconfig = true)]
    [QapiFeature("unstable")]
    public static SampleAddress[] Query() => [new SampleAddress { Host = "\u00e9", To = 5, Type = SampleKind.RingBuffer }];

    /// <summary>Shows the status.</summary>
    [HmpCommand("info sample|sampling", ArgsType = "name:s?", Params = "[name]", Help = "show the sample")]
    public static void Info(HmpContext context, string? name) => context.PrintLine("sample " + name);
}
