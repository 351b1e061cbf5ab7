using Vmm.Qapi;

namespace Vmm.Monitor.Qmp;

/// <summary>
/// query-qmp-schema, registered by hand: its result is the cached text of the whole table, which no typed handler could return
/// without building it again.
/// </summary>
public static class SchemaCommand
{
    /// <summary>Adds the command to <paramref name="table"/>.</summary>
    public static void Register(CommandTable table) => table.Add(new CommandEntry
    {
        Name = "query-qmp-schema",
        AllowPreconfig = true,
        Since = "2.5",
        Doc = "Describes all commands, events and types on the wire.",
        RetSchema = static () => new SchemaArray(SchemaInfo()),
        Invoke = (_, _, result) =>
        {
            if (result.IsPretty)
            {
                result.WriteValue(QValue.Parse(table.SchemaJson.Span));
            }
            else
            {
                result.WriteRaw(table.SchemaJson.Span);
            }

            return ValueTask.CompletedTask;
        },
    });

    private static SchemaObject SchemaInfo()
    {
        SchemaBuiltin str = SchemaBuiltin.Str;
        SchemaArray strings = new(str);
        SchemaEnum meta = Enumeration("builtin", "enum", "array", "object", "alternate", "command", "event");
        SchemaEnum json = Enumeration("string", "number", "int", "boolean", "null", "object", "array", "value");
        SchemaObject enumMember = new([Member("name", str), Optional("features", strings)]);
        SchemaObject member = new([Member("name", str), Member("type", str), Optional("default", SchemaBuiltin.Any), Optional("features", strings)]);
        SchemaObject variant = new([Member("case", str), Member("type", str)]);
        SchemaObject alternative = new([Member("type", str)]);
        return new SchemaObject(
            [Member("name", str), Member("meta-type", meta), Optional("features", strings)],
            "meta-type",
            [
                Branch("builtin", Member("json-type", json)),
                Branch("enum", Member("members", new SchemaArray(enumMember)), new SchemaMember("values", () => strings, Features: ["deprecated"])),
                Branch("array", Member("element-type", str)),
                Branch("object", Member("members", new SchemaArray(member)), Optional("tag", str), Optional("variants", new SchemaArray(variant))),
                Branch("alternate", Member("members", new SchemaArray(alternative))),
                Branch("command", Member("arg-type", str), Member("ret-type", str), Optional("allow-oob", SchemaBuiltin.Bool)),
                Branch("event", Member("arg-type", str)),
            ]);
    }

    private static SchemaEnum Enumeration(params ReadOnlySpan<string> names)
    {
        SchemaEnumValue[] values = new SchemaEnumValue[names.Length];
        for (int i = 0; i < names.Length; i++)
        {
            values[i] = new SchemaEnumValue(names[i]);
        }

        return new SchemaEnum(values);
    }

    private static SchemaMember Member(string name, SchemaType type) => new(name, () => type);

    private static SchemaMember Optional(string name, SchemaType type) => new(name, () => type, Optional: true);

    private static SchemaVariant Branch(string name, params SchemaMember[] members)
    {
        SchemaObject type = new(members);
        return new SchemaVariant(name, () => type);
    }
}
