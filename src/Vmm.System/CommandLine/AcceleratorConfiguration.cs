using Vmm.Qapi;
using Vmm.Qapi.Options;

namespace Vmm.System.CommandLine;

/// <summary>One accelerator to try.</summary>
/// <param name="Name">"kvm", "qtest", or whatever the user named.</param>
/// <param name="Properties">Its properties as strings.</param>
/// <param name="Location">Where it was given, null when it comes from -machine or is the default.</param>
public sealed record AcceleratorOption(string Name, QDict Properties, string? Location);

/// <summary>
/// Accelerators in the order in which they are tried. The first that exists and initialises is used.
/// </summary>
/// <param name="Candidates">The accelerators to try.</param>
/// <param name="FromMachineOption">
/// Whether they come from -machine accel=: there an unknown name is reported and skipped, and the one chosen instead is announced.
/// </param>
/// <param name="MachineProperties">
/// Accelerator properties given as machine properties ("kernel-irqchip"); they apply to KVM when it is used, as strings.
/// </param>
public sealed record AcceleratorConfiguration(
    IReadOnlyList<AcceleratorOption> Candidates, bool FromMachineOption, QDict MachineProperties)
{
    /// <summary>
    /// Tries the candidates in order and returns the first that works, after reporting those that do not exist.
    /// </summary>
    /// <param name="exists">Whether there is an accelerator of that name.</param>
    /// <param name="initialise">Initialises one; false when it cannot, having said so itself.</param>
    /// <param name="report">Takes the messages.</param>
    /// <returns>The accelerator in use, or null when none could be initialised; then everything has been reported.</returns>
    public AcceleratorOption? Choose(
        Func<string, bool> exists, Func<AcceleratorOption, bool> initialise, Action<Diagnostic> report)
    {
        bool failed = false;
        if (FromMachineOption)
        {
            foreach (AcceleratorOption candidate in Candidates)
            {
                if (!exists(candidate.Name))
                {
                    failed = true;
                    report(new Diagnostic(DiagnosticKind.Error, null, $"invalid accelerator {candidate.Name}"));
                }
            }
        }

        foreach (AcceleratorOption candidate in Candidates)
        {
            if (!exists(candidate.Name))
            {
                if (!FromMachineOption)
                {
                    failed = true;
                    report(new Diagnostic(DiagnosticKind.Error, candidate.Location, $"invalid accelerator {candidate.Name}"));
                }

                continue;
            }

            if (initialise(candidate))
            {
                if (failed)
                {
                    string display = candidate.Name == "kvm" ? "KVM" : candidate.Name;
                    report(new Diagnostic(DiagnosticKind.Error, null, $"falling back to {display}"));
                }

                return candidate;
            }

            failed = true;
        }

        if (!failed)
        {
            report(new Diagnostic(DiagnosticKind.Error, null, "no accelerator found"));
        }

        return null;
    }
}
