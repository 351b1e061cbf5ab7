using FsCheck;
using FsCheck.Fluent;
using Vmm.Qapi;
using Vmm.Qapi.Options;

namespace Vmm.Qapi.Options.Tests;

/// <summary>Flat options.</summary>
public sealed class OptsTests
{
    private static readonly OptionGroup s_free = new("device", "driver", false);

    private static OptionGroup Typed(bool merge = false) => new(
        "chardev",
        "backend",
        merge,
        new OptionDescriptor("backend", OptionType.String),
        new OptionDescriptor("path", OptionType.String),
        new OptionDescriptor("server", OptionType.Boolean),
        new OptionDescriptor("delay", OptionType.Boolean),
        new OptionDescriptor("size", OptionType.Size),
        new OptionDescriptor("cols", OptionType.Number, "columns"),
        new OptionDescriptor("tight", OptionType.Boolean, null, "on"));

    [Test]
    public void ReadsValuesInOrder()
    {
        var list = new OptsList(Typed());
        QemuOpts opts = OptsParser.Parse(list, "socket,id=c,path=/a,,b,server=on,size=2k,path=/c", true, "here", new Recorder())!;
        Assert.Multiple(() =>
        {
            Assert.That(opts.Id, Is.EqualTo("c"));
            Assert.That(opts.Location, Is.EqualTo("here"));
            Assert.That(opts.Get("backend"), Is.EqualTo("socket"));
            Assert.That(opts.Get("path"), Is.EqualTo("/c"));
            Assert.That(opts.GetAll("path"), Is.EqualTo(new[] { "/a,b", "/c" }));
            Assert.That(opts.GetBool("server", false), Is.True);
            Assert.That(opts.GetSize("size", 0), Is.EqualTo(2048));
            Assert.That(opts.GetNumber("cols", 80), Is.EqualTo(80));
            Assert.That(opts.GetBool("tight"), Is.True, "default of the group");
            Assert.That(opts.ToDict().ValueEquals(QValue.Parse(
                """{"id": "c", "backend": "socket", "path": "/c", "server": "on", "size": "2k"}""")));
            Assert.That(opts.ToRepeatedDict().GetList("path")!, Has.Count.EqualTo(2));
            Assert.That(list.Find("c"), Is.SameAs(opts));
        });
    }

    [Test]
    public void ShortFormsWarn()
    {
        var recorder = new Recorder();
        QemuOpts opts = OptsParser.Parse(new OptsList(Typed()), "x,server,nodelay", true, null, recorder)!;
        Assert.That(opts.Get("server"), Is.EqualTo("on"));
        Assert.That(opts.Get("delay"), Is.EqualTo("off"));
        Assert.That(recorder.Lines, Is.EqualTo(new[]
        {
            "short-form boolean option 'server' deprecated|Please use server=on instead",
            "short-form boolean option 'nodelay' deprecated|Please use nodelay=on instead",
        }));
    }

    [Test]
    public void MergingGroupsAccumulate()
    {
        var list = new OptsList(Typed(merge: true));
        QemuOpts first = OptsParser.Parse(list, "path=a", false, "one", new Recorder())!;
        QemuOpts second = OptsParser.Parse(list, "path=b", false, "two", new Recorder())!;
        Assert.That(second, Is.SameAs(first));
        Assert.That(first.Get("path"), Is.EqualTo("b"));
        Assert.That(() => OptsParser.Parse(list, "id=x", false, null, new Recorder()), Throws.TypeOf<QapiException>());
    }

    [Test]
    public void FailureLeavesNothingBehind()
    {
        var list = new OptsList(Typed());
        Assert.That(() => OptsParser.Parse(list, "x,id=a,bogus=1", true, null, new Recorder()), Throws.TypeOf<QapiException>());
        Assert.That(list.Items, Is.Empty);
    }

    [Test]
    public void HelpIsRecognisedOnlyWhereParametersAreKnown()
    {
        Assert.That(OptsParser.Parse(new OptsList(Typed()), "x,help", true, null, new Recorder()), Is.Null);
        Assert.That(OptsParser.Parse(new OptsList(Typed()), "help", true, null, new Recorder())!.Get("backend"), Is.EqualTo("help"));
        Assert.That(OptsParser.Parse(new OptsList(s_free), "x,help", true, null, new Recorder())!.Get("help"), Is.EqualTo("on"));
    }

    [Test]
    public void HelpTextIsSorted() => Assert.That(Typed().FormatHelp(), Is.EqualTo(
        """
        chardev options:
          backend=<str>
          cols=<num>             - columns
          delay=<bool (on/off)>
          path=<str>
          server=<bool (on/off)>
          size=<size>
          tight=<bool (on/off)>  (default: on)

        """));

    [Test]
    public void AnyValueSurvivesEscaping() => Prop.ForAll(
        Texts.Of("ab,=no"),
        value => OptsParser.Parse(new OptsList(s_free), $"x,key={value.Replace(",", ",,")}", true, null, new Recorder())!.Get("key") == value)
        .QuickCheckThrowOnFailure();

    [Test]
    public void NothingElseEscapes() => Prop.ForAll(
        Texts.Of("abdinox,=?"),
        text =>
        {
            try
            {
                OptsParser.Parse(new OptsList(Typed()), text, true, null, new Recorder());
                OptsParser.HasHelp(text);
            }
            catch (QapiException)
            {
            }

            return true;
        }).QuickCheckThrowOnFailure();

    [Test]
    public void ConfigurationFiles()
    {
        ConfigGroup[] groups = [.. ConfigFileParser.Parse("# c\n[chardev \"a\"]\n  path = \"x y\"\n\n[rtc]\n base = \"\"\n")];
        Assert.That(groups.Select(g => (g.Name, g.Id, g.Values.ToJson(), g.Line)), Is.EqualTo(new[]
        {
            ("chardev", "a", """{"path": "x y"}""", 3),
            ("rtc", (string?)null, """{"base": ""}""", 6),
        }));
        Assert.That(() => ConfigFileParser.Parse("x\n").ToArray(), Throws.TypeOf<ConfigFileException>());
        Prop.ForAll(
            Texts.Of("[]\"a= \n#"),
            text =>
            {
                try
                {
                    foreach (ConfigGroup unused in ConfigFileParser.Parse(text))
                    {
                    }
                }
                catch (ConfigFileException)
                {
                }

                return true;
            }).QuickCheckThrowOnFailure();
    }

    private sealed class Recorder : IOptionDiagnostics
    {
        public List<string> Lines { get; } = [];

        public void Warning(string text, string? hint) => Lines.Add($"{text}|{hint}");
    }
}
