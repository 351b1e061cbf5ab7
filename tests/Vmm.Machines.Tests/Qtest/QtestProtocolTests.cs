using System.Text;

namespace Vmm.Machines.Tests.Qtest;

public sealed class QtestProtocolTests
{
    private QtestHarness _qtest = null!;

    [SetUp]
    public void SetUp() => _qtest = new QtestHarness();

    [TearDown]
    public void TearDown() => _qtest.Dispose();

    [TestCase("endianness", "OK little")]
    [TestCase("foo", "FAIL Unknown command 'foo'")]
    [TestCase("inb 0x1234", "OK 0x00ff")]
    [TestCase("inw 4660", "OK 0xffff")]
    [TestCase("inl 011064", "OK 0xffffffff")]
    [TestCase("inb 0x10000", "FAIL malformed request")]
    [TestCase("inb", "FAIL malformed request")]
    [TestCase("outb 0x80", "FAIL malformed request")]
    [TestCase("outb 0x80 zz", "FAIL malformed request")]
    [TestCase("read 0x1000 0", "FAIL malformed request")]
    [TestCase("memset 0x1000 0 0xff", "OK")]
    [TestCase("write 0x1000 4 0x", "ERR invalid argument size")]
    [TestCase("b64write 0x1000 4 ***", "ERR invalid base64 data")]
    [TestCase("clock_step x", "FAIL malformed request")]
    [TestCase("set_irq_in nowhere unnamed-gpio-in 0 1", "FAIL Unknown device")]
    [TestCase("irq_intercept_in nowhere", "FAIL Unknown device")]
    public void OneLineAnswersOne(string request, string answer) =>
        Assert.That(_qtest.Ask(request), Is.EqualTo(new[] { answer }));

    [Test]
    public void MemoryIsReadAsItWasWritten()
    {
        Assert.That(_qtest.Ask("writel 0x1000 0x12345678"), Is.EqualTo(new[] { "OK" }));
        Assert.That(_qtest.Ask("readb 0x1000"), Is.EqualTo(new[] { "OK 0x0000000000000078" }));
        Assert.That(_qtest.Ask("readq 0x1000"), Is.EqualTo(new[] { "OK 0x0000000012345678" }));
        Assert.That(_qtest.Ask("read 0x1000 4"), Is.EqualTo(new[] { "OK 0x78563412" }));
        Assert.That(_qtest.Ask("write 0x2000 4 0xA1b2"), Is.EqualTo(new[] { "OK" }));
        Assert.That(_qtest.Ask("read 0x2000 4"), Is.EqualTo(new[] { "OK 0xa1b20000" }));
        Assert.That(_qtest.Ask("b64write 0x3000 5 aGVsbG8="), Is.EqualTo(new[] { "OK" }));
        Assert.That(_qtest.Ask("b64read 0x3000 5"), Is.EqualTo(new[] { "OK aGVsbG8=" }));
        Assert.That(_qtest.Ask("memset 0x3000 0x2000 0x5a"), Is.EqualTo(new[] { "OK" }));
        Assert.That(_qtest.Ask("readw 0x4ffe"), Is.EqualTo(new[] { "OK 0x0000000000005a5a" }));
    }

    [Test]
    public void TheClockMovesByCommandAloneAndTimersFireOnTheirWay()
    {
        Assert.That(_qtest.Ask("clock_step 1000"), Is.EqualTo(new[] { "OK 1000" }));
        Assert.That(_qtest.Ask("clock_set 500"), Is.EqualTo(new[] { "OK 1000" }));
        Assert.That(_qtest.Ask("clock_set 2000"), Is.EqualTo(new[] { "OK 2000" }));

        // Counter 0 in mode 2 with 1193 counts: a pulse about each millisecond.
        _qtest.Ask("outb 0x43 0x34");
        _qtest.Ask("outb 0x40 0xa9");
        _qtest.Ask("outb 0x40 0x04");
        int before = _qtest.Board.Machine.Interrupts.Rises(0);
        _qtest.Ask("clock_step 10000000");
        Assert.That(_qtest.Board.Machine.Interrupts.Rises(0) - before, Is.EqualTo(10).Within(1));
    }

