using System.Text;

namespace Vmm.Qapi.Options;

/// <summary>
/// Reads "value,a.b=value,a.c.0=value": dotted keys become nested dictionaries, dictionaries whose keys are 0..n-1 become lists, all leaves are
/// strings. There are no short forms; a doubled comma in a value stands for one. Pure functions that throw nothing but
/// <see cref="QapiException"/>; work is linear in the text, nesting is bounded by it.
/// </summary>
public static class KeyvalParser
{
    private const int MaxFragmentLength = 127;

    // Deeper keys than any options type has; bounds the recursion that turns dictionaries into lists.
    private const int MaxDepth = 256;

    /// <summary>Reads a text.</summary>
    /// <param name="text">Option text.</param>
    /// <param name="impliedKey">Key of a leading bare value, or null.</param>
    /// <param name="help">Set when a bare help or ? is among the keys.</param>
    /// <exception cref="QapiException">The text is malformed.</exception>
    public static QDict Parse(string text, string? impliedKey, out bool help)
    {
        var dict = new QDict();
        ParseInto(dict, text, impliedKey, out help);
        return dict;
    }

    /// <summary>Reads a text that cannot ask for help.</summary>
    /// <exception cref="QapiException">The text is malformed or asks for help.</exception>
    public static QDict Parse(string text, string? impliedKey)
    {
        QDict dict = Parse(text, impliedKey, out bool help);
        return help ? throw new QapiException("Help is not available for this option") : dict;
    }

    /// <summary>Reads a text on top of what an earlier one left; a later string replaces an earlier one of the same key.</summary>
    /// <exception cref="QapiException">The text is malformed or contradicts the dictionary, which may have been changed in part.</exception>
    public static void ParseInto(QDict dict, string text, string? impliedKey, out bool help)
    {
        help = false;
        int position = 0;
        while (position < text.Length)
        {
            position = ParseOne(dict, text, position, impliedKey, ref help);
            impliedKey = null;
        }

        Listify(dict, null, 0);
    }

    /// <summary>
    /// Merges a dictionary into another: strings replace, lists append, dictionaries merge.
    /// </summary>
    /// <exception cref="QapiException">The two disagree about the kind of a value.</exception>
    public static void Merge(QDict destination, QDict merged) => Merge(destination, merged, "");

    /// <summary>Replaces underscores in the names of the top level by dashes.</summary>
    /// <exception cref="QapiException">Both spellings of a name are present.</exception>
    public static void Dashify(QDict dict)
    {
        List<string>? names = null;
        foreach (KeyValuePair<string, QValue> member in dict)
        {
            if (member.Key.Contains('_'))
            {
                (names ??= []).Add(member.Key);
            }
        }

        foreach (string name in names ?? [])
        {
            string dashed = name.Replace('_', '-');
            if (dict.ContainsKey(dashed))
            {
                throw new QapiException($"Conflict between '{name}' and '{dashed}'");
            }

            dict.Remove(name, out QValue? value);
            dict[dashed] = value!;
        }
    }

    /// <summary>
    /// Turns flat dotted names, as a configuration file has them, into nested dictionaries and lists.
    /// </summary>
    /// <exception cref="QapiException">The names contradict each other.</exception>
    public static QValue Crumple(QDict flat)
    {
        var dict = new QDict();
        foreach (KeyValuePair<string, QValue> member in flat)
        {
            string[] fragments = member.Key.Split('.');
            QDict current = dict;
            for (int i = 0; i + 1 < fragments.Length; i++)
            {
                current = GetDict(current, fragments[i]);
            }

            if (fragments.Length > MaxDepth || !current.TryAdd(fragments[^1], member.Value))
            {
                throw new QapiException("Cannot mix scalar and non-scalar keys");
            }
        }

        return Listify(dict, null, 0);

        static QDict GetDict(QDict parent, string name)
        {
            if (!parent.TryGetValue(name, out QValue? value))
            {
                var child = new QDict();
                parent[name] = child;
                return child;
            }

            return value as QDict ?? throw new QapiException("Cannot mix scalar and non-scalar keys");
        }
    }

