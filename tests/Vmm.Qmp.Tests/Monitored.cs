using Vmm.TestKit.Processes;

namespace Vmm.Qmp.Tests;

/// <summary>Processes without a machine, under the control of monitors.</summary>
internal static class Monitored
{
    private static readonly string[] s_always = ["-machine", "none", "-display", "none", "-nodefaults", "-S"];

    /// <summary>Starts our binary with a monitor; a socket path in <paramref name="arguments"/> is the caller's affair.</summary>
    public static Emulator Start(params string[] arguments)
    {
        RequireBinary();
        return Emulator.Start([.. s_always, .. arguments]);
    }

    /// <summary>Starts a process with a second monitor, whose socket is <c>second.sock</c> in its directory.</summary>
    public static Emulator StartWithTwo()
    {
        RequireBinary();
        string directory = Emulator.NewDirectory();
        return Emulator.StartBinary(
            Emulator.OurBinary, true, directory, [.. s_always, "-qmp", $"unix:{Path.Combine(directory, "second.sock")},server=on,wait=off"]);
    }

    /// <summary>Starts the real QEMU with the same arguments.</summary>
    public static Emulator StartQemu(params string[] arguments) => Emulator.StartQemu([.. s_always, .. arguments]);

    /// <summary>Connects to the second monitor.</summary>
    public static QmpClient Second(Emulator emulator) =>
        QmpClient.Connect(Path.Combine(emulator.Directory, "second.sock"), () => !emulator.Process.HasExited);

    private static void RequireBinary() => Assert.That(Emulator.OurBinary, Does.Exist, "the product is not built");
}
