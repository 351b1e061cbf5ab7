using System.Text;

namespace Vmm.Qapi.Options;

/// <summary>
/// Reads "value,name=value,flag,noflag": flat options in which a doubled comma stands for one, a leading bare value belongs to the group's
/// implied key, and a bare name is a (deprecated) boolean. Pure functions that throw nothing but <see cref="QapiException"/>.
/// </summary>
public static class OptsParser
{
    /// <summary>Reads an option's text into a set of its group.</summary>
    /// <param name="list">Where the set is found or added; unchanged when reading fails.</param>
    /// <param name="text">The option's argument.</param>
    /// <param name="implied">Whether a leading bare value belongs to the implied key.</param>
    /// <param name="location">Where the option was given, for later messages.</param>
    /// <param name="diagnostics">Takes the warnings about deprecated short forms.</param>
    /// <returns>The set, or null when the text asks for help. In a group that takes any parameter, help is a parameter like others.</returns>
    /// <exception cref="QapiException">The text is not valid for the group.</exception>
    public static QemuOpts? Parse(OptsList list, string text, bool implied, string? location, IOptionDiagnostics diagnostics)
    {
        string? impliedKey = implied ? list.Group.ImpliedKey : null;
        string? id = FindId(text, impliedKey);
        int before = list.Items.Count;
        QemuOpts opts = list.Create(id, location);
        try
        {
            if (!ParseInto(opts, text, impliedKey, diagnostics))
            {
                return opts;
            }
        }
        catch (QapiException)
        {
            if (list.Items.Count > before)
            {
                list.Remove(opts);
            }

            throw;
        }

        if (list.Items.Count > before)
        {
            list.Remove(opts);
        }

        return null;
    }

    /// <summary>Reads an option's text into an existing set. An id in the text is skipped.</summary>
    /// <returns>True when the text asks for help; reading stopped there.</returns>
    /// <exception cref="QapiException">The text is not valid for the group; options before the error have been added.</exception>
    public static bool ParseInto(QemuOpts opts, string text, string? impliedKey, IOptionDiagnostics diagnostics)
    {
        int position = 0;
        bool first = true;
        while (position < text.Length)
        {
            ReadOption(text, ref position, first ? impliedKey : null, diagnostics, out string name, out string value, out bool help);
            first = false;
            if (help && !opts.Group.AcceptsAny)
            {
                return true;
            }

            if (name == "id")
            {
                continue;
            }

            opts.Set(name, value, diagnostics);
        }

        return false;
    }

    /// <summary>Whether the text contains a bare help or ?, other than as the implied first value.</summary>
    public static bool HasHelp(string text)
    {
        int position = 0;
        while (position < text.Length)
        {
            ReadOption(text, ref position, null, SilentOptionDiagnostics.Instance, out _, out _, out bool help);
            if (help)
            {
                return true;
            }
        }

        return false;
    }

    // The first id given counts, unless it is the implied first value.
    private static string? FindId(string text, string? impliedKey)
    {
        int position = 0;
        bool first = true;
        while (position < text.Length)
        {
            ReadOption(text, ref position, first ? impliedKey : null, null, out string name, out string value, out _);
            first = false;
            if (name == "id")
            {
                return value;
            }
        }

        return null;
    }

    private static void ReadOption(
        string text, ref int position, string? impliedKey, IOptionDiagnostics? diagnostics, out string name, out string value, out bool help)
    {
        help = false;
        int length = text.AsSpan(position).IndexOfAny('=', ',');
        int end = length < 0 ? text.Length : position + length;
        if (end < text.Length && text[end] == '=')
        {
            name = text[position..end];
            position = end + 1;
            value = ReadValue(text, ref position);
        }
        else if (impliedKey != null)
        {
            name = impliedKey;
            value = ReadValue(text, ref position);
        }
        else
        {
            string given = text[position..end];
            position = end;
            if (given.StartsWith("no", StringComparison.Ordinal))
            {
                name = given[2..];
                value = "off";
            }
            else
            {
                name = given;
                value = "on";
                help = OptionErrors.IsHelp(given);
            }

            if (!help && diagnostics != null)
            {
                string replacement = name == "delay" ? $"nodelay={(value == "off" ? "on" : "off")}" : $"{name}={value}";
                diagnostics.Warning($"short-form boolean option '{given}' deprecated", $"Please use {replacement} instead");
            }
        }

        if (position < text.Length)
        {
            position++;
        }
    }

    // Reads up to the comma that ends the value and leaves the position on it.
    private static string ReadValue(string text, ref int position)
    {
        int start = position;
        StringBuilder? unescaped = null;
        while (true)
        {
            int comma = text.IndexOf(',', position);
            if (comma < 0)
            {
                comma = text.Length;
            }

            if (comma + 1 >= text.Length || text[comma + 1] != ',')
            {
                position = comma;
                return unescaped == null ? text[start..comma] : unescaped.Append(text, start, comma - start).ToString();
            }

            unescaped ??= new StringBuilder();
            unescaped.Append(text, start, comma + 1 - start);
            position = start = comma + 2;
        }
    }
}
