using System.Text;
using Vmm.Qapi;
using Vmm.TestKit.Processes;
using Vmm.TestKit.Qmp;

namespace Vmm.Qmp.Tests;

/// <summary>
/// What the running product says about its commands, compared with what QEMU 7.2 says and with the arguments that commands of version 2.6
/// of the interface took, so that clients of both find what they know.
/// </summary>
public sealed class CatalogueTests
{
    /// <summary>
    /// Known differences, all of them: optional arguments with nothing behind them, which the product refuses, and values of later versions
    /// of QEMU.
    /// </summary>
    private static readonly string[] s_differences =
    [
        "blockdev-add arguments(file): lacks 'pr-manager'",
        "chardev-add arguments.backend(socket).data: lacks 'tn3270'",
        "chardev-change arguments.backend(socket).data: lacks 'tn3270'",
        "query-dump-guest-memory-capability result.formats[]: value 'kdump-raw-zlib' is unknown to clients",
        "query-dump-guest-memory-capability result.formats[]: value 'kdump-raw-lzo' is unknown to clients",
        "query-dump-guest-memory-capability result.formats[]: value 'kdump-raw-snappy' is unknown to clients",
    ];

    /// <summary>
    /// What the schema, which is that of today, does not say of version 2.6: blockdev-add takes the options nested in "options" as well, and
    /// then wants none beside them. <see cref="OldBlockdevAddTests"/> has that form.
    /// </summary>
    private static readonly string[] s_unsaid26 =
    [
        "blockdev-add: lacks 'options'",
        "blockdev-add: requires 'driver', which clients do not send",
    ];

    private static readonly string[] s_readFormats = ["parallels", "qed", "vdi", "vhdx", "vmdk", "vpc"];

    private readonly Dictionary<string, QDict> _types = [];
    private readonly List<string> _commands = [];
    private QList _schema = null!;

    [OneTimeSetUp]
    public void AskTheProduct()
    {
        using Emulator emulator = Monitored.Start();
        QmpClient client = emulator.Qmp();
        client.SendRaw("{\"execute\":\"query-qmp-schema\"}");
        QDict answer = (QDict)QValue.Parse(Encoding.UTF8.GetBytes(client.ReadLine()!));
        _schema = answer.GetList("return")!;
        foreach (QDict entry in _schema.Cast<QDict>())
        {
            _types.Add(entry.GetString("name")!, entry);
            if (entry.GetString("meta-type") == "command")
            {
                _commands.Add(entry.GetString("name")!);
            }
        }
    }

    [Test]
    public void EveryServedCommandTakesTheArgumentsOfVersion26()
    {
        List<string> differences = [];
        foreach (string line in File.ReadLines(Reference("qmp-2.6-args_type.tsv")).Skip(1))
        {
            string[] columns = line.Split('\t');
            if (_commands.Contains(columns[0]))
            {
                Compare(columns[0], columns.Length > 1 ? columns[1] : "", differences);
            }
        }

        TestContext.Out.WriteLine(Table());
        Assert.That(differences, Is.EquivalentTo(s_unsaid26));
    }

    /// <summary>Where VMM_WRITE_CATALOGUE is set, the table is written instead of compared.</summary>
    [Test]
    public void TheReadmeCarriesTheTable()
    {
        string readme = Path.Combine(Root(), "README.md");
        string text = File.ReadAllText(readme);
        string? found = CatalogueTable.Find(text);
        Assert.That(found, Is.Not.Null, "the markers are there");
        string table = Table();
        if (Environment.GetEnvironmentVariable("VMM_WRITE_CATALOGUE") is { Length: > 0 })
        {
            File.WriteAllText(readme, text.Replace(found!, table, StringComparison.Ordinal));
            return;
        }

        Assert.That(found, Is.EqualTo(table), "stale: run tools/vmm catalogue");
    }

    [Test]
    public void EveryServedCommandHasQemusSchema()
    {
        SchemaComparer comparer = Comparer();
        List<string> differences = [];
        foreach (string command in _commands)
        {
            if (comparer.IsInReference(command))
            {
                differences.AddRange(comparer.Compare(command));
            }
        }

        Assert.That(
            differences.Where(d => !IsOfReadFormat(d)).Select(OfNode).Distinct(),
            Is.EquivalentTo(s_differences));
        Assert.That(
            s_readFormats.Where(f => !differences.Exists(d => IsOfFormat(d, f))),
            Is.Empty,
            "these can be created, and are listed as if they could not");
    }

