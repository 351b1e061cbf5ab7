using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.ObjectModel.Qmp;

public sealed partial class QomCommands
{
    /// <summary>Lists the properties of an object.</summary>
    [HmpCommand("qom-list", ArgsType = "path:s?", Params = "path", Help = "list QOM properties", AllowPreconfig = true)]
    public void HmpQomList(HmpContext context, string? path)
    {
        if (path is null)
        {
            context.PrintLine("/");
            return;
        }

        foreach (ObjectPropertyInfo property in QomList(path))
        {
            context.PrintLine($"{property.Name} ({property.Type})");
        }
    }

    /// <summary>Prints a property of an object.</summary>
    [HmpCommand("qom-get", ArgsType = "path:s,property:s", Params = "path property", Help = "print QOM property", AllowPreconfig = true)]
    public void HmpQomGet(HmpContext context, string path, string property) =>
        context.PrintLine(QomGet(path, property).ToJson(pretty: true));

    /// <summary>Assigns a property of an object.</summary>
    [HmpCommand(
        "qom-set",
        ArgsType = "json:-j,path:s,property:s,value:S",
        Params = "[-j] path property value",
        Help = "set QOM property.\n\t\t\t-j: the value is specified in json format.",
        AllowPreconfig = true)]
    public void HmpQomSet(HmpContext context, string path, string property, string value, bool json = false)
    {
        QomObject obj = tree.ResolveOrThrow(path);
        if (json)
        {
            tree.SetProperty(obj, property, QValue.Parse(value));
        }
        else
        {
            tree.SetProperty(obj, property, value, QapiInputMode.Terminal);
        }
    }

    /// <summary>Shows the composition tree below the machine or below a path.</summary>
    [HmpCommand("info qom-tree", ArgsType = "path:s?", Params = "[path]", Help = "show QOM composition tree", AllowPreconfig = true)]
    public void InfoQomTree(HmpContext context, string? path)
    {
        QomObject? root = path is null ? tree.Machine : null;
        if (path is not null)
        {
            root = tree.Resolve(path, null, out bool ambiguous);
            if (ambiguous)
            {
                context.PrintLine($"Warning: Path '{path}' is ambiguous.");
                return;
            }

            if (root is null)
            {
                context.PrintLine($"Path '{path}' could not be resolved.");
                return;
            }
        }

        if (root is not null)
        {
            PrintTree(context, root, 0);
        }
    }

    private static void PrintTree(HmpContext context, QomObject obj, int indent)
    {
        context.PrintLine($"{new string(' ', indent)}/{obj.Name} ({obj.Type.Name})");
        var children = new List<QomObject>(obj.Children);
        children.Sort(static (a, b) => string.CompareOrdinal(a.Name, b.Name));
        foreach (QomObject child in children)
        {
            PrintTree(context, child, indent + 2);
        }
    }
}
