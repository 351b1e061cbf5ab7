using System.Text;
using Vmm.Monitor;
using Vmm.Monitor.Tests;
using Vmm.Qapi;

namespace Vmm.Fuzz.Tests.Monitors;

/// <summary>A terminal: the bytes are typed, and each line is also given to the dispatcher as it is.</summary>
internal sealed class HmpTarget : FuzzTarget
{
    public override string Name => "hmp";

    public override int Iterations => 1000;

    public override int MaxLength => 1024;

    public override IReadOnlyList<byte[]> Dictionary { get; } = Words(
        "print ", "/x ", "/1000000i ", "p/d ", "$rax", "$nosuch", "help ", "info ", "memsave ", "balloon 1G", "set_link a on", "migrate -d -b ",
        "block_resize ide0 1.5G", "logfile ", "downtime 1e3", "device_add ", "cpu ", "nmi", "info registers -a", "wait", "\n", "\r", "\t", "\"", "\\\"",
        "\u001b[A", "\u001b[3~", "\u0001", "\u0005", "\u0004", "\u0017", "\u007f", "0x", "9223372036854775808", "-9223372036854775808", "/0", "%-1",
        "((((((((", ")", "'a'", "~", "\u00e9", "\0");

    public override long AllocationLimit(int inputLength) => (4 << 20) + (65536L * inputLength);

    public override string Execute(ReadOnlySpan<byte> input)
    {
        using var fixture = new MonitorFixture();
        var channel = new MemoryChannel();
        HmpSession session = fixture.Core.AddHmp(channel);
        channel.Send(input.ToArray());
        fixture.Turn();
        fixture.Commands.Blocked?.TrySetResult();
        fixture.Turn();
        channel.Disconnect();
        var context = new TextContext(session);
        foreach (string line in Encoding.UTF8.GetString(input).Split('\n', 16))
        {
            ValueTask running = fixture.Core.Dispatcher.Execute(context, line);
            fixture.Commands.Blocked?.TrySetResult();
            fixture.Turn();
            Require(running.IsCompleted, "a command does not end: " + line);
            running.GetAwaiter().GetResult();
            _ = fixture.Core.Dispatcher.Complete(line, out int typed);
            Require(typed >= 0 && typed <= line.Length, "more typed than there is");
        }

        return Shape(context.ToString());
    }

    private sealed class TextContext(IMonitorSession session) : HmpContext
    {
        private readonly StringBuilder _text = new();

        public override IMonitorSession Session { get; } = session;

        public override void Print(ReadOnlySpan<char> text) => _text.Append(text);

        public override string ToString() => _text.ToString();
    }
}
