using System.Text;

namespace Vmm.Monitor;

/// <summary>
/// Edits one line at a time on a VT100 terminal: cursor keys, ^A ^D ^E ^L ^W, history, completion. Fed byte by byte with what the terminal
/// sends; what it shows is written through <paramref name="print"/>.
/// </summary>
/// <param name="prompt">Shown before each line.</param>
/// <param name="print">Writes to the terminal; '\n' becomes its line end.</param>
/// <param name="complete">Gives the completions of the text before the cursor and how much of them is there already.</param>
internal sealed class LineEditor(string prompt, Action<ReadOnlySpan<byte>> print, LineEditor.Completer complete)
{
    /// <summary>Longest line in bytes; what is typed beyond is ignored.</summary>
    public const int MaxLength = 4095;

    /// <summary>Number of lines that the history keeps.</summary>
    public const int MaxHistory = 64;

    private const int TerminalWidth = 80;

    private readonly byte[] _line = new byte[MaxLength];
    private readonly List<byte[]> _history = [];
    private byte[] _shown = [];
    private int _length;
    private int _cursor;
    private int _shownCursor;
    private int _historyEntry = -1;
    private int _escapeParameter;
    private Escape _escape;

    /// <summary>Gives the completions of a line up to the cursor.</summary>
    public delegate List<string> Completer(string line, out int typed);

    private enum Escape : byte
    {
        None,
        Started,
        Csi,
        Ss3,
    }

    /// <summary>The lines entered, oldest first.</summary>
    public IEnumerable<string> History => _history.Select(Encoding.UTF8.GetString);

    /// <summary>Starts an empty line.</summary>
    public void Restart()
    {
        _length = 0;
        _cursor = 0;
    }

    /// <summary>Shows the prompt; the line typed so far is forgotten by the screen.</summary>
    public void ShowPrompt()
    {
        PrintText(prompt);
        _shown = [];
        _shownCursor = 0;
        _historyEntry = -1;
        _escape = Escape.None;
    }

    /// <summary>Takes a byte.</summary>
    /// <returns>The line when the byte ends it, else null.</returns>
    public string? Handle(byte c)
    {
        string? entered = null;
        switch (_escape)
        {
            case Escape.None:
                entered = HandlePlain(c);
                break;
            case Escape.Started:
                _escape = c == '[' ? Escape.Csi : c == 'O' ? Escape.Ss3 : Escape.None;
                _escapeParameter = 0;
                break;
            case Escape.Csi:
                HandleCsi(c);
                break;
            default:
                HandleSs3(c);
                break;
        }

        if (entered == null)
        {
            Update();
        }

        return entered;
    }

    private string? HandlePlain(byte c)
    {
        switch (c)
        {
            case 1:
                _cursor = 0;
                break;
            case 4:
                DeleteChar();
                break;
            case 5:
                _cursor = _length;
                break;
            case 8 or 127:
                Backspace();
                break;
            case 9:
                CompleteLine();
                break;
            case 10 or 13:
                byte[] line = _line[.._length];
                Remember(line);
                PrintText("\n");
                Restart();
                _shown = [];
                _shownCursor = 0;
                return Encoding.UTF8.GetString(line);
            case 12:
                PrintText("\e[2J\e[1;1H");
                ShowPrompt();
                break;
            case 23:
                DeleteWord();
                break;
            case 27:
                _escape = Escape.Started;
                break;
            case >= 32:
                Insert(c);
                break;
        }

        return null;
    }

    private void HandleCsi(byte c)
    {
        switch (c)
        {
            case >= (byte)'0' and <= (byte)'9':
                _escapeParameter = Math.Min(999, (_escapeParameter * 10) + (c - '0'));
                return;
            case (byte)'A':
                HistoryUp();
                break;
            case (byte)'B':
                HistoryDown();
                break;
            case (byte)'C':
                _cursor = Math.Min(_length, _cursor + 1);
                break;
            case (byte)'D':
                _cursor = Math.Max(0, _cursor - 1);
                break;
            case (byte)'F':
                _cursor = _length;
                break;
            case (byte)'H':
                _cursor = 0;
                break;
            case (byte)'~' when _escapeParameter == 1:
                _cursor = 0;
                break;
            case (byte)'~' when _escapeParameter == 3:
                DeleteChar();
                break;
            case (byte)'~' when _escapeParameter == 4:
                _cursor = _length;
                break;
        }

        _escape = Escape.None;
    }

