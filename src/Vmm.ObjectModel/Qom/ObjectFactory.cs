using System.Text;
using Vmm.ObjectModel.Devices;
using Vmm.Qapi;
using Vmm.Qapi.Options;

namespace Vmm.ObjectModel.Qom;

/// <summary>Makes and deletes the objects that users ask for (-object, object-add, object-del). Home: main loop.</summary>
public sealed class ObjectFactory
{
    // The one type whose name in the schema of options is not that of the object.
    private const string ListFileOption = "authz-listfile";
    private const string ListFileType = "authz-list-file";

    private readonly ObjectContext _context;

    /// <summary>A factory whose objects live below <c>/objects</c> of the context's tree.</summary>
    public ObjectFactory(ObjectContext context) => _context = context;

    private QomTree Tree => _context.Tree;

    /// <summary>
    /// Makes an object from qom-type, id and properties. Properties may also come in a dictionary "props", as old clients send them.
    /// </summary>
    /// <exception cref="QapiException">Refused in QEMU's words; nothing is left behind.</exception>
    public QomObject Add(QDict options, QapiInputMode mode = QapiInputMode.Json)
    {
        options = Flatten(options);
        string typeName = Required(options, "qom-type");
        string id = Required(options, "id");
        if (!IsUserCreatable(typeName == ListFileOption ? ListFileType : typeName, out QomTypeInfo? type))
        {
            throw QapiException.InvalidEnumValue("qom-type", typeName);
        }

        QomObject made = type!.Factory!();
        var creatable = (IUserCreatable)made;
        foreach (string required in creatable.RequiredProperties)
        {
            if (!options.ContainsKey(required))
            {
                throw QapiException.MissingParameter(required);
            }
        }

        foreach (KeyValuePair<string, QValue> option in options)
        {
            if (option.Key is not ("qom-type" or "id") && Tree.FindProperty(made, option.Key) is null)
            {
                throw QapiException.UnexpectedParameter(option.Key);
            }
        }

        if (!OptionErrors.IsIdentifier(id))
        {
            throw new QapiException(
                QapiErrorClass.GenericError,
                "Parameter 'id' expects an identifier",
                "Identifiers consist of letters, digits, '-', '.', '_', starting with a letter.\n");
        }

        foreach (KeyValuePair<string, QValue> option in options)
        {
            if (option.Key is not ("qom-type" or "id"))
            {
                Tree.SetProperty(made, option.Key, option.Value, mode);
            }
        }

        Tree.Objects.AddChild(id, made);
        try
        {
            creatable.Complete(_context);
        }
        catch (QapiException)
        {
            made.Unparent();
            throw;
        }

        return made;
    }

    /// <summary>Deletes an object made by <see cref="Add"/>.</summary>
    /// <exception cref="QapiException">No such object, or it is in use.</exception>
    public void Delete(string id)
    {
        QomObject made = Tree.Objects.FindChild(id) ?? throw new QapiException($"object '{id}' not found");
        if (made is IUserCreatable { CanBeDeleted: false })
        {
            throw new QapiException($"object '{id}' is in use, can not be deleted");
        }

        made.Unparent();
    }

    /// <summary>Text of <c>-object help</c>: the types that can be made.</summary>
    public string HelpTypes()
    {
        var text = new StringBuilder("List of user creatable objects:\n");
        foreach (string name in UserCreatableTypes())
        {
            text.Append("  ").Append(name).Append('\n');
        }

        return text.ToString();
    }

    /// <summary>Text of <c>-object TYPE,help</c>: the type's properties.</summary>
    public string HelpProperties(string typeName)
    {
        if (!Tree.Types.TryGet(typeName, out QomTypeInfo? type) || !Tree.Types.IsA(type, "user-creatable"))
        {
            throw QapiException.InvalidEnumValue("qom-type", typeName);
        }

        List<QomPropertyInfo> properties = Tree.Types.ListProperties(type);

        // Neither can be set, "loaded" being there for clients of old.
        properties.RemoveAll(static p => p.Name is "type" or "loaded");
        return PropertyHelp.Format(typeName, properties, "There are no options for {0}.\n");
    }

    /// <summary>Names of the types that users can make, sorted.</summary>
    public List<string> UserCreatableTypes()
    {
        var names = new List<string>();
        foreach (QomTypeInfo type in Tree.Types.All())
        {
            if (IsUserCreatable(type.Name, out _))
            {
                names.Add(type.Name);
            }
        }

        names.Sort(string.CompareOrdinal);
        return names;
    }

    private static string Required(QDict options, string key)
    {
        if (!options.TryGetValue(key, out QValue? value))
        {
            throw QapiException.MissingParameter(key);
        }

        return value is QString s ? s.Value : throw QapiException.InvalidParameterType(key, "string");
    }

    private static QDict Flatten(QDict options)
    {
        if (!options.TryGetValue("props", out QValue? props))
        {
            return options;
        }

        if (props is not QDict nested)
        {
            throw QapiException.InvalidParameterType("props", "object");
        }

        QDict flat = options.Clone();
        flat.Remove("props");
        foreach (KeyValuePair<string, QValue> member in nested)
        {
            if (!flat.TryAdd(member.Key, member.Value))
            {
                throw QapiException.UnexpectedParameter("props." + member.Key);
            }
        }

        return flat;
    }

    private bool IsUserCreatable(string name, out QomTypeInfo? type) =>
        Tree.Types.TryGet(name, out type) && !type.IsAbstract && type.Factory is not null && Tree.Types.IsA(type, "user-creatable");
}

/// <summary>The option lists that "help" prints.</summary>
internal static class PropertyHelp
{
    /// <summary>Header and one line per property, sorted.</summary>
    /// <param name="typeName">Shown in the header.</param>
    /// <param name="properties">Properties to show.</param>
    /// <param name="none">Format of the text for an empty list.</param>
    public static string Format(string typeName, List<QomPropertyInfo> properties, string none)
    {
        if (properties.Count == 0)
        {
            return string.Format(System.Globalization.CultureInfo.InvariantCulture, none, typeName);
        }

        var lines = new List<string>(properties.Count);
        foreach (QomPropertyInfo property in properties)
        {
            string line = $"{property.Name}=<{property.Type}>";
            if (property.Description is not null || property.DefaultValue is not null)
            {
                line = $"{line,-22} - {property.Description}";
                if (property.DefaultValue is { } value)
                {
                    line += $" (default: {value().ToJson()})";
                }
            }

            lines.Add("  " + line);
        }

        lines.Sort(string.CompareOrdinal);
        return $"{typeName} options:\n{string.Join('\n', lines)}\n";
    }
}
