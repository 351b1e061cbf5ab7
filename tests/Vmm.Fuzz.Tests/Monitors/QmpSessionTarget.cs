using System.Text;
using Vmm.Monitor.Tests;
using Vmm.Qapi;

namespace Vmm.Fuzz.Tests.Monitors;

/// <summary>A QMP client that sends anything: every answer is one JSON object per line, of a kind that the protocol knows.</summary>
internal sealed class QmpSessionTarget : FuzzTarget
{
    public override string Name => "qmp-session";

    public override int Iterations => 1000;

    public override IReadOnlyList<byte[]> Dictionary { get; } = Words(
        "{\"execute\":\"qmp_capabilities\"}", "{\"execute\":\"query-status\"}", "\"arguments\":{", "\"id\":", "\"exec-oob\":\"migrate-pause\"",
        "\"enable\":[\"oob\"]", "{\"execute\":\"stop\"}", "{\"execute\":\"echo\",\"arguments\":{\"value\":", "{\"execute\":\"block\"}",
        "{\"execute\":\"query-commands\"}", "{\"execute\":\"query-version\"}", "{\"execute\":\"human-monitor-command\",\"arguments\":{\"command-line\":\"",
        "\"execute\"", "\"exec-oob\"", "{", "}", "[", "]", "\"", "null", "\r\n", "\u00e9", "getfd", "fdname", "}}");

    // Requests are small and answers are not: the list of commands, help.
    public override long AllocationLimit(int inputLength) => (4 << 20) + (16384L * inputLength);

    public override string Execute(ReadOnlySpan<byte> input)
    {
        using var fixture = new MonitorFixture();
        (MemoryChannel channel, _) = fixture.Open();
        int half = input.Length / 2;
        channel.Send(input[..half].ToArray());
        channel.Send(input[half..].ToArray());
        fixture.Turn();
        fixture.Commands.Blocked?.TrySetResult();
        fixture.Turn();
        string outcome = "";
        foreach (string line in channel.TakeOutput().Split("\r\n", StringSplitOptions.RemoveEmptyEntries))
        {
            outcome = Check(line);
        }

        channel.Disconnect();
        fixture.Turn();
        return outcome;
    }

    private static string Check(string line)
    {
        var parser = new JsonStreamParser();
        JsonReadResult result = parser.Read(Encoding.UTF8.GetBytes(line), out int consumed, out QValue? value, out _);
        Require(result == JsonReadResult.Value && consumed == Encoding.UTF8.GetByteCount(line), "not one JSON value: " + line);
        Require(value is QDict, "not an object: " + line);
        var answer = (QDict)value!;
        string[] kinds = [.. new[] { "QMP", "return", "error", "event" }.Where(answer.ContainsKey)];
        Require(kinds.Length == 1, "not one kind of message: " + line);
        return kinds[0] + Shape(line.Length > 40 && kinds[0] == "error" ? line[(line.IndexOf("desc", StringComparison.Ordinal) + 8)..] : "");
    }
}
