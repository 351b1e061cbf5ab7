using Serilog;
using Serilog.Core;
using Serilog.Events;
using Vmm.Interop;
using Vmm.ObjectModel.Logging;
using Vmm.Qapi;
using Vmm.System.CommandLine;

namespace Vmm.System.Logging;

/// <summary>Opens the log that -D, -d and -trace ask for. Nothing of the logging library is touched when they ask for nothing.</summary>
public static class LogSetup
{
    private const uint Mode = 0x1B6;

    /// <summary>Opens the log and switches items and trace events on.</summary>
    /// <param name="configuration">The whole configuration.</param>
    /// <param name="traces">All trace events.</param>
    /// <param name="reporter">Takes warnings about events that do not exist.</param>
    /// <returns>The log; null when there is none. Disposing it writes out what is buffered.</returns>
    /// <exception cref="QapiException">The file cannot be opened or its name has more in it than one %d.</exception>
    public static IDisposable? Open(VmConfiguration configuration, TraceEventRegistry traces, ErrorReporter reporter)
    {
        LogConfiguration log = configuration.Log;
        if (!log.IsActive)
        {
            return null;
        }

        string? path = log.File == null ? null : ExpandPath(log.File);
        if (path != null)
        {
            // The sink appends and reports failures in its own words: make sure of an empty, writable file first.
            Errno errno = Libc.Open(path, Libc.O_WRONLY | Libc.O_CREAT | Libc.O_TRUNC | Libc.O_CLOEXEC, Mode, out SafeFd file);
            file.Dispose();
            if (errno != Errno.OK)
            {
                throw new QapiException($"Error opening logfile {path}: {errno.Message()}");
            }
        }

        foreach (TraceSwitch trace in log.Traces)
        {
            if (!traces.Switch(trace.Pattern, trace.Enable))
            {
                reporter.Report(DiagnosticKind.Warning, trace.Location, $"trace event '{trace.Pattern}' does not exist");
            }
        }

        SerilogSink sink = CreateSink(path, configuration.Messages.Timestamp);
        MachineLog.Sink = sink;
        MachineLog.Enabled = log.Items;
        return sink;
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
        const string Template = "{Message:lj}{NewLine}";
        LoggerConfiguration configuration = new LoggerConfiguration().MinimumLevel.Verbose();
        Logger logger = path == null
            ? configuration.WriteTo.Sink(new StandardErrorSink()).CreateLogger()
            : configuration.WriteTo.File(path, outputTemplate: Template, fileSizeLimitBytes: null, shared: false).CreateLogger();
        return new SerilogSink(logger, timestamps);
    }

    private sealed class StandardErrorSink : ILogEventSink
    {
        public void Emit(LogEvent logEvent) => StdIo.Error.WriteLine(logEvent.Properties["Line"] is ScalarValue { Value: string line } ? line : "");
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

        public void Dispose()
        {
            MachineLog.Enabled = LogItems.None;
            MachineLog.Sink = null;
            logger.Dispose();
        }
    }
}
