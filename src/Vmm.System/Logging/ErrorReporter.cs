using Vmm.EventLoop;
using Vmm.Interop;
using Vmm.System.CommandLine;

namespace Vmm.System.Logging;

/// <summary>Messages on standard error in the form that clients parse. Any thread; each message is one write.</summary>
public sealed class ErrorReporter
{
    private readonly string _programName;
    private readonly Func<long> _hostNowNs;
    private MessageConfiguration _messages = new(false, false);
    private string? _guestName;

    /// <summary>A reporter without prefixes.</summary>
    /// <param name="programName">Name of the program without directory.</param>
    /// <param name="hostNowNs">Host time of day in nanoseconds since 1970.</param>
    public ErrorReporter(string programName, Func<long> hostNowNs)
    {
        _programName = programName;
        _hostNowNs = hostNowNs;
    }

    /// <summary>Takes over -msg and -name.</summary>
    public void Configure(VmConfiguration configuration)
    {
        _messages = configuration.Messages;
        _guestName = configuration.Name.Guest;
    }

    /// <summary>Prints an error that belongs to no option.</summary>
    public void Error(string text, string? hint = null) => Report(DiagnosticKind.Error, null, text, hint);

    /// <summary>Prints a warning that belongs to no option.</summary>
    public void Warning(string text, string? hint = null) => Report(DiagnosticKind.Warning, null, text, hint);

    /// <summary>Prints a message with the prefixes configured by now.</summary>
    public void Report(DiagnosticKind kind, string? location, string text, string? hint = null) => Write(
        new Diagnostic(kind, location, text, hint, _messages.Timestamp, _messages.GuestName ? _guestName : null));

    /// <summary>Prints a message that knows its prefixes.</summary>
    public void Write(Diagnostic diagnostic) => StdIo.Error.Write(diagnostic.Format(_programName, Now()));

    private DateTime Now() => DateTime.UnixEpoch.AddTicks(_hostNowNs() / TimeSpan.NanosecondsPerTick);
}
