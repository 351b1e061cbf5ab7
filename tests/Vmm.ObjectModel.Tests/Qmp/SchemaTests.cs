using Vmm.Qapi;

namespace Vmm.ObjectModel.Tests.Qmp;

/// <summary>What introspection says of the commands here is what QEMU 7.2 says of them, for all that is served.</summary>
public sealed class SchemaTests
{
    private Dictionary<string, QDict> _ours = null!;
    private Dictionary<string, QDict> _theirs = null!;

    [Test]
    public void CommandsAndEventsAreCompatible()
    {
        string? shared = SharedFiles.Find();
        if (shared is null)
        {
            Assert.Ignore("the recorded schema (../shared) is not here");
            return;
        }

        using var bench = new Bench();
        ObjectModelCatalog.RegisterEvents(bench.Table);
        _ours = Index(QValue.Parse(bench.Table.SchemaJson.Span));
        _theirs = Index(QValue.Parse(File.ReadAllBytes(Path.Combine(shared, "reference", "qemu-7.2", "query-qmp-schema.json"))));
        Assert.Multiple(() =>
        {
            foreach ((string name, QDict entry) in _ours)
            {
                if (entry.GetString("meta-type") is not ("command" or "event") || !_theirs.TryGetValue(name, out QDict? other))
                {
                    continue;
                }

                Compare(name, entry.GetString("arg-type")!, other.GetString("arg-type")!, []);
                if (entry.GetString("ret-type") is { } ret)
                {
                    Compare(name + " return", ret, other.GetString("ret-type")!, []);
                }

                string features = other.GetList("features")?.ToJson() ?? "";
                Assert.That(entry.GetList("features")?.ToJson() ?? "", Is.EqualTo(features), name);
            }
        });
    }

    private static Dictionary<string, QDict> Index(QValue schema)
    {
        var index = new Dictionary<string, QDict>();
        foreach (QValue entry in (QList)schema)
        {
            index.Add(((QDict)entry).GetString("name")!, (QDict)entry);
        }

        return index;
    }

    private static Dictionary<string, QDict> Members(QDict type) =>
        (type.GetList("members") ?? []).Cast<QDict>().ToDictionary(m => m.GetString("name")!);

    private void Compare(string path, string our, string their, HashSet<string> seen)
    {
        if (!seen.Add(our + " " + their))
        {
            return;
        }

        QDict ours = _ours[our];
        QDict theirs = _theirs[their];
        Assert.That(ours.GetString("meta-type"), Is.EqualTo(theirs.GetString("meta-type")), path);
        switch (ours.GetString("meta-type"))
        {
            case "builtin":
                Assert.That(ours.GetString("json-type"), Is.EqualTo(theirs.GetString("json-type")), path);
                break;
            case "array":
                Compare(path + "[]", ours.GetString("element-type")!, theirs.GetString("element-type")!, seen);
                break;
            case "enum":
                var values = theirs.GetList("values")!.Select(v => ((QString)v).Value).ToHashSet();
                Assert.That(ours.GetList("values")!.Select(v => ((QString)v).Value), Is.SubsetOf(values), path);
                break;
            case "object":
                CompareObjects(path, ours, theirs, seen);
                break;
        }
    }

    private void CompareObjects(string path, QDict ours, QDict theirs, HashSet<string> seen)
    {
        Dictionary<string, QDict> known = Members(theirs);
        foreach ((string name, QDict member) in Members(ours))
        {
            if (!known.TryGetValue(name, out QDict? other))
            {
                // Members of older versions are accepted beside the new ones.
                Assert.That(member.ContainsKey("default"), $"{path}.{name} is unknown and required");
                continue;
            }

            Assert.That(member.ContainsKey("default"), Is.EqualTo(other.ContainsKey("default")), $"{path}.{name}: optional");
            Compare($"{path}.{name}", member.GetString("type")!, other.GetString("type")!, seen);
            known.Remove(name);
        }

        string[] unserved = ["prealloc-context", "rom", "pmem", "loaded"];
        Assert.That(known.Keys.Except(unserved), Is.Empty, path + " lacks members");
        Assert.That(ours.GetString("tag"), Is.EqualTo(theirs.GetString("tag")), path);
        var variants = (theirs.GetList("variants") ?? []).Cast<QDict>().ToDictionary(v => v.GetString("case")!, v => v.GetString("type")!);
        foreach (QDict variant in (ours.GetList("variants") ?? []).Cast<QDict>())
        {
            string name = variant.GetString("case")!;
            Compare($"{path}({name})", variant.GetString("type")!, variants[name], seen);
        }
    }
}
