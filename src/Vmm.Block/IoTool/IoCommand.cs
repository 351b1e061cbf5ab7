using Vmm.Block.Graph;

namespace Vmm.Block.IoTool;

/// <summary>A command of qemu-io as its table has it.</summary>
/// <param name="Name">Its name.</param>
/// <param name="MinArguments">Fewest arguments.</param>
/// <param name="MaxArguments">Most; -1 for any number.</param>
/// <param name="Permissions">What it does with the medium.</param>
/// <param name="Flags">Options without value, as letters.</param>
/// <param name="Values">Options with a value.</param>
/// <param name="Usage">Arguments as help shows them; null for none.</param>
/// <param name="Help">One line.</param>
internal sealed record IoCommand(
    string Name, int MinArguments, int MaxArguments, BlockPermissions Permissions, string Flags, string Values, string? Usage, string Help)
{
    private const BlockPermissions Read = BlockPermissions.None;
    private const BlockPermissions Write = BlockPermissions.Write;

    /// <summary>The commands by name.</summary>
    internal static readonly IoCommand[] All =
    [
        new("abort", 0, 0, Read, "", "", null, "simulate a program crash using abort(3)"),
        new("aio_flush", 0, 0, Read, "", "", null, "completes all outstanding aio requests"),
        new("aio_read", 2, -1, Read, "Ciqv", "P", "[-Ciqv] [-P pattern] off len [len..]", "asynchronously reads a number of bytes"),
        new("aio_write", 2, -1, Write, "Cfiquz", "P", "[-Cfiquz] [-P pattern] off len [len..]", "asynchronously writes a number of bytes"),
        new("alloc", 1, 2, Read, "", "", "offset [count]", "checks if offset is allocated in the file"),
        new("break", 2, 2, Read, "", "", "event tag", "sets a breakpoint on event and tags the stopped request as tag"),
        new("discard", 2, -1, Write, "Cq", "", "[-Cq] off len", "discards a number of bytes at a specified offset"),
        new("flush", 0, 0, Read, "", "", null, "flush all in-core file state to disk"),
        new("help", 0, 1, Read, "", "", "[command]", "help for one or all commands"),
        new("info", 0, 0, Read, "", "", null, "prints information about the current file"),
        new("length", 0, 0, Read, "", "", null, "gets the length of the current file"),
        new("map", 0, 0, Read, "", "", "", "prints the allocated areas of a file"),
        new("read", 2, -1, Read, "Cpqv", "Pls", "[-Cqv] [-P pattern [-s off] [-l len]] off len", "reads a number of bytes at a specified offset"),
        new("readv", 2, -1, Read, "Cqv", "P", "[-Cqv] [-P pattern] off len [len..]", "reads a number of bytes at a specified offset"),
        new("remove_break", 1, 1, Read, "", "", "tag", "remove a breakpoint by tag"),
        new("reopen", 0, -1, Read, "rw", "co", "[(-r|-w)] [-c cache] [-o options]", "reopens an image with new options"),
        new("resume", 1, 1, Read, "", "", "tag", "resumes the request tagged as tag"),
        new("sigraise", 1, 1, Read, "", "", "signal", "raises a signal"),
        new("sleep", 1, 1, Read, "", "", null, "waits for the given value in milliseconds"),
        new("truncate", 1, 3, Write | BlockPermissions.Resize, "", "m", "[-m prealloc_mode] off", "truncates the current file at the given offset"),
        new("wait_break", 1, 1, Read, "", "", "tag", "waits for the suspension of a request"),
        new("write", 2, -1, Write, "cCfnpquz", "Ps", "[-cCfnquz] [-P pattern | -s source_file] off len", "writes a number of bytes at a specified offset"),
        new("writev", 2, -1, Write, "Cfq", "P", "[-Cfq] [-P pattern] off len [len..]", "writes a number of bytes at a specified offset"),
    ];

    /// <summary>The line that help shows.</summary>
    internal string Line => Usage is null ? $"{Name} -- {Help}" : $"{Name} {Usage} -- {Help}";

    /// <summary>What is wrong with a number of arguments; null when nothing is.</summary>
    internal string? CheckCount(int count)
    {
        if (count >= MinArguments && (MaxArguments < 0 || count <= MaxArguments))
        {
            return null;
        }

        string expected = MaxArguments < 0 ? $"at least {MinArguments}" : MinArguments == MaxArguments ? $"{MinArguments}" : $"between {MinArguments} and {MaxArguments}";
        return $"bad argument count {count} to {Name}, expected {expected} arguments";
    }
}

/// <summary>A line that cannot be carried out; its text is all that the operator sees.</summary>
/// <param name="message">What is said of it; empty for nothing.</param>
/// <param name="complaint">What is said before, as an error; null for nothing.</param>
internal sealed class IoUsageException(string message, string? complaint = null) : Exception(message)
{
    /// <summary>What is said before, as an error; null for nothing.</summary>
    internal string? Complaint { get; } = complaint;
}

/// <summary>The words of a line, options apart from arguments. Pure.</summary>
internal sealed class IoArguments
{
    private readonly Dictionary<char, string> _options = [];

    /// <summary>Takes options out of words.</summary>
    internal IoArguments(IoCommand command, ReadOnlySpan<string> words)
    {
        bool hasOptions = command.Flags.Length + command.Values.Length > 0;
        for (int i = 0; i < words.Length; i++)
        {
            string word = words[i];
            if (!hasOptions || word.Length < 2 || word[0] != '-')
            {
                Words.Add(word);
                continue;
            }

            for (int at = 1; at < word.Length; at++)
            {
                char letter = word[at];
                if (command.Values.Contains(letter))
                {
                    string rest = word[(at + 1)..];
                    _options[letter] = rest.Length > 0 ? rest : ++i < words.Length ? words[i] : throw Wrong(command, "option requires an argument", letter);
                    break;
                }

                _options[letter] = command.Flags.Contains(letter) ? "" : throw Wrong(command, "invalid option", letter);
            }
        }
    }

    /// <summary>What is no option.</summary>
    internal List<string> Words { get; } = [];

    /// <summary>An option is there.</summary>
    internal bool Has(char letter) => _options.ContainsKey(letter);

    /// <summary>The value of an option.</summary>
    internal string Value(char letter) => _options[letter];

    private static IoUsageException Wrong(IoCommand command, string what, char letter) =>
        new(command.Line, $"{command.Name}: {what} -- '{letter}'\n");

    /// <summary>The byte of -P; null without it.</summary>
    internal byte? Pattern => Has('P') ? IoText.ParsePattern(Value('P')) : null;
}
