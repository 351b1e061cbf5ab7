using System.Collections.Generic;

namespace Vmm.Generators.Qapi;

/// <summary>One entry of an args_type string.</summary>
/// <param name="Name">Wire name of the argument.</param>
/// <param name="Letter">Kind of value; for a flag ('-') the letter of the flag is in <paramref name="Flag"/>.</param>
/// <param name="Optional">Whether it may be absent.</param>
/// <param name="Flag">Letter of a flag.</param>
internal readonly record struct ArgsTypeEntry(string Name, char Letter, bool Optional, char Flag)
{
    private const string Letters = "sFBilMoTbqO-S/";

    /// <summary>Parses a string; null with a message when it is malformed.</summary>
    public static List<ArgsTypeEntry>? Parse(string text, out string? error)
    {
        var entries = new List<ArgsTypeEntry>();
        var names = new HashSet<string>();
        error = null;
        if (text.Length == 0)
        {
            return entries;
        }

        foreach (string part in text.Split(','))
        {
            int colon = part.IndexOf(':');
            string type = colon < 0 ? "" : part.Substring(colon + 1);
            bool optional = type.EndsWith("?") || type.EndsWith(".");
            type = optional ? type.Substring(0, type.Length - 1) : type;
            bool flag = type.Length == 2 && type[0] == '-';
            if (colon <= 0 || (type.Length != 1 && !flag) || Letters.IndexOf(type[0]) < 0)
            {
                error = $"'{part}' is not name:letter";
                return null;
            }

            string name = part.Substring(0, colon);
            if (!names.Add(name))
            {
                error = $"'{name}' appears twice";
                return null;
            }

            entries.Add(new ArgsTypeEntry(name, type[0], optional || flag, flag ? type[1] : '\0'));
        }

        return entries;
    }

    /// <summary>Whether values of a wire form are what the letter stands for.</summary>
    public bool Accepts(WireKind kind)
    {
        bool integer = kind is >= WireKind.Int8 and <= WireKind.Size;
        return Letter switch
        {
            's' or 'F' or 'B' or 'S' => kind is WireKind.String or WireKind.Enum or WireKind.Alternate,
            'i' or 'l' or 'M' or 'o' => integer,
            'T' => kind == WireKind.Number,
            'b' or '-' => kind == WireKind.Bool,
            'q' => true,
            _ => kind is WireKind.Dict,
        };
    }
}
