using System.Text;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.ObjectModel.Devices;

/// <summary>Lists of device types and their properties, for people and for device-list-properties.</summary>
public static class DeviceHelp
{
    private static readonly string[] s_categories =
        ["Controller/Bridge/Hub", "USB", "Storage", "Network", "Input", "Display", "Sound", "Misc", "CPU", "Watchdog"];

    /// <summary>Text of <c>-device help</c>: the types that users can make, by category.</summary>
    public static string Types(QomTree tree)
    {
        List<QomTypeInfo> types = tree.Types.All();
        types.RemoveAll(t => t.IsAbstract || t.Factory is null || !t.UserCreatable || !tree.Types.IsA(t, "device"));
        types.Sort(static (a, b) => string.CompareOrdinal(a.Name, b.Name));
        var text = new StringBuilder();
        foreach (string category in s_categories)
        {
            AppendCategory(text, tree, types, category, t => t.Category == category);
        }

        AppendCategory(text, tree, types, "Uncategorized", static t => t.Category is null || !s_categories.Contains(t.Category));
        return text.ToString();
    }

    /// <summary>Text of <c>-device X,help</c>.</summary>
    /// <exception cref="QapiException">"Device 'X' not found".</exception>
    public static string PropertiesText(QomTree tree, string driver)
    {
        if (tree.Types.TryGetDevice(driver, out QomTypeInfo? type))
        {
            driver = type.Name;
        }

        return PropertyHelp.Format(driver, Properties(tree, driver), "There are no options for {0}.\n");
    }

    /// <summary>The properties of any type, as <c>-machine X,help</c> shows them.</summary>
    /// <exception cref="InvalidOperationException">There is no such type.</exception>
    public static string TypeText(QomTree tree, string typeName)
    {
        if (!tree.Types.TryGet(typeName, out QomTypeInfo? type))
        {
            throw new InvalidOperationException(typeName);
        }

        List<QomPropertyInfo> properties = tree.Types.ListProperties(type);
        properties.RemoveAll(static p => p.Name == "type");
        return PropertyHelp.Format(typeName, properties, "There are no options for {0}.\n");
    }

    /// <summary>Properties that a device of a type can be given, in the order in which clients see them.</summary>
    /// <exception cref="QapiException">Not a device type that can be made.</exception>
    public static List<QomPropertyInfo> Properties(QomTree tree, string typeName)
    {
        if (!tree.Types.TryGet(typeName, out QomTypeInfo? type))
        {
            throw QapiException.DeviceNotFound(typeName);
        }

        if (!tree.Types.IsA(type, "device") || type.IsAbstract || type.Factory is not { } factory)
        {
            throw QapiException.InvalidParameterValue("typename", "a non-abstract device type");
        }

        List<QomPropertyInfo> properties = tree.Types.ListProperties(type);
        factory().AppendDynamic(properties);
        properties.RemoveAll(static p => p.Name is "type" or "realized" or "hotpluggable" or "hotplugged" or "parent_bus");
        return properties;
    }

    private static void AppendCategory(
        StringBuilder text, QomTree tree, List<QomTypeInfo> types, string category, Predicate<QomTypeInfo> belongs)
    {
        bool first = true;
        foreach (QomTypeInfo type in types)
        {
            if (!belongs(type))
            {
                continue;
            }

            if (first)
            {
                text.Append(text.Length > 0 ? "\n" : "").Append(category).Append(" devices:\n");
                first = false;
            }

            text.Append("name \"").Append(type.Name).Append('"');
            if (tree.Types.BusTypeOf(type) is { } bus)
            {
                text.Append(", bus ").Append(bus);
            }

            if (tree.Types.AliasOf(type.Name) is { } alias)
            {
                text.Append(", alias \"").Append(alias).Append('"');
            }

            if (type.Description is { } description)
            {
                text.Append(", desc \"").Append(description).Append('"');
            }

            text.Append('\n');
        }
    }
}
