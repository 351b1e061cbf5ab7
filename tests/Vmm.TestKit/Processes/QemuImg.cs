namespace Vmm.TestKit.Processes;

/// <summary>The real qemu-img.</summary>
public static class QemuImg
{
    /// <summary>Why tests that need it are skipped where it is not installed.</summary>
    public const string Missing = "qemu-img (package qemu-utils) is not installed";

    private const string Binary = "/usr/bin/qemu-img";

    // What it says when the CPU time of its key derivation rounds to nothing, as it may on any machine: it has made no image yet.
    private const string NoClock = "Unable to get accurate CPU usage";

    /// <summary>It is installed.</summary>
    public static bool IsInstalled { get; } = File.Exists(Binary);

    /// <summary>Runs it with success, and returns what it printed.</summary>
    /// <exception cref="InvalidOperationException">It fails.</exception>
    public static string Run(params string[] arguments) => Run(0, arguments);

    /// <summary>Runs it with success or another exit status that is as good, and returns what it printed.</summary>
    /// <exception cref="InvalidOperationException">It ends with any other status.</exception>
    public static string Run(int allowed, params string[] arguments)
    {
        (int status, string output, string errors) = Emulator.Run(Binary, arguments);
        while (status == 1 && errors.Contains(NoClock, StringComparison.Ordinal))
        {
            (status, output, errors) = Emulator.Run(Binary, arguments);
        }

        return status == 0 || status == allowed
            ? output
            : throw new InvalidOperationException($"qemu-img {string.Join(' ', arguments)} ended with {status}: {output}{errors}");
    }
}
