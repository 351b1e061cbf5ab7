namespace Vmm.Machines.Tests;

/// <summary>Finds the material beside the repository that some tests use.</summary>
internal static class Shared
{
    /// <summary>Path of a file in the shared directory; the running test is skipped where it is missing.</summary>
    public static string File(string relative)
    {
        var root = Environment.GetEnvironmentVariable("VMM_SHARED");
        if (string.IsNullOrEmpty(root))
        {
            var directory = new DirectoryInfo(AppContext.BaseDirectory);
            while (directory is not null && !System.IO.File.Exists(Path.Combine(directory.FullName, "Vmm.sln")))
            {
                directory = directory.Parent;
            }

            root = Path.Combine(directory?.Parent?.FullName ?? "/", "shared");
        }

        var path = Path.Combine(root, relative);
        if (!System.IO.File.Exists(path))
        {
            Assert.Ignore($"needs {relative} in the shared directory (set VMM_SHARED)");
        }

        return path;
    }
}
