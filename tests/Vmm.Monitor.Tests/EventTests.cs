using System.Text.RegularExpressions;
using Vmm.EventLoop;

namespace Vmm.Monitor.Tests;

public sealed class EventTests
{
    [Test]
    public void EventComesBeforeTheAnswerOfItsCommand()
    {
        using var fixture = new MonitorFixture();
        (MemoryChannel channel, _) = fixture.Open(negotiate: true);
        (MemoryChannel other, _) = fixture.Open(negotiate: true);
        (MemoryChannel raw, _) = fixture.Open();
        raw.TakeOutput();
        channel.Send("""{"execute":"stop"}""");
        Assert.That(
            channel.TakeOutput(),
            Does.Match("""^\{"timestamp": \{"seconds": \d+, "microseconds": \d+\}, "event": "STOP"\}\r\n\{"return": \{\}\}\r\n$"""));
        Assert.That(other.TakeOutput(), Does.Match("""^\{"timestamp": .*"event": "STOP"\}\r\n$"""));
        Assert.That(raw.TakeOutput(), Is.Empty);
    }

    [Test]
    public void LimitedEventsAreDelayedAndTheLastOneWins()
    {
        using var fixture = new MonitorFixture();
        fixture.Clocks.ResumeVirtual();
        (MemoryChannel channel, _) = fixture.Open(negotiate: true);
        fixture.Core.Emit(new PortChange("a", true));
        fixture.Core.Emit(new PortChange("a", false));
        fixture.Core.Emit(new PortChange("b", true));
        fixture.Core.Emit(new PortChange("a", true));
        Assert.That(Data(channel), Is.EqualTo(new[] { "a true", "b true" }));
        fixture.Clocks.StepVirtual(999_999_999);
        fixture.Turn();
        Assert.That(Data(channel), Is.Empty);
        fixture.Clocks.StepVirtual(1);
        fixture.Turn();
        Assert.That(Data(channel), Is.EqualTo(new[] { "a true" }));
        fixture.Core.Emit(new PortChange("a", false));
        fixture.Core.Emit(new PortChange("b", false));
        Assert.That(Data(channel), Is.EqualTo(new[] { "b false" }));
        fixture.Clocks.StepVirtual(1_000_000_000);
        fixture.Turn();
        Assert.That(Data(channel), Is.EqualTo(new[] { "a false" }));
        fixture.Clocks.StepVirtual(1_000_000_000);
        fixture.Turn();
        fixture.Core.Emit(new PortChange("a", true));
        Assert.That(Data(channel), Is.EqualTo(new[] { "a true" }));
    }

    [Test]
    public void EventsFromOtherThreadsArriveOnTheLoop()
    {
        using var fixture = new MonitorFixture();
        (MemoryChannel channel, _) = fixture.Open(negotiate: true);
        var thread = new Thread(() => fixture.Core.Emit(new StopEvent()));
        thread.Start();
        thread.Join();
        Assert.That(channel.TakeOutput(), Is.Empty);
        fixture.Turn();
        Assert.That(channel.TakeOutput(), Does.Contain("STOP"));
    }

    private static List<string> Data(MemoryChannel channel) => Regex
        .Matches(channel.TakeOutput(), "\"data\": \\{\"open\": (\\w+), \"id\": \"(\\w+)\"\\}|\"data\": \\{\"id\": \"(\\w+)\", \"open\": (\\w+)\\}")
        .Select(m => m.Groups[1].Success ? $"{m.Groups[2]} {m.Groups[1]}" : $"{m.Groups[3]} {m.Groups[4]}")
        .ToList();
}
