using Vmm.Qapi;

namespace Vmm.System.Qmp;

/// <summary>Leaving the state in which -preconfig holds the machine.</summary>
/// <param name="exit">Builds the machine; throws when it is built already.</param>
public sealed class PreconfigCommands(Action exit)
{
    /// <summary>Lets the machine be built; what it cannot be built with ends the process.</summary>
    [QmpCommand("x-exit-preconfig", AllowPreconfig = true, Since = "3.0")]
    [QapiFeature("unstable")]
    public void ExitPreconfig() => exit();

    /// <summary>Lets the machine be built.</summary>
    [HmpCommand("exit_preconfig", Help = "exit the preconfig state", AllowPreconfig = true)]
    public void HmpExitPreconfig(HmpContext context) => exit();
}