    [Test]
    public void EveryEventHasQemusSchema()
    {
        SchemaComparer comparer = Comparer();
        List<string> differences = [];
        foreach (QDict entry in _types.Values.Where(e => e.GetString("meta-type") == "event"))
        {
            // Crash information of s390 guests cannot arise here, so its members are not described.
            differences.AddRange(comparer.Compare(entry.GetString("name")!).Where(d => !d.Contains("(s390)", StringComparison.Ordinal)));
        }

        Assert.That(differences, Is.Empty);
    }

    // Formats that are only read are refused as drivers that make no images are.
    private static bool IsOfReadFormat(string difference) => Array.Exists(s_readFormats, format => IsOfFormat(difference, format));

    private static bool IsOfFormat(string difference, string format) =>
        difference.StartsWith($"blockdev-create arguments.options({format})", StringComparison.Ordinal);

    // Options of a node within those of something else are the same type.
    private static string OfNode(string difference)
    {
        const string Reopen = "blockdev-reopen arguments.options[]";
        if (difference.StartsWith(Reopen + "(", StringComparison.Ordinal))
        {
            return "blockdev-add arguments" + difference[Reopen.Length..];
        }

        int at = difference.LastIndexOf("<object>(", StringComparison.Ordinal);
        return at < 0 ? difference : "blockdev-add arguments" + difference[(at + "<object>".Length)..];
    }

    private static string Reference(string file)
    {
        string path = Path.Combine(Shared(), "reference", file);
        if (!File.Exists(path))
        {
            Assert.Ignore($"needs shared/reference/{file}");
        }

        return path;
    }

    private static string Shared()
    {
        if (Environment.GetEnvironmentVariable("VMM_SHARED") is { Length: > 0 } given)
        {
            return given;
        }

        return Path.Combine(Root(), "../shared");
    }

    private static string Root()
    {
        string directory = AppContext.BaseDirectory;
        while (!File.Exists(Path.Combine(directory, "Vmm.sln")))
        {
            directory = Path.GetDirectoryName(directory) ?? throw new DirectoryNotFoundException("no Vmm.sln above the tests");
        }

        return directory;
    }

    private static bool Fits(string kind, string letter) => letter switch
    {
        "s" or "B" or "F" => kind is "string" or "enum" or "alternate",
        "i" or "l" or "o" or "M" => kind is "int",
        "T" => kind is "number" or "int",
        "b" => kind is "boolean",
        "q" or "O" => true,
        _ => letter.StartsWith('-') && kind is "boolean",
    };

    private string Table()
    {
        QList reference = (QList)QValue.Parse(File.ReadAllBytes(Reference("qemu-7.2/query-qmp-schema.json")));
        HashSet<string> current = [.. reference.Cast<QDict>().Where(e => e.GetString("meta-type") == "command").Select(e => e.GetString("name")!)];
        string[] registry = [.. File.ReadLines(Reference("qmp-2.6-args_type.tsv")).Skip(1).Select(line => line.Split('\t')[0])];
        return CatalogueTable.Render(registry, _commands, current);
    }

    private SchemaComparer Comparer() =>
        new(_schema, (QList)QValue.Parse(File.ReadAllBytes(Reference("qemu-7.2/query-qmp-schema.json"))));

    private void Compare(string command, string declared, List<string> differences)
    {
        Dictionary<string, QDict> members = [];
        foreach (QDict member in (_types[_types[command].GetString("arg-type")!].GetList("members") ?? []).Cast<QDict>())
        {
            members.Add(member.GetString("name")!, member);
        }

        bool open = false;
        foreach (string parameter in declared.Split(',', StringSplitOptions.RemoveEmptyEntries))
        {
            int colon = parameter.IndexOf(':', StringComparison.Ordinal);
            string name = parameter[..colon];
            string letter = parameter[(colon + 1)..].TrimEnd('?');
            bool mayBeAbsent = parameter.EndsWith('?') || letter.StartsWith('-');
            if (letter == "O")
            {
                // The rest of the options of a device: members are those of its type.
                open = true;
                continue;
            }

            if (!members.Remove(name, out QDict? member))
            {
                differences.Add($"{command}: lacks '{name}'");
                continue;
            }

            QDict type = _types[member.GetString("type")!];
            string kind = type.GetString("json-type") ?? type.GetString("meta-type")!;
            if (!Fits(kind, letter))
            {
                differences.Add($"{command}: '{name}' is {kind} where clients send {letter}");
            }

            if (mayBeAbsent && !member.ContainsKey("default"))
            {
                differences.Add($"{command}: '{name}' is required where clients leave it out");
            }
        }

        foreach ((string name, QDict member) in members)
        {
            if (!open && !member.ContainsKey("default"))
            {
                differences.Add($"{command}: requires '{name}', which clients do not send");
            }
        }
    }
}
