using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.ObjectModel.Qmp;

/// <summary>Commands that make and delete user objects.</summary>
public sealed class ObjectCommands(ObjectFactory objects)
{
    /// <summary>Makes an object. Its properties come beside qom-type and id, or, from old clients, in "props".</summary>
    [QmpCommand(
        "object-add",
        ArgsType = "qom-type:s,id:s,props:q?,properties:O",
        ArgsSchema = typeof(ObjectOptions),
        AllowPreconfig = true,
        Since = "2.0")]
    public void ObjectAdd(string qomType, string id, QValue? props, QDict properties)
    {
        QDict options = properties.Clone();
        options["qom-type"] = qomType;
        options["id"] = id;
        if (props is not null)
        {
            options["props"] = props;
        }

        objects.Add(options);
    }

    /// <summary>Deletes an object that nothing uses.</summary>
    [QmpCommand("object-del", ArgsType = "id:s", AllowPreconfig = true, Since = "2.0")]
    public void ObjectDel(string id) => objects.Delete(id);

    /// <summary>Makes an object.</summary>
    [HmpCommand(
        "object_add",
        ArgsType = "object:S",
        Params = "[qom-type=]type,id=str[,prop=value][,...]",
        Help = "create QOM object",
        AllowPreconfig = true)]
    public void HmpObjectAdd(HmpContext context, string @object)
    {
        QDict options = Qapi.Options.KeyvalParser.Parse(@object, "qom-type", out bool help);
        if (help)
        {
            context.Print(options.GetString("qom-type") is { } type ? objects.HelpProperties(type) : objects.HelpTypes());
            return;
        }

        objects.Add(options, QapiInputMode.Keyval);
    }

    /// <summary>Deletes an object.</summary>
    [HmpCommand("object_del", ArgsType = "id:s", Params = "id", Help = "destroy QOM object", AllowPreconfig = true)]
    public void HmpObjectDel(HmpContext context, string id) => objects.Delete(id);
}
