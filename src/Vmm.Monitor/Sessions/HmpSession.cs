using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;
using System.Text;
using Vmm.Qapi;

namespace Vmm.Monitor;

/// <summary>
/// A human monitor on a terminal: banner, prompt, line editing, one command at a time. Input that arrives while a command runs waits; a
/// terminal that does not take its output is not served further commands. Home: the main loop.
/// </summary>
public sealed class HmpSession : MonitorSession
{
    /// <summary>Unread output in bytes beyond which no input is taken.</summary>
    public const int OutputLimit = 256 * 1024;

    private readonly LineEditor _editor;
    private readonly TerminalContext _context;
    private readonly Queue<byte> _held = new();
    private bool _focused = true;
    private bool _running;
    private bool _consuming;
    private bool _greeted;

    internal HmpSession(MonitorCore core, IMonitorChannel channel, string? name)
        : base(core, channel, name)
    {
        _context = new TerminalContext(this);
        _editor = new LineEditor("(qemu) ", Print, core.Dispatcher.Complete);
    }

    /// <inheritdoc/>
    public override bool IsHmp => true;

    /// <inheritdoc/>
    public override int CanReceive => _running || _held.Count > 0 || Output.Pending > OutputLimit ? 0 : ReceiveLimit;

    /// <summary>The lines entered, oldest first.</summary>
    public IEnumerable<string> History => _editor.History;

    /// <inheritdoc/>
    public override SafeHandle? TakeReceivedFd() => Channel.TakeReceivedFd();

    /// <inheritdoc/>
    public override void Receive(ReadOnlySpan<byte> data)
    {
        foreach (byte b in data)
        {
            _held.Enqueue(b);
        }

        Consume();
    }

    /// <inheritdoc/>
    public override void OnFocus(bool focused)
    {
        if (focused == _focused)
        {
            return;
        }

        _focused = focused;
        if (!_greeted)
        {
            return;
        }

        if (focused)
        {
            _editor.Restart();
            if (!_running)
            {
                _editor.ShowPrompt();
            }
        }
        else
        {
            Print("\n"u8);
        }

        Flush();
    }

    private protected override void Opened()
    {
        Print(Encoding.UTF8.GetBytes($"QEMU {Core.Version.Number} monitor - type 'help' for more information\n"));
        if (_focused)
        {
            _editor.Restart();
            _editor.ShowPrompt();
        }

        _greeted = true;
        Flush();
    }

    private protected override void Closed()
    {
        _held.Clear();
        _greeted = false;
    }

    private protected override void Drained() => Consume();

    private void Consume()
    {
        if (_consuming)
        {
            return;
        }

        _consuming = true;
        while (!_running && !Core.IsEnding && Output.Pending <= OutputLimit && _held.TryDequeue(out byte b))
        {
            if (_editor.Handle(b) is { } line)
            {
                Run(line);
            }
        }

        _consuming = false;
        Flush();
        if (CanReceive > 0 && IsOpen)
        {
            Channel.ResumeInput();
        }
    }

    private void Run(string line)
    {
        _running = true;
        ValueTask command = Core.Dispatcher.Execute(_context, line);
        if (command.IsCompletedSuccessfully)
        {
            EndCommand();
        }
        else
        {
            _ = Finish(command);
        }
    }

    private async Task Finish(ValueTask command)
    {
        try
        {
            await command.ConfigureAwait(true);
            await Core.Loop.SwitchTo();
            EndCommand();
            Consume();
        }
        catch (Exception bug)
        {
            // An escaped exception of a callback ends the process; here it would be lost in the task.
            Core.Loop.Post(() => ExceptionDispatchInfo.Throw(bug));
        }
    }

    private void EndCommand()
    {
        _running = false;
        if (_focused && IsOpen)
        {
            _editor.ShowPrompt();
        }
    }

    private void Print(ReadOnlySpan<byte> text)
    {
        while (text.IndexOf((byte)'\n') is >= 0 and int end)
        {
            Output.Append(text[..end]);
            Output.Append("\r\n"u8);
            text = text[(end + 1)..];
        }

        Output.Append(text);
    }

    private void PrintText(ReadOnlySpan<char> text)
    {
        int max = Encoding.UTF8.GetMaxByteCount(text.Length);
        Span<byte> bytes = max <= 512 ? stackalloc byte[512] : new byte[max];
        Print(bytes[..Encoding.UTF8.GetBytes(text, bytes)]);
        if (!_consuming)
        {
            Flush();
        }
    }

    private sealed class TerminalContext(HmpSession session) : HmpContext
    {
        public override IMonitorSession Session => session;

        public override void Print(ReadOnlySpan<char> text) => session.PrintText(text);
    }
}