    private static int ParseOne(QDict dict, string text, int position, string? impliedKey, ref bool help)
    {
        int length = text.AsSpan(position).IndexOfAny('=', ',');
        int end = length < 0 ? text.Length : position + length;
        bool bare = end == text.Length || text[end] == ',';
        if (end > position && bare)
        {
            if (OptionErrors.IsHelp(text.AsSpan(position, end - position)))
            {
                help = true;
                return Math.Min(end + 1, text.Length);
            }

            if (impliedKey != null)
            {
                Put(dict, impliedKey, text[position..end], impliedKey);
                return Math.Min(end + 1, text.Length);
            }
        }

        string key = text[position..end];
        int start = 0;
        QDict current = dict;
        string previous = "";
        int depth = 0;
        while (true)
        {
            int fragment = start > 0 ? IndexLength(key, start) : 0;
            if (fragment == 0)
            {
                fragment = NameLength(key, start);
            }

            int fragmentEnd = start + fragment;
            if (fragment == 0 || (fragmentEnd < key.Length && key[fragmentEnd] != '.') || ++depth > MaxDepth)
            {
                throw QapiException.InvalidParameter(key);
            }

            if (fragment > MaxFragmentLength)
            {
                string which = start > 0 || fragmentEnd < key.Length ? " fragment" : "";
                throw new QapiException($"Parameter{which} '{key[start..fragmentEnd]}' is too long");
            }

            if (start > 0)
            {
                current = Descend(current, previous, key[..(start - 1)]);
            }

            previous = key[start..fragmentEnd];
            if (fragmentEnd == key.Length)
            {
                break;
            }

            start = fragmentEnd + 1;
        }

        if (bare)
        {
            throw new QapiException($"Expected '=' after parameter '{key}'");
        }

        position = end + 1;
        string value = ReadValue(text, ref position);
        Put(current, previous, value, key);
        return position;
    }

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
                position = Math.Min(comma + 1, text.Length);
                return unescaped == null ? text[start..comma] : unescaped.Append(text, start, comma - start).ToString();
            }

            unescaped ??= new StringBuilder();
            unescaped.Append(text, start, comma + 1 - start);
            position = start = comma + 2;
        }
    }

    private static void Put(QDict dict, string name, string value, string key)
    {
        if (dict.TryGetValue(name, out QValue? old) && old is not QString)
        {
            throw Inconsistent(key);
        }

        dict[name] = value;
    }

    private static QDict Descend(QDict dict, string name, string key)
    {
        if (!dict.TryGetValue(name, out QValue? old))
        {
            var child = new QDict();
            dict[name] = child;
            return child;
        }

        return old as QDict ?? throw Inconsistent(key);
    }

    private static QapiException Inconsistent(string key) => new($"Parameters '{key}.*' used inconsistently");

    // Length of the digits of a list index at a position, 0 when there is none.
    private static int IndexLength(string key, int start)
    {
        int i = start;
        while (i < key.Length && char.IsAsciiDigit(key[i]))
        {
            i++;
        }

        return i - start;
    }

    // Length of the QAPI name at a position, 0 when there is none: an optional __RFQDN_ prefix, a letter, then letters, digits, '-' and '_'.
    private static int NameLength(string key, int start)
    {
        int i = start;
        if (i < key.Length && key[i] == '_')
        {
            if (i + 1 >= key.Length || key[i + 1] != '_')
            {
                return 0;
            }

            i += 2;
            while (i < key.Length && (char.IsAsciiLetterOrDigit(key[i]) || key[i] is '-' or '.'))
            {
                i++;
            }

            if (i >= key.Length || key[i++] != '_')
            {
                return 0;
            }
        }

        if (i >= key.Length || !char.IsAsciiLetter(key[i]))
        {
            return 0;
        }

        while (i < key.Length && (char.IsAsciiLetterOrDigit(key[i]) || key[i] is '-' or '_'))
        {
            i++;
        }

        return i - start;
    }

    private sealed record Path(Path? Parent, string Name)
    {
        public override string ToString() => $"{Parent}{Name}.";
    }

    private static QValue Listify(QDict dict, Path? path, int depth)
    {
        bool hasIndex = false;
        bool hasName = false;
        List<KeyValuePair<string, QDict>>? nested = null;
        foreach (KeyValuePair<string, QValue> member in dict)
        {
            bool isIndex = member.Key.Length > 0 && char.IsAsciiDigit(member.Key[0]);
            hasIndex |= isIndex;
            hasName |= !isIndex;
            if (member.Value is QDict child)
            {
                (nested ??= []).Add(new(member.Key, child));
            }
        }

        foreach (KeyValuePair<string, QDict> member in nested ?? [])
        {
            dict[member.Key] = Listify(member.Value, new Path(path, member.Key), depth + 1);
        }

        if (hasIndex && hasName)
        {
            throw new QapiException($"Parameters '{path}*' used inconsistently");
        }

        if (!hasIndex)
        {
            return dict;
        }

        var elements = new QValue?[dict.Count];
        int maximum = -1;
        foreach (KeyValuePair<string, QValue> member in dict)
        {
            int index = int.TryParse(member.Key, out int parsed) ? parsed : int.MaxValue;
            maximum = Math.Max(maximum, index);
            if (index < elements.Length)
            {
                elements[index] = member.Value;
            }
        }

        var list = new QList();
        for (int i = 0; i <= maximum; i++)
        {
            if (i >= elements.Length || elements[i] is not { } element)
            {
                throw new QapiException($"Parameter '{path}{i}' missing");
            }

            list.Add(element);
        }

        return list;
    }

    private static void Merge(QDict destination, QDict merged, string path)
    {
        foreach (KeyValuePair<string, QValue> member in merged)
        {
            if (!destination.TryGetValue(member.Key, out QValue? old))
            {
                destination[member.Key] = member.Value.Clone();
                continue;
            }

            if (old.Type != member.Value.Type)
            {
                throw new QapiException($"Parameter '{path}{member.Key}' used inconsistently");
            }

            if (old is QDict dict)
            {
                Merge(dict, (QDict)member.Value, $"{path}{member.Key}.");
            }
            else if (old is QList list)
            {
                foreach (QValue item in (QList)member.Value)
                {
                    list.Add(item.Clone());
                }
            }
            else
            {
                destination[member.Key] = member.Value;
            }
        }
    }
}
