using Vmm.Qapi;

namespace Vmm.TestKit.Qmp;

/// <summary>
/// Compares two answers of query-qmp-schema by structure: type names are arbitrary, everything reachable from a command or event is not.
/// Ours may accept more (additional optional members of arguments); it must not lack or change anything.
/// </summary>
public sealed class SchemaComparer
{
    private readonly Dictionary<string, QDict> _ours;
    private readonly Dictionary<string, QDict> _reference;
    private readonly HashSet<(string, string, bool)> _compared = [];
    private readonly List<string> _differences = [];

    /// <summary>Takes both lists of schema entries.</summary>
    public SchemaComparer(QList ours, QList reference)
    {
        _ours = ByName(ours);
        _reference = ByName(reference);
    }

    /// <summary>Whether the reference has a command or event of that name.</summary>
    public bool IsInReference(string name) => _reference.ContainsKey(name);

    /// <summary>What a client would notice about a command or event; empty when it is compatible.</summary>
    public List<string> Compare(string name)
    {
        _differences.Clear();
        _compared.Clear();
        if (!_ours.TryGetValue(name, out QDict? ours) || !_reference.TryGetValue(name, out QDict? reference))
        {
            return [name + ": not in both schemas"];
        }

        CompareText(name, ours, reference, "meta-type");
        if ((ours.GetBool("allow-oob") ?? false) != (reference.GetBool("allow-oob") ?? false))
        {
            _differences.Add(name + ": allow-oob differs");
        }

        bool isEvent = reference.GetString("meta-type") == "event";
        CompareTypes(name + isEvent switch { true => " data", false => " arguments" }, ours, reference, "arg-type", input: !isEvent);
        if (!isEvent)
        {
            CompareTypes(name + " result", ours, reference, "ret-type", input: false);
        }

        return [.. _differences];
    }

    private static Dictionary<string, QDict> ByName(QList schema)
    {
        var entries = new Dictionary<string, QDict>();
        foreach (QValue entry in schema)
        {
            entries.Add(((QDict)entry).GetString("name")!, (QDict)entry);
        }

        return entries;
    }

    private static Dictionary<string, QDict> Members(QDict type, string list, string key)
    {
        var members = new Dictionary<string, QDict>();
        foreach (QValue member in type.GetList(list) ?? [])
        {
            members.Add(((QDict)member).GetString(key)!, (QDict)member);
        }

        return members;
    }

    private void CompareText(string where, QDict ours, QDict reference, string key)
    {
        if (ours.GetString(key) != reference.GetString(key))
        {
            _differences.Add($"{where}: {key} is {ours.GetString(key) ?? "absent"} instead of {reference.GetString(key) ?? "absent"}");
        }
    }

    private void CompareTypes(string where, QDict ours, QDict reference, string key, bool input)
    {
        string ourName = ours.GetString(key)!;
        string referenceName = reference.GetString(key)!;
        if (!_compared.Add((ourName, referenceName, input)))
        {
            return;
        }

        QDict our = _ours[ourName];
        QDict their = _reference[referenceName];
        string kind = their.GetString("meta-type")!;
        if (our.GetString("meta-type") != kind)
        {
            _differences.Add($"{where}: is {our.GetString("meta-type")} instead of {kind}");
            return;
        }

        switch (kind)
        {
            case "builtin":
                CompareText(where, our, their, "json-type");
                break;
            case "array":
                CompareTypes(where + "[]", our, their, "element-type", input);
                break;
            case "enum":
                CompareEnum(where, our, their, input);
                break;
            case "alternate":
                CompareAlternate(where, our, their, input);
                break;
            default:
                CompareObject(where, our, their, input);
                break;
        }
    }

    private void CompareEnum(string where, QDict ours, QDict reference, bool input)
    {
        Dictionary<string, QDict> have = Members(ours, "members", "name");
        foreach (string name in Members(reference, "members", "name").Keys)
        {
            // A value that we never accept or produce need not be announced; one of our own invention must not be.
            have.Remove(name);
        }

        if (!input)
        {
            foreach (string name in have.Keys)
            {
                _differences.Add($"{where}: value '{name}' is unknown to clients");
            }
        }
    }

    private void CompareAlternate(string where, QDict ours, QDict reference, bool input)
    {
        List<QDict> theirs = (reference.GetList("members") ?? []).Cast<QDict>().ToList();
        foreach (QDict member in (ours.GetList("members") ?? []).Cast<QDict>())
        {
            string shape = Shape(_ours, member);
            QDict? same = theirs.Find(t => Shape(_reference, t) == shape);
            if (same == null)
            {
                _differences.Add($"{where}: choice of {shape} is unknown to clients");
                continue;
            }

            theirs.Remove(same);
            CompareTypes($"{where}<{shape}>", member, same, "type", input);
        }

        foreach (QDict member in theirs)
        {
            _differences.Add($"{where}: lacks the choice of {Shape(_reference, member)}");
        }
    }

    private static string Shape(Dictionary<string, QDict> schema, QDict member)
    {
        QDict type = schema[member.GetString("type")!];
        return type.GetString("json-type") ?? type.GetString("meta-type")!;
    }

    private void CompareObject(string where, QDict ours, QDict reference, bool input)
    {
        Dictionary<string, QDict> have = Members(ours, "members", "name");
        foreach ((string name, QDict wanted) in Members(reference, "members", "name"))
        {
            bool optional = wanted.ContainsKey("default");
            if (!have.Remove(name, out QDict? member))
            {
                // An optional result that we never return is compatible; an argument that we refuse is not.
                if (input || !optional)
                {
                    _differences.Add($"{where}: lacks '{name}'");
                }

                continue;
            }

            bool ourOptional = member.ContainsKey("default");
            if (input ? optional && !ourOptional : !optional && ourOptional)
            {
                _differences.Add($"{where}: '{name}' is {(ourOptional ? "optional" : "required")}");
            }

            CompareTypes(where + "." + name, member, wanted, "type", input);
        }

        foreach ((string name, QDict member) in have)
        {
            if (!input || !member.ContainsKey("default"))
            {
                _differences.Add($"{where}: '{name}' is unknown to clients");
            }
        }

        CompareText(where, ours, reference, "tag");
        Dictionary<string, QDict> branches = Members(ours, "variants", "case");
        foreach ((string name, QDict wanted) in Members(reference, "variants", "case"))
        {
            // Back ends and drivers that this program does not have are absent from its unions.
            if (branches.TryGetValue(name, out QDict? branch))
            {
                CompareTypes($"{where}({name})", branch, wanted, "type", input);
            }
        }
    }
}
