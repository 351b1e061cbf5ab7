using Vmm.ObjectModel.Qmp;
using Vmm.Qapi;

namespace Vmm.Block.Throttling;

/// <summary>Limits between their wire names and their buckets.</summary>
internal static class ThrottleWire
{
    /// <summary>The members, in the order of the wire type.</summary>
    internal static IReadOnlyList<Member> Members { get; } = MakeMembers();

    /// <summary>All limits as the wire shows them.</summary>
    internal static ThrottleLimits ToLimits(ThrottleConfig c) => new()
    {
        IopsTotal = c[ThrottleBucket.IopsTotal].Average,
        IopsTotalMax = c[ThrottleBucket.IopsTotal].Max,
        IopsTotalMaxLength = c[ThrottleBucket.IopsTotal].BurstLength,
        IopsRead = c[ThrottleBucket.IopsRead].Average,
        IopsReadMax = c[ThrottleBucket.IopsRead].Max,
        IopsReadMaxLength = c[ThrottleBucket.IopsRead].BurstLength,
        IopsWrite = c[ThrottleBucket.IopsWrite].Average,
        IopsWriteMax = c[ThrottleBucket.IopsWrite].Max,
        IopsWriteMaxLength = c[ThrottleBucket.IopsWrite].BurstLength,
        BpsTotal = c[ThrottleBucket.BpsTotal].Average,
        BpsTotalMax = c[ThrottleBucket.BpsTotal].Max,
        BpsTotalMaxLength = c[ThrottleBucket.BpsTotal].BurstLength,
        BpsRead = c[ThrottleBucket.BpsRead].Average,
        BpsReadMax = c[ThrottleBucket.BpsRead].Max,
        BpsReadMaxLength = c[ThrottleBucket.BpsRead].BurstLength,
        BpsWrite = c[ThrottleBucket.BpsWrite].Average,
        BpsWriteMax = c[ThrottleBucket.BpsWrite].Max,
        BpsWriteMaxLength = c[ThrottleBucket.BpsWrite].BurstLength,
        IopsSize = c.IopsSize,
    };

    /// <summary>Limits with those that are given replaced.</summary>
    internal static ThrottleConfig Merge(ThrottleConfig config, ThrottleLimits limits)
    {
        ReadOnlySpan<long?> given =
        [
            limits.IopsTotal,
            limits.IopsTotalMax,
            limits.IopsTotalMaxLength,
            limits.IopsRead,
            limits.IopsReadMax,
            limits.IopsReadMaxLength,
            limits.IopsWrite,
            limits.IopsWriteMax,
            limits.IopsWriteMaxLength,
            limits.BpsTotal,
            limits.BpsTotalMax,
            limits.BpsTotalMaxLength,
            limits.BpsRead,
            limits.BpsReadMax,
            limits.BpsReadMaxLength,
            limits.BpsWrite,
            limits.BpsWriteMax,
            limits.BpsWriteMaxLength,
            limits.IopsSize,
        ];
        for (int i = 0; i < given.Length; i++)
        {
            if (given[i] is { } value)
            {
                if (value > uint.MaxValue && Members[i].Name.EndsWith("-max-length", StringComparison.Ordinal))
                {
                    throw new QapiException($"{Members[i].Name} value must be in the range [0, {uint.MaxValue}]");
                }

                config = Members[i].Set(config, value);
            }
        }

        return config;
    }

    private static Member[] MakeMembers()
    {
        List<Member> members = [];
        foreach (string unit in (ReadOnlySpan<string>)["iops", "bps"])
        {
            ThrottleBucket bucket = unit == "iops" ? ThrottleBucket.IopsTotal : ThrottleBucket.BpsTotal;
            foreach (string direction in (ReadOnlySpan<string>)["total", "read", "write"])
            {
                ThrottleBucket b = bucket++;
                members.Add(new Member($"{unit}-{direction}", c => c[b].Average, (c, v) => c.With(b, c[b] with { Average = v })));
                members.Add(new Member($"{unit}-{direction}-max", c => c[b].Max, (c, v) => c.With(b, c[b] with { Max = v })));
                members.Add(new Member($"{unit}-{direction}-max-length", c => c[b].BurstLength, (c, v) => c.With(b, c[b] with { BurstLength = v })));
            }
        }

        members.Add(new Member("iops-size", static c => c.IopsSize, static (c, v) => c.WithIopsSize(v)));
        return [.. members];
    }

    /// <summary>One number of the limits.</summary>
    internal sealed record Member(string Name, Func<ThrottleConfig, long> Get, Func<ThrottleConfig, long, ThrottleConfig> Set);
}
