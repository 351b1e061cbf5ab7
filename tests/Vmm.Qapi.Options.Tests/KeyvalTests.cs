using FsCheck;
using FsCheck.Fluent;
using Vmm.Qapi;
using Vmm.Qapi.Options;

namespace Vmm.Qapi.Options.Tests;

/// <summary>Dotted keys.</summary>
public sealed class KeyvalTests
{
    [TestCase("", "{}")]
    [TestCase("x", """{"type": "x"}""")]
    [TestCase("x,", """{"type": "x"}""")]
    [TestCase("a=b,,c,d=", """{"a": "b,c", "d": ""}""")]
    [TestCase("a.b=1,a.c=2", """{"a": {"b": "1", "c": "2"}}""")]
    [TestCase("a.0=x,a.1=y", """{"a": ["x", "y"]}""")]
    [TestCase("a.1.k=y,a.0.k=x", """{"a": [{"k": "x"}, {"k": "y"}]}""")]
    [TestCase("a=1,a=2", """{"a": "2"}""")]
    [TestCase("__com.example_x=1", """{"__com.example_x": "1"}""")]
    [TestCase("a=x=y", """{"a": "x=y"}""")]
    public void Reads(string text, string json) => Assert.That(
        KeyvalParser.Parse(text, "type").ValueEquals(QValue.Parse(json)), KeyvalParser.Parse(text, "type").ToJson());

    [TestCase("help", true)]
    [TestCase("x,?", true)]
    [TestCase("help=on", false)]
    [TestCase("a=help", false)]
    public void SeesHelp(string text, bool expected)
    {
        KeyvalParser.Parse(text, "type", out bool help);
        Assert.That(help, Is.EqualTo(expected));
    }

    [TestCase("a.b=1,a=2", "Parameters 'a.*' used inconsistently")]
    [TestCase("a=2,a.b=1", "Parameters 'a.*' used inconsistently")]
    [TestCase("a.0=1,a.b=2", "Parameters 'a.*' used inconsistently")]
    [TestCase("a.1=1", "Parameter 'a.0' missing")]
    [TestCase("a.99999999999999=1", "Parameter 'a.0' missing")]
    [TestCase("x,a", "Expected '=' after parameter 'a'")]
    [TestCase("0=1", "Invalid parameter '0'")]
    [TestCase("_a=1", "Invalid parameter '_a'")]
    [TestCase("x,help", "Help is not available for this option")]
    public void Refuses(string text, string message) => Assert.That(
        () => KeyvalParser.Parse(text, "type"), Throws.TypeOf<QapiException>().With.Property("Desc").EqualTo(message));

    [Test]
    public void LongNamesAreRefused()
    {
        string name = new('a', 128);
        Assert.That(
            () => KeyvalParser.Parse($"{name}=1", null),
            Throws.TypeOf<QapiException>().With.Property("Desc").EqualTo($"Parameter '{name}' is too long"));
        Assert.That(
            () => KeyvalParser.Parse($"b.{name}=1", null),
            Throws.TypeOf<QapiException>().With.Property("Desc").EqualTo($"Parameter fragment '{name}' is too long"));
    }

    [Test]
    public void AnyValueSurvivesEscaping() => Prop.ForAll(
        Texts.Of("ab,=.0"),
        value => KeyvalParser.Parse($"key={value.Replace(",", ",,")}", null).GetString("key") == value).QuickCheckThrowOnFailure();

    [Test]
    public void NothingElseEscapes() => Prop.ForAll(
        Texts.Of("ab01.,=_-?help"),
        text =>
        {
            try
            {
                KeyvalParser.Parse(text, "type", out _);
            }
            catch (QapiException)
            {
            }

            return true;
        }).QuickCheckThrowOnFailure();

    [Test]
    public void DeepKeysAreRefused() =>
        Assert.That(() => KeyvalParser.Parse(string.Concat(Enumerable.Repeat("a.", 100_000)) + "a=1", null), Throws.TypeOf<QapiException>());

    [Test]
    public void MergeReplacesAppendsAndDescends()
    {
        QDict destination = KeyvalParser.Parse("a.b=1,l.0=x,s=old", null);
        KeyvalParser.Merge(destination, KeyvalParser.Parse("a.c=2,l.0=y,s=new", null));
        Assert.That(
            destination.ValueEquals(QValue.Parse("""{"a": {"b": "1", "c": "2"}, "l": ["x", "y"], "s": "new"}""")), destination.ToJson());
        Assert.That(
            () => KeyvalParser.Merge(destination, KeyvalParser.Parse("a.b.c=2", null)),
            Throws.TypeOf<QapiException>().With.Property("Desc").EqualTo("Parameter 'a.b' used inconsistently"));
    }
}
