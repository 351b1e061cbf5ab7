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
    /// <summary>Known differences: optional arguments with nothing behind them, which the product refuses, and one of form.</summary>
    private static readonly string[] s_unserved =
    [
        "chardev-add arguments.backend(socket).data.addr(inet).data: lacks 'mptcp'",
        "chardev-add arguments.backend(socket).data: lacks 'tn3270'",
        "chardev-change arguments.backend(socket).data.addr(inet).data: lacks 'mptcp'",
        "chardev-change arguments.backend(socket).data: lacks 'tn3270'",
        "object-add arguments(memory-backend-file): lacks 'prealloc-context'",
        "object-add arguments(memory-backend-file): lacks 'pmem'",
        "object-add arguments(memory-backend-memfd): lacks 'prealloc-context'",
        "object-add arguments(memory-backend-ram): lacks 'prealloc-context'",
        "object-add arguments(secret): lacks 'loaded'",

        // A union whose x86_64 branch is empty is described as a plain object: what is answered is the same.
        "query-cpus-fast result[]: tag is absent instead of target",
    ];

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
        QList reference = (QList)QValue.Parse(File.ReadAllBytes(Reference("qemu-7.2/query-qmp-schema.json")));
        HashSet<string> current = [.. reference.Cast<QDict>().Where(e => e.GetString("meta-type") == "command").Select(e => e.GetString("name")!)];
        List<string> served = [];
        List<string> notYet = [];
        List<string> gone = [];
        List<string> differences = [];
        foreach (string line in File.ReadLines(Reference("qmp-2.6-args_type.tsv")).Skip(1))
        {
            string[] columns = line.Split('\t');
            if (_commands.Contains(columns[0]))
            {
                served.Add(columns[0]);
                Compare(columns[0], columns.Length > 1 ? columns[1] : "", differences);
            }
            else
            {
                (current.Contains(columns[0]) ? notYet : gone).Add(columns[0]);
            }
        }

        TestContext.Out.WriteLine($"served ({served.Count}): {string.Join(' ', served)}");
        TestContext.Out.WriteLine($"not yet ({notYet.Count}): {string.Join(' ', notYet)}");
        TestContext.Out.WriteLine($"absent from QEMU 7.2 too ({gone.Count}): {string.Join(' ', gone)}");
        Assert.That(differences, Is.Empty);
        Assert.That(served, Is.Not.Empty);
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

        Assert.That(differences, Is.SubsetOf(s_unserved));
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

        string directory = AppContext.BaseDirectory;
        while (!File.Exists(Path.Combine(directory, "Vmm.sln")))
        {
            directory = Path.GetDirectoryName(directory) ?? throw new DirectoryNotFoundException("no Vmm.sln above the tests");
        }

        return Path.Combine(directory, "../shared");
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
