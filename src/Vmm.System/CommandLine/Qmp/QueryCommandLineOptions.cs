using Vmm.Qapi;
using Vmm.Qapi.Options;

namespace Vmm.System.CommandLine.Qmp;

/// <summary>How the text of a command line parameter is read.</summary>
[QapiEnum]
public enum CommandLineParameterType
{
    /// <summary>Any text.</summary>
    String,

    /// <summary>on or off.</summary>
    Boolean,

    /// <summary>An unsigned number.</summary>
    Number,

    /// <summary>A number of bytes with an optional suffix.</summary>
    Size,
}

/// <summary>One parameter of a command line option.</summary>
[QapiStruct]
public sealed partial record CommandLineParameterInfo
{
    /// <summary>Name.</summary>
    public required string Name { get; init; }

    /// <summary>How its text is read.</summary>
    public required CommandLineParameterType Type { get; init; }

    /// <summary>What it is for.</summary>
    public string? Help { get; init; }

    /// <summary>Text of the default.</summary>
    public string? Default { get; init; }
}

/// <summary>One command line option that takes parameters.</summary>
[QapiStruct]
public sealed partial record CommandLineOptionInfo
{
    /// <summary>Name of the option's group.</summary>
    public required string Option { get; init; }

    /// <summary>Its parameters; none when it takes any.</summary>
    public required IReadOnlyList<CommandLineParameterInfo> Parameters { get; init; }
}

/// <summary>query-command-line-options, from the table that the command line itself is read with.</summary>
public static class CommandLineOptionCommands
{
    /// <summary>Lists the command line options with their parameters.</summary>
    /// <param name="option">Name of one group, or null for all.</param>
    /// <exception cref="QapiException">There is no such group.</exception>
    [QmpCommand("query-command-line-options", ArgsType = "option:s?", AllowPreconfig = true, Since = "1.5")]
    public static IReadOnlyList<CommandLineOptionInfo> Query(string? option = null)
    {
        var options = new List<CommandLineOptionInfo>();
        foreach (string name in OptionGroups.Names)
        {
            if (option == null || option == name)
            {
                options.Add(Describe(OptionGroups.Create(name)!));
            }
        }

        return options.Count > 0 ? options : throw new QapiException($"invalid option name: {option}");
    }

    private static CommandLineOptionInfo Describe(OptionGroup group)
    {
        ReadOnlySpan<OptionDescriptor> descriptors = group.Name switch
        {
            "machine" => OptionGroups.MachineParameters(),
            "drive" => OptionGroups.DriveParameters(),
            _ => group.Parameters,
        };
        var parameters = new CommandLineParameterInfo[descriptors.Length];
        for (int i = 0; i < descriptors.Length; i++)
        {
            OptionDescriptor descriptor = descriptors[i];
            parameters[descriptors.Length - 1 - i] = new CommandLineParameterInfo
            {
                Name = descriptor.Name,
                Type = (CommandLineParameterType)descriptor.Type,
                Help = descriptor.Help,
                Default = descriptor.Default,
            };
        }

        return new CommandLineOptionInfo { Option = group.Name, Parameters = parameters };
    }
}