    private void HandleSs3(byte c)
    {
        if (c == 'F')
        {
            _cursor = _length;
        }
        else if (c == 'H')
        {
            _cursor = 0;
        }

        _escape = Escape.None;
    }

    private void Insert(byte c)
    {
        if (_length < MaxLength)
        {
            Array.Copy(_line, _cursor, _line, _cursor + 1, _length - _cursor);
            _line[_cursor++] = c;
            _length++;
        }
    }

    private void DeleteChar()
    {
        if (_cursor < _length)
        {
            Array.Copy(_line, _cursor + 1, _line, _cursor, _length - _cursor - 1);
            _length--;
        }
    }

    private void Backspace()
    {
        if (_cursor > 0)
        {
            _cursor--;
            DeleteChar();
        }
    }

    private void DeleteWord()
    {
        int start = _cursor;
        while (start > 0 && _line[start - 1] == ' ')
        {
            start--;
        }

        while (start > 0 && _line[start - 1] != ' ')
        {
            start--;
        }

        Array.Copy(_line, _cursor, _line, start, _length - _cursor);
        _length -= _cursor - start;
        _cursor = start;
    }

    private void Remember(byte[] line)
    {
        if (line.Length == 0)
        {
            return;
        }

        _history.RemoveAll(old => old.AsSpan().SequenceEqual(line));
        if (_history.Count == MaxHistory)
        {
            _history.RemoveAt(0);
        }

        _history.Add(line);
        _historyEntry = -1;
    }

    private void HistoryUp()
    {
        int entry = _historyEntry < 0 ? _history.Count : _historyEntry;
        if (entry > 0)
        {
            _historyEntry = entry - 1;
            Load(_history[_historyEntry]);
        }
    }

    private void HistoryDown()
    {
        if (_historyEntry < 0)
        {
            return;
        }

        if (++_historyEntry < _history.Count)
        {
            Load(_history[_historyEntry]);
        }
        else
        {
            _historyEntry = -1;
            Restart();
        }
    }

    private void Load(byte[] line)
    {
        line.CopyTo(_line, 0);
        _length = line.Length;
        _cursor = line.Length;
    }

    private void CompleteLine()
    {
        List<string> names = complete(Encoding.UTF8.GetString(_line, 0, _cursor), out int typed);
        if (names.Count == 0)
        {
            return;
        }

        string common = names[0];
        int widest = 0;
        foreach (string name in names)
        {
            widest = Math.Max(widest, name.Length);
            int same = common.AsSpan().CommonPrefixLength(name);
            common = common[..same];
        }

        for (int i = typed; i < common.Length; i++)
        {
            Insert((byte)common[i]);
        }

        if (names.Count == 1)
        {
            Insert((byte)' ');
            return;
        }

        int width = Math.Clamp(widest + 2, 10, TerminalWidth);
        int columns = TerminalWidth / width;
        var table = new StringBuilder("\n");
        for (int i = 0; i < names.Count; i++)
        {
            table.Append(names[i].PadRight(width));
            if ((i + 1) % columns == 0 || i == names.Count - 1)
            {
                table.Append('\n');
            }
        }

        PrintText(table.ToString());
        ShowPrompt();
    }

    private void Update()
    {
        ReadOnlySpan<byte> line = _line.AsSpan(0, _length);
        if (!line.SequenceEqual(_shown))
        {
            Repeat("\e[D", _shownCursor);
            print(line);
            PrintText("\e[K");
            _shown = line.ToArray();
            _shownCursor = _length;
        }

        Repeat(_cursor > _shownCursor ? "\e[C" : "\e[D", Math.Abs(_cursor - _shownCursor));
        _shownCursor = _cursor;
    }

    private void Repeat(string text, int count)
    {
        for (int i = 0; i < count; i++)
        {
            PrintText(text);
        }
    }

    private void PrintText(string text)
    {
        Span<byte> bytes = text.Length <= 256 ? stackalloc byte[256] : new byte[text.Length];
        print(bytes[..Encoding.ASCII.GetBytes(text, bytes)]);
    }
}
