namespace Vmm.Qapi.Options;

/// <summary>How the text of a parameter is read.</summary>
public enum OptionType
{
    /// <summary>Any text.</summary>
    String,

    /// <summary>on, yes, true, y or off, no, false, n.</summary>
    Boolean,

    /// <summary>An unsigned 64-bit number in C notation.</summary>
    Number,

    /// <summary>A number of bytes with an optional binary suffix.</summary>
    Size,
}

/// <summary>One parameter of an option group, as query-command-line-options shows it.</summary>
/// <param name="Name">Name before the equals sign.</param>
/// <param name="Type">How its value is read.</param>
/// <param name="Help">One line for the user, or null.</param>
/// <param name="Default">Text of the default where the group itself defines one, else null.</param>
public sealed record OptionDescriptor(string Name, OptionType Type, string? Help = null, string? Default = null);

/// <summary>
/// What options of one kind look like: the group name that -set and -readconfig use, the key a leading bare value stands for, and the known
/// parameters. A group without parameters takes any name and leaves judging them to whoever consumes the options.
/// </summary>
public sealed class OptionGroup
{
    private readonly OptionDescriptor[] _parameters;

    /// <summary>Describes a group.</summary>
    /// <param name="name">Group name.</param>
    /// <param name="impliedKey">Key of a leading bare value, or null when there is none.</param>
    /// <param name="mergeLists">Whether repeated options accumulate in one set (and therefore take no id).</param>
    /// <param name="parameters">Known parameters; none means any.</param>
    public OptionGroup(string name, string? impliedKey, bool mergeLists, params OptionDescriptor[] parameters)
    {
        Name = name;
        ImpliedKey = impliedKey;
        MergeLists = mergeLists;
        _parameters = parameters;
    }

    /// <summary>Group name.</summary>
    public string Name { get; }

    /// <summary>Key that a leading bare value stands for.</summary>
    public string? ImpliedKey { get; }

    /// <summary>Whether repeated options accumulate in one set.</summary>
    public bool MergeLists { get; }

    /// <summary>Known parameters in declaration order.</summary>
    public ReadOnlySpan<OptionDescriptor> Parameters => _parameters;

    /// <summary>Whether the group takes parameters of any name.</summary>
    public bool AcceptsAny => _parameters.Length == 0;

    /// <summary>The descriptor of a parameter, or null.</summary>
    public OptionDescriptor? Find(string name)
    {
        foreach (OptionDescriptor parameter in _parameters)
        {
            if (parameter.Name == name)
            {
                return parameter;
            }
        }

        return null;
    }

    /// <summary>The lines that a help value prints: the parameters by name with the kind of value they take.</summary>
    /// <param name="caption">Whether a caption with the group name comes first.</param>
    public string FormatHelp(bool caption = true)
    {
        var lines = new List<string>(_parameters.Length);
        foreach (OptionDescriptor parameter in _parameters)
        {
            string value = parameter.Type switch
            {
                OptionType.Boolean => "<bool (on/off)>",
                OptionType.Number => "<num>",
                OptionType.Size => "<size>",
                _ => "<str>",
            };
            string line = $"{(caption ? "  " : "")}{parameter.Name}={value}";
            if (parameter.Help != null)
            {
                line = $"{line,-24} - {parameter.Help}";
            }

            if (parameter.Default != null)
            {
                line = $"{line,-24} (default: {parameter.Default})";
            }

            lines.Add(line);
        }

        lines.Sort(string.CompareOrdinal);
        string text = string.Join('\n', lines) + "\n";
        if (lines.Count == 0)
        {
            return $"There are no options for {Name} yet.\n";
        }

        return caption ? $"{Name} options:\n{text}" : text;
    }
}
