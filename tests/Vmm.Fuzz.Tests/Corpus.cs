namespace Vmm.Fuzz.Tests;

/// <summary>Seeds: one file each, in a folder per target.</summary>
internal static class Corpus
{
    /// <summary>Folder of a target's seeds.</summary>
    public static string Folder(FuzzTarget target) => Path.Combine(Root, "tests", "corpora", "fuzz", target.Name);

    /// <summary>The repository.</summary>
    public static string Root { get; } = FindRoot();

    /// <summary>A target's seeds in the order of their names.</summary>
    public static IReadOnlyList<byte[]> Load(FuzzTarget target)
    {
        string folder = Folder(target);
        return Directory.Exists(folder) ? [.. Directory.GetFiles(folder).Order(StringComparer.Ordinal).Select(File.ReadAllBytes)] : [];
    }

    private static string FindRoot()
    {
        for (DirectoryInfo? d = new(AppContext.BaseDirectory); d != null; d = d.Parent)
        {
            if (File.Exists(Path.Combine(d.FullName, "Vmm.sln")))
            {
                return d.FullName;
            }
        }

        throw new DirectoryNotFoundException("the repository is not above " + AppContext.BaseDirectory);
    }
}
