using Vmm.TestKit.Processes;

namespace Vmm.Qmp.Tests;

/// <summary>The real qemu-img.</summary>
internal static class QemuImg
{
    private const string Binary = "/usr/bin/qemu-img";

    /// <summary>Skips the test where it is not installed.</summary>
    internal static void Require()
    {
        if (!File.Exists(Binary))
        {
            Assert.Ignore("qemu-img (package qemu-utils) is not installed");
        }
    }

    /// <summary>Runs it with success, and returns what it printed.</summary>
    internal static string Run(params string[] arguments) => Run(0, arguments);

    /// <summary>Runs it with success or another exit status that is as good, and returns what it printed.</summary>
    internal static string Run(int allowed, params string[] arguments)
    {
        (int status, string output, string errors) = Emulator.Run(Binary, arguments);
        Assert.That(status, Is.Zero.Or.EqualTo(allowed), $"qemu-img {string.Join(' ', arguments)}: {output}{errors}");
        return output;
    }
}
