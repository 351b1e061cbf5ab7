using FsCheck;
using FsCheck.Fluent;
using Vmm.Qapi.Options;

namespace Vmm.Qapi.Options.Tests;

/// <summary>Single values.</summary>
public sealed class ScalarTests
{
    [TestCase("0", 0UL)]
    [TestCase("1.k", 1024UL)]
    [TestCase("1.5k", 1536UL)]
    [TestCase(" 4k", 4096UL)]
    [TestCase("+4K", 4096UL)]
    [TestCase("1B", 1UL)]
    [TestCase("0x10", 16UL)]
    [TestCase("0.0000000001k", 0UL)]
    [TestCase("15.5E", 0xf800000000000000UL)]
    [TestCase("18446744073709551615", ulong.MaxValue)]
    [TestCase("0.00048828125k", 1UL)]
    public void Sizes(string text, ulong expected)
    {
        Assert.That(OptionScalars.TryParseSize(text, out ulong bytes, out _), Is.EqualTo(ScalarStatus.Ok));
        Assert.That(bytes, Is.EqualTo(expected));
    }

    [TestCase("0x1k", true)]
    [TestCase("0x1", false)]
    [TestCase("1k", false)]
    public void HexadecimalWithSuffixIsNoted(string text, bool expected)
    {
        OptionScalars.TryParseSize(text, out _, out bool hexSuffix);
        Assert.That(hexSuffix, Is.EqualTo(expected));
    }

    [TestCase("010", 8UL)]
    [TestCase("0x10", 16UL)]
    [TestCase("-1", ulong.MaxValue)]
    [TestCase(" 5", 5UL)]
    public void Numbers(string text, ulong expected)
    {
        Assert.That(OptionScalars.TryParseUInt64(text, out ulong value), Is.EqualTo(ScalarStatus.Ok));
        Assert.That(value, Is.EqualTo(expected));
    }

    [TestCase("9223372036854775807", ScalarStatus.Ok)]
    [TestCase("9223372036854775808", ScalarStatus.OutOfRange)]
    [TestCase("-9223372036854775808", ScalarStatus.Ok)]
    [TestCase("-9223372036854775809", ScalarStatus.OutOfRange)]
    [TestCase("5 ", ScalarStatus.Invalid)]
    [TestCase("", ScalarStatus.Invalid)]
    public void SignedNumbers(string text, ScalarStatus expected) =>
        Assert.That(OptionScalars.TryParseInt64(text, out _), Is.EqualTo(expected));

    [Test]
    public void EveryIntegerReadsBack() => Prop.ForAll(
        ArbMap.Default.ArbFor<long>(),
        value => OptionScalars.TryParseInt64(value.ToString(), out long read) == ScalarStatus.Ok && read == value).QuickCheckThrowOnFailure();

    [Test]
    public void NoTextMakesThemThrow() => Prop.ForAll(
        Texts.Of("0123456789.xXeEkKMGTPBE+- "),
        text =>
        {
            OptionScalars.TryParseSize(text, out _, out _);
            OptionScalars.TryParseUInt64(text, out _);
            OptionScalars.TryParseInt64(text, out _);
            OptionScalars.TryParseDouble(text, out _);
            return true;
        }).QuickCheckThrowOnFailure();
}
