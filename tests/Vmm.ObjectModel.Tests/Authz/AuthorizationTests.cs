using System.Text.RegularExpressions;
using FsCheck;
using FsCheck.Fluent;
using Vmm.EventLoop;
using Vmm.ObjectModel.Authz;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.ObjectModel.Tests.Authz;

/// <summary>Who is let in.</summary>
public sealed class AuthorizationTests
{
    private readonly QomTree _tree = new(new QomTypeRegistry());

    [TearDown]
    public void Forget()
    {
        _tree.Objects.FindChild("a")?.Unparent();
    }

    [TestCase("fred", true)]
    [TestCase("bob", true)]
    [TestCase("bart", true)]
    [TestCase("barney", false)]
    [TestCase("danb", false)]
    [TestCase("dan", true)]
    [TestCase("", false)]
    public void TheFirstRuleThatMatchesCounts(string identity, bool isAllowed)
    {
        Add(
            """
            {'qom-type': 'authz-list', 'id': 'a', 'policy': 'deny', 'rules': [
                {'match': 'fred', 'policy': 'allow', 'format': 'exact'}, {'match': 'bob', 'policy': 'allow'},
                {'match': 'barney', 'policy': 'deny', 'format': 'exact'}, {'match': 'b*t', 'policy': 'allow', 'format': 'glob'},
                {'match': 'dan?', 'policy': 'deny', 'format': 'glob'}, {'match': 'dan*', 'policy': 'allow', 'format': 'glob'}]}
            """);
        Assert.That(IsAllowed(identity), Is.EqualTo(isAllowed));
    }

    [Test]
    public void OneIdentityIsLetIn()
    {
        Add("{'qom-type': 'authz-simple', 'id': 'a', 'identity': 'CN=x'}");
        Assert.That(IsAllowed("CN=x"));
        Assert.That(IsAllowed("CN=X"), Is.False);
    }

    [Test]
    public void AFileIsReadAgainWhenItChanges()
    {
        string path = Path.Combine(Directory.CreateTempSubdirectory("vmm-authz-").FullName, "rules");
        File.WriteAllText(path, """{"policy": "deny", "rules": [{"match": "fred", "policy": "allow"}]}""");
        Add($$"""{'qom-type': 'authz-listfile', 'id': 'a', 'filename': '{{path}}'}""");
        Assert.That(IsAllowed("fred"));
        Assert.That(IsAllowed("barney"), Is.False);
        File.WriteAllText(path, """{"policy": "allow"}""");
        Assert.That(IsAllowed("barney"));
        File.WriteAllText(path, "{ no rules at all");
        Assert.That(IsAllowed("fred"), Is.False, "a file that is not understood lets nobody in");
        File.Delete(path);
        Assert.That(IsAllowed("fred"), Is.False, "nor does one that is gone");
        File.WriteAllText(path, """{"rules": [{"match": "fred", "policy": "allow"}]}""");
        Assert.That(IsAllowed("fred"));
        Directory.Delete(Path.GetDirectoryName(path)!, recursive: true);
    }

    [TestCase("[]", "File 'F' must contain a JSON object")]
    [TestCase("{\"rules\": 3}", "Invalid parameter type for 'rules', expected: array")]
    [TestCase("{\"policy\": \"maybe\"}", "Parameter 'policy' does not accept value 'maybe'")]
    public void AFileThatIsNotUnderstoodMakesNoObject(string content, string error)
    {
        string path = Path.Combine(Directory.CreateTempSubdirectory("vmm-authz-").FullName, "rules");
        File.WriteAllText(path, content);
        QapiException e = Assert.Throws<QapiException>(() => Add($$"""{'qom-type': 'authz-list-file', 'id': 'a', 'filename': '{{path}}'}"""))!;
        Assert.That(e.Desc, Is.EqualTo(error.Replace("F'", path + "'", StringComparison.Ordinal)));
        Assert.That(_tree.Objects.FindChild("a"), Is.Null);
        Directory.Delete(Path.GetDirectoryName(path)!, recursive: true);
    }

    [Test]
    public void PatternsMatchAsTheirRegularExpressionsDo()
    {
        Gen<string> texts = Gen.Elements("a", "b", "*", "?", "ab", "").ListOf().Select(static l => string.Concat(l));
        Prop.ForAll(
            texts.ToArbitrary(),
            texts.ToArbitrary(),
            static (pattern, text) =>
            {
                string expression = "^" + Regex.Escape(pattern).Replace("\\*", ".*", StringComparison.Ordinal).Replace("\\?", ".", StringComparison.Ordinal) + "$";
                return AuthorizationRules.IsMatch(pattern, text) == Regex.IsMatch(text, expression, RegexOptions.Singleline);
            }).QuickCheckThrowOnFailure();
    }

    private bool IsAllowed(string identity) => Authorization.IsAllowed(id => _tree.Objects.FindChild(id), "a", identity);

    private void Add(string json) => new ObjectFactory(new ObjectContext(_tree, null!, new Clocks())).Add((QDict)QValue.Parse(json));
}
