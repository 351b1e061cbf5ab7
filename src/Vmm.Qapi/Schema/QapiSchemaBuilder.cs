using System.Globalization;

namespace Vmm.Qapi;

/// <summary>Writes the result of query-qmp-schema: commands and events by name, types by number in the order in which they are met.</summary>
public sealed class QapiSchemaBuilder
{
    private readonly JsonWriter _writer = new();
    private readonly Dictionary<object, string> _names = new(ReferenceEqualityComparer.Instance);
    private readonly Dictionary<string, string> _arrays = [];
    private readonly Queue<SchemaType> _pending = new();
    private int _next;

    private QapiSchemaBuilder()
    {
    }

    /// <summary>The schema of a table as compact JSON.</summary>
    public static byte[] Build(CommandTable table)
    {
        var builder = new QapiSchemaBuilder();
        JsonWriter w = builder._writer;
        w.WriteStartArray();
        foreach (CommandEntry command in table.Commands)
        {
            builder.WriteCommand(command);
        }

        foreach (QmpEventInfo qmpEvent in table.Events)
        {
            w.WriteStartObject();
            builder.WriteFeaturesOf(qmpEvent.Name, qmpEvent.Features, "event", builder.Name(qmpEvent.Data()), null, false);
            w.WriteEndObject();
        }

        while (builder._pending.TryDequeue(out SchemaType? type))
        {
            builder.WriteType(type);
        }

        w.WriteEndArray();
        return w.WrittenSpan.ToArray();
    }

    private void WriteCommand(CommandEntry command)
    {
        _writer.WriteStartObject();
        string arg = Name(command.ArgSchema?.Invoke() ?? SchemaObject.Empty);
        string ret = Name(command.RetSchema?.Invoke() ?? SchemaObject.Empty);
        WriteFeaturesOf(command.Name, command.Features, "command", arg, ret, command.AllowOob);
        _writer.WriteEndObject();
    }

    // Members go through a dictionary so that their order is the wire's without a second list of orders to maintain.
    private void WriteFeaturesOf(string name, string[] features, string meta, string arg, string? ret, bool oob)
    {
        QDict entry = new() { ["name"] = name, ["meta-type"] = meta };
        AddFeatures(entry, features);
        entry["arg-type"] = arg;
        if (ret != null)
        {
            entry["ret-type"] = ret;
        }

        if (oob)
        {
            entry["allow-oob"] = true;
        }

        WriteMembers(entry);
    }

    private void WriteMembers(QDict entry)
    {
        foreach (KeyValuePair<string, QValue> member in entry)
        {
            _writer.WriteName(member.Key);
            member.Value.WriteTo(_writer);
        }
    }

    private static void AddFeatures(QDict entry, string[]? features)
    {
        if (features is not { Length: > 0 })
        {
            return;
        }

        var list = new QList();
        foreach (string feature in features)
        {
            list.Add(feature);
        }

        entry["features"] = list;
    }

    private string Name(SchemaType type)
    {
        if (_names.TryGetValue(type, out string? known))
        {
            return known;
        }

        string name;
        if (type is SchemaArray array)
        {
            name = "[" + Name(array.Element) + "]";
            if (!_arrays.TryAdd(name, name))
            {
                _names.Add(type, name);
                return name;
            }
        }
        else
        {
            name = type is SchemaBuiltin builtin ? builtin.Name : (_next++).ToString(CultureInfo.InvariantCulture);
        }

        _names.Add(type, name);
        _pending.Enqueue(type);
        return name;
    }

    private void WriteType(SchemaType type)
    {
        QDict entry = new() { ["name"] = _names[type] };
        switch (type)
        {
            case SchemaBuiltin builtin:
                entry["meta-type"] = "builtin";
                entry["json-type"] = builtin.JsonType;
                break;
            case SchemaArray array:
                entry["meta-type"] = "array";
                entry["element-type"] = Name(array.Element);
                break;
            case SchemaEnum values:
                entry["meta-type"] = "enum";
                entry["members"] = EnumMembers(values);
                entry["values"] = EnumValues(values);
                break;
            case SchemaAlternate alternate:
                entry["meta-type"] = "alternate";
                entry["members"] = AlternateMembers(alternate);
                break;
            case SchemaObject obj:
                entry["meta-type"] = "object";
                AddFeatures(entry, obj.Features);
                entry["members"] = ObjectMembers(obj);
                if (obj.Tag != null)
                {
                    entry["tag"] = obj.Tag;
                    entry["variants"] = Variants(obj);
                }

                break;
        }

        entry.WriteTo(_writer);
    }

    private static QList EnumMembers(SchemaEnum type)
    {
        var list = new QList();
        foreach (SchemaEnumValue value in type.Values)
        {
            QDict member = new() { ["name"] = value.Name };
            AddFeatures(member, value.Features);
            list.Add(member);
        }

        return list;
    }

    private static QList EnumValues(SchemaEnum type)
    {
        var list = new QList();
        foreach (SchemaEnumValue value in type.Values)
        {
            list.Add(value.Name);
        }

        return list;
    }

    private QList AlternateMembers(SchemaAlternate type)
    {
        var list = new QList();
        foreach (Func<SchemaType> member in type.Members)
        {
            list.Add(new QDict { ["type"] = Name(member()) });
        }

        return list;
    }

    private QList ObjectMembers(SchemaObject type)
    {
        var list = new QList();
        foreach (SchemaMember member in type.Members)
        {
            QDict entry = new() { ["name"] = member.Name, ["type"] = Name(member.Type()) };
            if (member.Optional)
            {
                entry["default"] = QNull.Instance;
            }

            AddFeatures(entry, member.Features);
            list.Add(entry);
        }

        return list;
    }

    private QList Variants(SchemaObject type)
    {
        var list = new QList();
        foreach (SchemaVariant variant in type.Variants!)
        {
            list.Add(new QDict { ["case"] = variant.Case, ["type"] = Name(variant.Type()) });
        }

        return list;
    }
}
