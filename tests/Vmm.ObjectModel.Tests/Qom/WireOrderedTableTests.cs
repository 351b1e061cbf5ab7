using FsCheck;
using FsCheck.Fluent;
using Vmm.ObjectModel.Qom;

namespace Vmm.ObjectModel.Tests.Qom;

public sealed class WireOrderedTableTests
{
    [Test]
    public void BehavesAsADictionary()
    {
        Prop.ForAll(
            ArbMap.Default.ArbFor<(byte Key, bool Remove)[]>(),
            operations =>
            {
                var table = new WireOrderedTable<string>();
                var model = new Dictionary<string, string>();
                foreach ((byte key, bool remove) in operations.Concat(operations.Reverse()))
                {
                    string name = "device[" + key + "]";
                    bool agreed = remove
                        ? table.Remove(name) == model.Remove(name)
                        : table.TryAdd(name, name) == model.TryAdd(name, name);
                    if (!agreed || table.Count != model.Count)
                    {
                        return false;
                    }
                }

                return model.Keys.All(k => table.TryGetValue(k, out string? v) && v == k) && List(table).ToHashSet().SetEquals(model.Keys);
            }).QuickCheckThrowOnFailure();
    }

    // Recorded from the hash table of GLib 2.74, which decides the order in which QEMU lists properties.
    [TestCase("r0 r2 r3 r1", "r1 r3 r0 r2")]
    [TestCase("machine objects chardevs", "chardevs machine objects")]
    public void OrderIsTheRecordedOne(string added, string listed)
    {
        var table = new WireOrderedTable<string>();
        foreach (string name in added.Split(' '))
        {
            table.TryAdd(name, name);
        }

        Assert.That(string.Join(' ', List(table)), Is.EqualTo(listed));
    }

    private static List<string> List(WireOrderedTable<string> table)
    {
        var result = new List<string>();
        for (int i = -1; table.MoveNext(ref i, out string? value);)
        {
            result.Add(value);
        }

        return result;
    }
}