    [Test]
    public void ABareStepGoesToTheNextDeadline()
    {
        // The power-on timer tick of counter 0 (65536 counts in mode 3) and the clock's update are the only deadlines.
        string[] answer = _qtest.Ask("clock_step");
        Assert.That(long.Parse(answer[0][3..]), Is.GreaterThan(0));
        Assert.That(_qtest.Ask("clock_step 0"), Is.EqualTo(answer));
    }

    [Test]
    public void InterruptsAreReportedBeforeTheAnswerOfWhatCausedThem()
    {
        Assert.That(_qtest.Ask("irq_intercept_in ioapic"), Is.EqualTo(new[] { "FAIL Unknown device" }), "not at a place of that name");
        string path = _qtest.Board.IoApic.CanonicalPath!;
        Assert.That(_qtest.Ask("irq_intercept_in " + path), Is.EqualTo(new[] { "OK" }));
        Assert.That(_qtest.Ask("irq_intercept_in " + path), Is.EqualTo(new[] { "OK" }));
        Assert.That(_qtest.Ask("irq_intercept_out " + _qtest.Board.Rtc.CanonicalPath), Is.EqualTo(new[] { "FAIL IRQ intercept already enabled" }));
        Assert.That(_qtest.Ask("outb 0x3f9 0x2"), Is.EqualTo(new[] { "IRQ raise 4", "OK" }));
        Assert.That(_qtest.Ask("inb 0x3fa"), Is.EqualTo(new[] { "IRQ lower 4", "OK 0x0002" }));
        Assert.That(_qtest.Ask($"set_irq_in {path} unnamed-gpio-in 10 1"), Is.EqualTo(new[] { "IRQ raise 10", "OK" }));
    }

    [Test]
    public void OutputsAreWatchedWithoutBeingCut()
    {
        Assert.That(_qtest.Ask("irq_intercept_out " + _qtest.Board.Keyboard.CanonicalPath), Is.EqualTo(new[] { "OK" }));
        Assert.That(_qtest.Ask("outb 0x60 0xee"), Is.EqualTo(new[] { "IRQ raise 0", "OK" }));
        Assert.That(_qtest.Board.Machine.Interrupts.IsHigh(1), Is.True);
        Assert.That(_qtest.Ask("inb 0x60"), Is.EqualTo(new[] { "IRQ lower 0", "OK 0x00ee" }));
    }

    [Test]
    public void HowBytesAreSplitDoesNotMatter()
    {
        const string Conversation = "endianness\ninb 0x3fd\noutb 0x80 1\nwrite 0x1000 2 0x1234\nread 0x1000 2\nbogus line\nclock_step 5\n";
        byte[] bytes = Encoding.ASCII.GetBytes(Conversation);
        _qtest.Send(bytes);
        string[] expected = _qtest.Take();
        for (int split = 1; split < bytes.Length; split++)
        {
            using var other = new QtestHarness();
            other.Send(bytes.AsSpan(0, split));
            other.Send(bytes.AsSpan(split));
            Assert.That(other.Take(), Is.EqualTo(expected), $"split at {split}");
        }
    }

    [Test]
    public void GarbageGetsOneAnswerPerLine([Range(1, 20)] int seed)
    {
        var random = new Random(seed);
        string[] words = ["inb", "outl", "read", "write", "memset", "clock_step", "set_irq_in", "b64write", "0x10", "-1", "zz", "", "0x", "999999999999999999999", "readq"];
        for (int i = 0; i < 200; i++)
        {
            string line = string.Join(' ', Enumerable.Range(0, random.Next(5)).Select(_ => words[random.Next(words.Length)]));
            string[] answers = _qtest.Ask(line);
            Assert.That(answers.Count(a => !a.StartsWith("IRQ", StringComparison.Ordinal)), Is.EqualTo(1), line);
        }
    }
}
