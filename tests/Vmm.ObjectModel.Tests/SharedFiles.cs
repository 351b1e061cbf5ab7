namespace Vmm.ObjectModel.Tests;

/// <summary>Finds the directory with reference files.</summary>
internal static class SharedFiles
{
    /// <summary>VMM_SHARED, or "shared" beside the repository; null when there is none.</summary>
    public static string? Find()
    {
        if (Environment.GetEnvironmentVariable("VMM_SHARED") is { Length: > 0 } named)
        {
            return named;
        }

        for (string? at = TestContext.CurrentContext.TestDirectory; at is not null; at = Path.GetDirectoryName(at))
        {
            string beside = Path.Combine(at, "..", "shared");
            if (Directory.Exists(Path.Combine(beside, "reference")))
            {
                return beside;
            }
        }

        return null;
    }
}
