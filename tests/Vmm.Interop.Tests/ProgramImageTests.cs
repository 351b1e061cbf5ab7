namespace Vmm.Interop.Tests;

/// <summary>What the process keeps of its program.</summary>
public sealed class ProgramImageTests
{
    [Test]
    public void Pages_of_the_program_leave_and_come_back()
    {
        long before = ResidentKiB();
        ProgramImage.ReleasePages();
        Assert.That(ResidentKiB(), Is.LessThan(before));
    }

    [Test]
    public void Nothing_that_was_written_is_lost()
    {
        byte[] memory = [.. Enumerable.Range(0, 100_000).Select(i => (byte)(i * 7))];
        using NativeBuffer native = new(1 << 20);
        memory.CopyTo(native.Span);
        Environment.SetEnvironmentVariable("VMM_TEST_RELEASE", "kept");
        for (int i = 0; i < 10; i++)
        {
            ProgramImage.ReleasePages();
        }

        Assert.That(native.Span[..memory.Length].SequenceEqual(memory));
        Assert.That(memory[^1], Is.EqualTo(unchecked((byte)(99_999 * 7))));
        Assert.That(Environment.GetEnvironmentVariable("VMM_TEST_RELEASE"), Is.EqualTo("kept"));
    }

    // Libraries that are mapped and cannot be written through the mapping (proc_pid_smaps(5)).
    private static long ResidentKiB()
    {
        long result = 0;
        bool isCounted = false;
        foreach (string line in File.ReadLines("/proc/self/smaps"))
        {
            string[] words = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            if (words[0].Contains('-', StringComparison.Ordinal))
            {
                isCounted = words[1][1] == '-' && words[^1].Contains(".so", StringComparison.Ordinal);
            }
            else if (words[0] == "Rss:" && isCounted)
            {
                result += long.Parse(words[1]);
            }
        }

        return result;
    }
}
