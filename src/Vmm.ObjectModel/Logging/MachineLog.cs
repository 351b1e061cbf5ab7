using System.Runtime.CompilerServices;

namespace Vmm.ObjectModel.Logging;

/// <summary>What can be logged; the names are those of -d and of the HMP command log.</summary>
[Flags]
public enum LogItems
{
    /// <summary>Nothing.</summary>
    None = 0,

    /// <summary>int: interrupts and exceptions.</summary>
    Interrupts = 1,

    /// <summary>unimp: unimplemented things that a guest uses.</summary>
    Unimplemented = 2,

    /// <summary>guest_errors: invalid things that a guest does.</summary>
    GuestErrors = 4,

    /// <summary>cpu_reset: state of CPUs before they are reset.</summary>
    CpuReset = 8,

    /// <summary>All of them.</summary>
    All = Interrupts | Unimplemented | GuestErrors | CpuReset,
}

/// <summary>Where log lines go. Called on any thread.</summary>
public interface ILogSink
{
    /// <summary>Writes a line.</summary>
    /// <param name="item">What kind of message it is.</param>
    /// <param name="message">One line without line feed.</param>
    void Write(LogItems item, string message);

    /// <summary>Writes a trace event.</summary>
    /// <param name="name">Name of the event.</param>
    /// <param name="arguments">Its arguments as text.</param>
    void WriteTrace(string name, string arguments);
}

/// <summary>
/// The log of the machine. Off unless asked for, and then bounded: what a guest can cause is limited to a number of lines a second. Any thread.
/// The message of a disabled item is not even put together: write <c>MachineLog.Write(LogItems.GuestErrors, $"...")</c>.
/// </summary>
public static class MachineLog
{
    private const int LinesPerSecond = 200;

    private static readonly Lock s_gate = new();
    private static volatile int s_enabled;
    private static volatile ILogSink? s_sink;
    private static long s_windowMs;
    private static int s_lines;
    private static int s_dropped;

    /// <summary>What is logged at present.</summary>
    public static LogItems Enabled
    {
        get => (LogItems)s_enabled;
        set => s_enabled = (int)value;
    }

    /// <summary>Where lines go; null drops them.</summary>
    public static ILogSink? Sink
    {
        get => s_sink;
        set
        {
            lock (s_gate)
            {
                s_sink = value;
                s_lines = 0;
                s_dropped = 0;
            }
        }
    }

    /// <summary>Whether an item is logged.</summary>
    public static bool IsEnabled(LogItems item) => (s_enabled & (int)item) != 0 && s_sink != null;

    /// <summary>Logs a message that is put together only when the item is logged.</summary>
    public static void Write(LogItems item, [InterpolatedStringHandlerArgument(nameof(item))] LogMessage message)
    {
        if (message.IsEnabled)
        {
            WriteLimited(item, message.ToStringAndClear());
        }
    }

    /// <summary>Logs a fixed message.</summary>
    public static void Write(LogItems item, string message)
    {
        if (IsEnabled(item))
        {
            WriteLimited(item, message);
        }
    }

    private static void WriteLimited(LogItems item, string message)
    {
        if (s_sink is not { } sink)
        {
            return;
        }

        int dropped;
        lock (s_gate)
        {
            long now = Environment.TickCount64;
            if (now - s_windowMs >= 1000)
            {
                s_windowMs = now;
                s_lines = 0;
            }

            if (++s_lines > LinesPerSecond)
            {
                s_dropped++;
                return;
            }

            dropped = s_dropped;
            s_dropped = 0;
        }

        if (dropped > 0)
        {
            sink.Write(item, $"{dropped} messages suppressed");
        }

        sink.Write(item, message);
    }
}

/// <summary>An interpolated log message; its parts are evaluated only when the item is logged.</summary>
[InterpolatedStringHandler]
public ref struct LogMessage
{
    private DefaultInterpolatedStringHandler _text;

    /// <summary>Starts a message. Called by the compiler.</summary>
    public LogMessage(int literalLength, int formattedCount, LogItems item, out bool isEnabled)
    {
        isEnabled = MachineLog.IsEnabled(item);
        IsEnabled = isEnabled;
        _text = isEnabled ? new DefaultInterpolatedStringHandler(literalLength, formattedCount) : default;
    }

    /// <summary>Whether the item is logged.</summary>
    public bool IsEnabled { get; }

    /// <summary>Adds text. Called by the compiler.</summary>
    public void AppendLiteral(string value) => _text.AppendLiteral(value);

    /// <summary>Adds a value. Called by the compiler.</summary>
    public void AppendFormatted<T>(T value) => _text.AppendFormatted(value);

    /// <summary>Adds a value in a format. Called by the compiler.</summary>
    public void AppendFormatted<T>(T value, string? format) => _text.AppendFormatted(value, format);

    internal string ToStringAndClear() => _text.ToStringAndClear();
}
