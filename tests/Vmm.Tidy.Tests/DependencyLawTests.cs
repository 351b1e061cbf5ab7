using System.Xml.Linq;

namespace Vmm.Tidy.Tests;

/// <summary>A project exists to enforce a dependency law; this is the law.</summary>
public sealed class DependencyLawTests
{
    private static readonly Dictionary<string, string[]> s_mayReference = new()
    {
        ["Vmm.Interop"] = [],
        ["Vmm.Memory"] = ["Vmm.Interop"],
        ["Vmm.EventLoop"] = ["Vmm.Interop"],
        ["Vmm.Qapi"] = [],
        ["Vmm.Generators"] = [],
        ["Vmm.ObjectModel"] = ["Vmm.Qapi", "Vmm.Memory", "Vmm.EventLoop"],
        ["Vmm.Kvm"] = ["Vmm.ObjectModel"],
        ["Vmm.Devices"] = ["Vmm.ObjectModel"],
        ["Vmm.Block"] = ["Vmm.ObjectModel"],
        ["Vmm.Chardev"] = ["Vmm.ObjectModel"],
        ["Vmm.Dump"] = ["Vmm.ObjectModel"],
        ["Vmm.Monitor"] = ["Vmm.Qapi", "Vmm.EventLoop"],
        ["Vmm.Machines"] = ["Vmm.Devices", "Vmm.Block", "Vmm.Chardev", "Vmm.Kvm", "Vmm.ObjectModel"],
        ["Vmm.System"] = ["Vmm.Machines", "Vmm.Block", "Vmm.Monitor", "Vmm.Devices", "Vmm.Chardev", "Vmm.Dump", "Vmm.Kvm", "Vmm.ObjectModel", "Vmm.Qapi", "Vmm.EventLoop", "Vmm.Memory", "Vmm.Interop"],
    };

    private static readonly string[] s_mayBeUnsafe = ["Vmm.Interop", "Vmm.Memory"];

    private static IEnumerable<string> Projects => Repository.Files("src", "*.csproj");

    [Test]
    public void EveryProjectHasALaw()
    {
        string[] known = [.. s_mayReference.Keys];
        Assert.That(Projects.Select(p => Path.GetFileNameWithoutExtension(p)), Is.SubsetOf(known));
    }

    [TestCaseSource(nameof(Projects))]
    public void ReferencesAreAllowed(string project)
    {
        string name = Path.GetFileNameWithoutExtension(project);
        foreach (XElement reference in XDocument.Load(project).Descendants("ProjectReference"))
        {
            string target = Path.GetFileNameWithoutExtension((string)reference.Attribute("Include")!);
            if (target == "Vmm.Generators")
            {
                Assert.That((string?)reference.Attribute("OutputItemType"), Is.EqualTo("Analyzer"), $"{name}: the generators are an analyzer only");
                continue;
            }

            Assert.That(s_mayReference[name], Does.Contain(target), $"{name} must not reference {target}");
        }
    }

    [TestCaseSource(nameof(Projects))]
    public void UnsafeCodeStaysInInteropAndMemory(string project)
    {
        bool isUnsafe = XDocument.Load(project).Descendants("AllowUnsafeBlocks").Any(e => e.Value == "true");
        if (isUnsafe)
        {
            Assert.That(s_mayBeUnsafe, Does.Contain(Path.GetFileNameWithoutExtension(project)));
        }
    }

    [Test]
    public void NativeImportsAreInInteropOnly()
    {
        string[] elsewhere = [.. Repository.Files("src", "*.cs")
            .Where(f => !Repository.Relative(f).StartsWith("src/Vmm.Interop/", StringComparison.Ordinal))
            .Where(f => File.ReadAllText(f) is var text && (text.Contains("[LibraryImport", StringComparison.Ordinal) || text.Contains("[DllImport", StringComparison.Ordinal)))
            .Select(Repository.Relative)];
        Assert.That(elsewhere, Is.Empty);
    }
}
