using System.Text;
using Serilog;
using Serilog.Core;
using Serilog.Events;
using Vmm.Interop;
using Vmm.ObjectModel.Logging;
using Vmm.Qapi;
using Vmm.System.CommandLine;

namespace Vmm.System.Logging;

/// <summary>
/// The log that -D, -d and -trace ask for and that the human monitor changes. Nothing of the logging library is touched before something is to
/// be logged. Home: main loop.
/// </summary>
public sealed class LogControl : IDisposable
{
    private const uint Mode = 0x1B6;

    private readonly LogConfiguration _configuration;
    private readonly TraceEventRegistry _traces;
    private readonly ErrorReporter _reporter;
    private readonly bool _timestamps;
    private string? _path;
    private SerilogSink? _sink;

    /// <summary>A log that is not open.</summary>
    /// <param name="configuration">The whole configuration.</param>
    /// <param name="traces">All trace events.</param>
    /// <param name="reporter">Takes warnings about events that do not exist.</param>
    public LogControl(VmConfiguration configuration, TraceEventRegistry traces, ErrorReporter reporter)
    {
        _configuration = configuration.Log;
        _timestamps = configuration.Messages.Timestamp;
        _traces = traces;
        _reporter = reporter;
    }

    /// <summary>The file that takes the log; null for standard error.</summary>
    public string? Path => _path;

    /// <summary>Opens the log and switches on what the command line asks for; does nothing when that is nothing.</summary>
    /// <exception cref="QapiException">The file cannot be opened or its name has more in it than one %d.</exception>
    public void Open()
    {
        if (!_configuration.IsActive)
        {
            return;
        }

        if (_configuration.File is { } file)
        {
            _path = CreateFile(file);
        }

        Switch(_configuration.Traces);
        MachineLog.Enabled = _configuration.Items;
        Connect();
    }

    /// <summary>Chooses what is logged from now on; nothing closes the log.</summary>
    public void SetItems(LogItems items, IReadOnlyList<TraceSwitch> traces)
    {
        Switch(traces);
        MachineLog.Enabled = items;
        if (items == LogItems.None && traces.Count == 0)
        {
            Disconnect();
        }
        else if (_sink is null)
        {
            Connect();
        }
    }

    /// <summary>Sends the log to another file from now on.</summary>
    /// <exception cref="QapiException">It cannot be opened or its name has more in it than one %d; the log stays where it is.</exception>
    public void SetFile(string template)
    {
        _path = CreateFile(template);
        if (_sink is not null)
        {
            Disconnect();
            Connect();
        }
    }

    /// <summary>Writes out what is buffered and closes the log.</summary>
    public void Dispose()
    {
        MachineLog.Enabled = LogItems.None;
        Disconnect();
    }

    private static string CreateFile(string template)
    {
        string path = ExpandPath(template);

        // Whatever happens to the log later: from now on there is an empty, writable file.
        OpenFile(path, Libc.O_TRUNC).Dispose();
        return path;
    }

    private static SafeFd OpenFile(string path, int flags)
    {
        Errno errno = Libc.Open(path, Libc.O_WRONLY | Libc.O_CREAT | flags | Libc.O_CLOEXEC, Mode, out SafeFd file);
        return errno == Errno.OK ? file : throw new QapiException($"Error opening logfile {path}: {errno.Message()}");
    }

    private void Switch(IReadOnlyList<TraceSwitch> switches)
    {
        foreach (TraceSwitch trace in switches)
        {
            if (!_traces.Switch(trace.Pattern, trace.Enable))
            {
                _reporter.Report(DiagnosticKind.Warning, trace.Location, $"trace event '{trace.Pattern}' does not exist");
            }
        }
    }

    private void Connect()
    {
        _sink = CreateSink(_path, _timestamps);
        MachineLog.Sink = _sink;
    }

    private void Disconnect()
    {
        MachineLog.Sink = null;
        _sink?.Dispose();
        _sink = null;
    }

    /// <summary>Puts the process id in the place of %d.</summary>
    /// <exception cref="QapiException">The name has another % in it.</exception>
    public static string ExpandPath(string template)
    {
        int percent = template.IndexOf('%');
        if (percent < 0)
        {
            return template;
        }

        if (template.IndexOf('%', percent + 1) >= 0 || percent + 1 >= template.Length || template[percent + 1] != 'd')
        {
            throw new QapiException($"Bad logfile template: {template}");
        }

        return string.Concat(template.AsSpan(0, percent), Libc.GetPid().ToString(), template.AsSpan(percent + 2));
    }

    private static SerilogSink CreateSink(string? path, bool timestamps)
    {
        ILogEventSink sink = path is null ? new StandardErrorSink() : new FileSink(OpenFile(path, Libc.O_APPEND));
        Logger logger = new LoggerConfiguration().MinimumLevel.Verbose().WriteTo.Sink(sink).CreateLogger();
        return new SerilogSink(logger, timestamps);
    }

    private static string LineOf(LogEvent logEvent) => logEvent.Properties["Line"] is ScalarValue { Value: string line } ? line : "";

    private sealed class StandardErrorSink : ILogEventSink
    {
        public void Emit(LogEvent logEvent) => StdIo.Error.WriteLine(LineOf(logEvent));
    }

    // The library's own sink for files can roll them over, and brings so much with it for that purpose that every process would feel it. A line
    // is one system call that appends: threads need no order, and nothing is lost when the process is killed.
    private sealed class FileSink(SafeFd file) : ILogEventSink, IDisposable
    {
        public void Emit(LogEvent logEvent) => _ = Libc.WriteAll(file.Fd, Encoding.UTF8.GetBytes(LineOf(logEvent) + "\n"));

        public void Dispose() => file.Dispose();
    }

    private sealed class SerilogSink(Logger logger, bool timestamps) : ILogSink, IDisposable
    {
        public void Write(LogItems item, string message) => logger.Information("{Line:l}", message);

        public void WriteTrace(string name, string arguments)
        {
            string stamp = "";
            if (timestamps)
            {
                long microseconds = Libc.ClockNs(Libc.CLOCK_REALTIME) / 1000;
                stamp = $"{Libc.GetPid()}@{microseconds / 1_000_000}.{microseconds % 1_000_000:d6}:";
            }

            logger.Verbose("{Line:l}", $"{stamp}{name} {arguments}");
        }

        public void Dispose() => logger.Dispose();
    }
}
