using Vmm.Qapi.Options;
using Vmm.System.Logging;

namespace Vmm.System.Wiring;

/// <summary>Prints what option parsing warns of.</summary>
internal sealed class OptionWarnings(ErrorReporter reporter) : IOptionDiagnostics
{
    /// <inheritdoc/>
    public void Warning(string text, string? hint = null) => reporter.Warning(text, hint);
}
