namespace Vmm.System.CommandLine;

/// <summary>How much a message matters.</summary>
public enum DiagnosticKind
{
    /// <summary>The request failed.</summary>
    Error,

    /// <summary>Accepted, but deprecated or without effect.</summary>
    Warning,

    /// <summary>Worth knowing.</summary>
    Information,
}

/// <summary>One message for standard error.</summary>
/// <param name="Kind">How much it matters.</param>
/// <param name="Location">The option ("-m 1x"), the place in a file with a colon in front (":file:3") that it is about, or null.</param>
/// <param name="Text">The message: one line without prefix.</param>
/// <param name="Hint">Further lines that are printed without prefix, or null.</param>
/// <param name="Timestamped">Whether -msg timestamp=on had been seen when it arose.</param>
/// <param name="GuestName">The guest's name when -msg guest-name=on and -name had been seen, else null.</param>
public sealed record Diagnostic(
    DiagnosticKind Kind, string? Location, string Text, string? Hint = null, bool Timestamped = false, string? GuestName = null)
{
    /// <summary>
    /// The message as printed: program, location, severity, text and hint, ending in a line feed. Clients parse this form.
    /// </summary>
    /// <param name="programName">Name of the program without directory.</param>
    /// <param name="utcNow">Time to show when the message is timestamped.</param>
    public string Format(string programName, DateTime utcNow = default)
    {
        string stamp = Timestamped ? $"{utcNow:yyyy-MM-ddTHH:mm:ss.ffffff}Z " : "";
        string guest = GuestName == null ? "" : $"{GuestName} ";
        string severity = Kind switch
        {
            DiagnosticKind.Warning => "warning: ",
            DiagnosticKind.Information => "info: ",
            _ => "",
        };

        // A place in a file follows the program's name directly, as compilers print it; an option stands after a space.
        string location = Location switch
        {
            null => ": ",
            [':', ..] => $"{Location}: ",
            _ => $": {Location}: ",
        };
        string text = $"{stamp}{guest}{programName}{location}{severity}{Text}\n";
        return Hint == null ? text : $"{text}{Hint}\n";
    }
}
