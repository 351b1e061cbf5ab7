namespace Vmm.Qapi.Options;

/// <summary>One flat set of name=value options, in the order they were given; a name may repeat and then its last value counts.</summary>
public sealed class QemuOpts
{
    private readonly List<KeyValuePair<string, string>> _values = [];

    /// <summary>An empty set.</summary>
    /// <param name="group">The kind of option.</param>
    /// <param name="id">The id, checked by the caller, or null.</param>
    /// <param name="location">Where it was given, for messages ("-chardev null,id=a" or "file:3"), or null.</param>
    public QemuOpts(OptionGroup group, string? id, string? location)
    {
        Group = group;
        Id = id;
        Location = location;
    }

    /// <summary>The kind of option.</summary>
    public OptionGroup Group { get; }

    /// <summary>The id, or null.</summary>
    public string? Id { get; set; }

    /// <summary>Where it was given, for messages; null when it came from nowhere in particular.</summary>
    public string? Location { get; }

    /// <summary>The options in order.</summary>
    public IReadOnlyList<KeyValuePair<string, string>> Values => _values;

    /// <summary>The last value of an option, or the default of the group's descriptor, or null.</summary>
    public string? Get(string name)
    {
        for (int i = _values.Count - 1; i >= 0; i--)
        {
            if (_values[i].Key == name)
            {
                return _values[i].Value;
            }
        }

        return Group.Find(name)?.Default;
    }

    /// <summary>Whether an option was given.</summary>
    public bool Contains(string name)
    {
        foreach (KeyValuePair<string, string> option in _values)
        {
            if (option.Key == name)
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>All values of a repeated option in order.</summary>
    public IEnumerable<string> GetAll(string name)
    {
        foreach (KeyValuePair<string, string> option in _values)
        {
            if (option.Key == name)
            {
                yield return option.Value;
            }
        }
    }

    /// <summary>A boolean option.</summary>
    /// <exception cref="QapiException">The value is not a boolean.</exception>
    public bool GetBool(string name, bool defaultValue) => Get(name) is { } text ? OptionErrors.ParseBool(name, text) : defaultValue;

    /// <summary>A boolean option, null when absent.</summary>
    /// <exception cref="QapiException">The value is not a boolean.</exception>
    public bool? GetBool(string name) => Get(name) is { } text ? OptionErrors.ParseBool(name, text) : null;

    /// <summary>A number option.</summary>
    /// <exception cref="QapiException">The value is not a number.</exception>
    public ulong GetNumber(string name, ulong defaultValue) => Get(name) is { } text ? OptionErrors.ParseNumber(name, text) : defaultValue;

    /// <summary>A number option, null when absent.</summary>
    /// <exception cref="QapiException">The value is not a number.</exception>
    public ulong? GetNumber(string name) => Get(name) is { } text ? OptionErrors.ParseNumber(name, text) : null;

    /// <summary>A size option in bytes.</summary>
    /// <exception cref="QapiException">The value is not a size.</exception>
    public ulong GetSize(string name, ulong defaultValue) =>
        Get(name) is { } text ? OptionErrors.ParseSize(name, text, SilentOptionDiagnostics.Instance) : defaultValue;

    /// <summary>Adds an option after checking its name and value against the group.</summary>
    /// <exception cref="QapiException">The group has no such parameter or the value is not of its type.</exception>
    public void Set(string name, string value, IOptionDiagnostics? diagnostics = null)
    {
        OptionDescriptor? descriptor = Group.Find(name);
        if (descriptor == null && !Group.AcceptsAny)
        {
            throw QapiException.InvalidParameter(name);
        }

        if (descriptor != null)
        {
            OptionErrors.CheckValue(name, value, descriptor.Type, diagnostics ?? SilentOptionDiagnostics.Instance);
        }

        _values.Add(new(name, value));
    }

    /// <summary>Adds an option without a check.</summary>
    public void Append(string name, string value) => _values.Add(new(name, value));

    /// <summary>Removes every occurrence of an option and returns its last value, or null.</summary>
    public string? Take(string name)
    {
        string? value = null;
        for (int i = _values.Count - 1; i >= 0; i--)
        {
            if (_values[i].Key == name)
            {
                value ??= _values[i].Value;
                _values.RemoveAt(i);
            }
        }

        return value;
    }

    /// <summary>The options as a dictionary of strings, the id included; of a repeated option the last value.</summary>
    public QDict ToDict()
    {
        var dict = new QDict(_values.Count + 1);
        if (Id != null)
        {
            dict["id"] = Id;
        }

        foreach (KeyValuePair<string, string> option in _values)
        {
            dict[option.Key] = option.Value;
        }

        return dict;
    }

    /// <summary>
    /// The options as a dictionary in which an option given more than once becomes a list of its values in order: the form in which list
    /// members of an options type are spelled on the command line.
    /// </summary>
    public QDict ToRepeatedDict()
    {
        var dict = new QDict(_values.Count + 1);
        if (Id != null)
        {
            dict["id"] = Id;
        }

        foreach (KeyValuePair<string, string> option in _values)
        {
            if (!dict.TryGetValue(option.Key, out QValue? existing))
            {
                dict[option.Key] = option.Value;
            }
            else if (existing is QList list)
            {
                list.Add(option.Value);
            }
            else
            {
                dict[option.Key] = new QList { existing, option.Value };
            }
        }

        return dict;
    }
}

/// <summary>All option sets of one group in the order they were given.</summary>
public sealed class OptsList
{
    private readonly List<QemuOpts> _items = [];

    /// <summary>An empty list.</summary>
    public OptsList(OptionGroup group) => Group = group;

    /// <summary>The kind of option.</summary>
    public OptionGroup Group { get; }

    /// <summary>The sets in order.</summary>
    public IReadOnlyList<QemuOpts> Items => _items;

    /// <summary>The set with that id (null: the one without id), or null.</summary>
    public QemuOpts? Find(string? id)
    {
        foreach (QemuOpts opts in _items)
        {
            if (opts.Id == id)
            {
                return opts;
            }
        }

        return null;
    }

    /// <summary>A new set, or the existing one of a merging group.</summary>
    /// <exception cref="QapiException">The id is malformed, in use, or not allowed in this group.</exception>
    public QemuOpts Create(string? id, string? location)
    {
        if (Group.MergeLists)
        {
            if (id != null)
            {
                throw QapiException.InvalidParameter("id");
            }

            if (Find(null) is { } existing)
            {
                return existing;
            }
        }
        else if (id != null)
        {
            if (!OptionErrors.IsIdentifier(id))
            {
                throw OptionErrors.BadIdentifier();
            }

            if (Find(id) != null)
            {
                throw new QapiException($"Duplicate ID '{id}' for {Group.Name}");
            }
        }

        var opts = new QemuOpts(Group, id, location);
        _items.Add(opts);
        return opts;
    }

    /// <summary>Removes a set.</summary>
    public void Remove(QemuOpts opts) => _items.Remove(opts);
}
