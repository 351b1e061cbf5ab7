using System.Globalization;
using System.Text;

namespace Vmm.Qmp.Tests;

/// <summary>The table of the README: which commands of version 2.6 of the interface are served.</summary>
internal static class CatalogueTable
{
    private const string Begin = "<!-- catalogue begin: written by `tools/vmm catalogue` -->";
    private const string End = "<!-- catalogue end -->";

    /// <summary>Commands of other machines or hypervisors: what a QEMU for x86 on KVM answers to them, or would without the feature.</summary>
    private static readonly string[] s_impossible =
    [
        "dump-skeys",
        "query-gic-capabilities",
        "query-rocker",
        "query-rocker-of-dpa-flows",
        "query-rocker-of-dpa-groups",
        "query-rocker-ports",
        "xen-load-devices-state",
        "xen-save-devices-state",
        "xen-set-global-dirty-log",
    ];

    /// <summary>Sorts the commands of a registry by what becomes of them.</summary>
    /// <param name="registry">Names of the registry, in its order.</param>
    /// <param name="served">Names that the product serves.</param>
    public static (List<string> Served, List<string> NotYet, List<string> Impossible) Sort(IEnumerable<string> registry, IReadOnlyCollection<string> served)
    {
        (List<string> Served, List<string> NotYet, List<string> Impossible) sorted = ([], [], []);
        foreach (string name in registry)
        {
            List<string> list = served.Contains(name) ? sorted.Served : s_impossible.Contains(name) ? sorted.Impossible : sorted.NotYet;
            list.Add(name);
        }

        return sorted;
    }

    /// <summary>The table with its markers.</summary>
    /// <param name="registry">Names of the registry.</param>
    /// <param name="served">Names that the product serves.</param>
    /// <param name="current">Names that QEMU 7.2 serves.</param>
    public static string Render(IReadOnlyCollection<string> registry, IReadOnlyCollection<string> served, IReadOnlyCollection<string> current)
    {
        (List<string> have, List<string> notYet, List<string> impossible) = Sort(registry, served);
        List<string> later = [.. served.Where(name => !registry.Contains(name)).Order(StringComparer.Ordinal)];
        StringBuilder text = new();
        text.Append(Begin).Append('\n');
        text.Append(CultureInfo.InvariantCulture, $"Of the {registry.Count} commands of version 2.6 of the interface ");
        text.Append(CultureInfo.InvariantCulture, $"{have.Count} are served, {notYet.Count} not yet, {impossible.Count} cannot exist on x86 with KVM. ");
        text.Append(CultureInfo.InvariantCulture, $"QEMU 7.2 has {current.Count} commands, of which {served.Count(current.Contains)} are served.\n\n");
        text.Append("| state | commands |\n|---|---|\n");
        Row("served", have);
        Row("served, newer than 2.6", later);
        Row("not yet", notYet);
        Row("cannot exist", impossible);
        return text.Append(End).ToString();

        void Row(string state, List<string> names) => text.Append(CultureInfo.InvariantCulture, $"| {state} | {string.Join(' ', names)} |\n");
    }

    /// <summary>The part of a document between the markers, with them; null when it has none.</summary>
    public static string? Find(string document)
    {
        int begin = document.IndexOf(Begin, StringComparison.Ordinal);
        int end = begin < 0 ? -1 : document.IndexOf(End, begin, StringComparison.Ordinal);
        return end < 0 ? null : document[begin..(end + End.Length)];
    }
}
