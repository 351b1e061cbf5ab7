using System.Collections.Generic;
using System.Linq;

namespace Vmm.Generators.Qapi;

/// <summary>C# text that reads, writes and describes values of a wire type.</summary>
internal static class QapiExpressions
{
    public const string Q = "global::Vmm.Qapi.";

    /// <summary>An expression that reads a value.</summary>
    public static string Read(WireType type, string value, string name, string reader = "reader")
    {
        switch (type.Kind)
        {
            case WireKind.Any:
                return value;
            case WireKind.Struct or WireKind.Union or WireKind.Alternate:
                return $"{type.Name}.QapiRead({value}, {reader}, {name})";
            case WireKind.Enum:
                return $"{type.Name}Qapi.Read({value}, {reader}, {name})";
            case WireKind.List:
                string element = Read(type.Element!, "item", "null", "r");
                string list = $"{reader}.List<{type.Element!.Name}>({value}, {name}, static (item, r) => {element})";
                return type.Collection == "list" ? $"new {type.Name}({list})" : list;
            default:
                return $"{reader}.{type.Kind}({value}, {name})";
        }
    }

    /// <summary>Statements that write a value.</summary>
    public static void Write(CodeWriter w, WireType type, string expression, string writer = "writer", int depth = 0)
    {
        switch (type.Kind)
        {
            case WireKind.String:
                w.Line($"{writer}.WriteString({expression});");
                break;
            case WireKind.Bool:
                w.Line($"{writer}.WriteBool({expression});");
                break;
            case WireKind.Any or WireKind.Dict:
                w.Line($"{writer}.WriteValue({expression});");
                break;
            case WireKind.Null:
                w.Line($"{writer}.WriteNull();");
                break;
            case WireKind.Struct or WireKind.Union or WireKind.Alternate:
                w.Line($"{expression}.QapiWrite({writer});");
                break;
            case WireKind.Enum:
                w.Line($"{writer}.WriteAscii({type.Name}Qapi.ToWireUtf8({expression}));");
                break;
            case WireKind.List:
                string item = depth == 0 ? "item" : "item" + depth;
                w.Line($"{writer}.WriteStartArray();");
                w.Open($"foreach ({type.Element!.Name} {item} in {expression})");
                Write(w, type.Element, item, writer, depth + 1);
                w.Close();
                w.Line($"{writer}.WriteEndArray();");
                break;
            default:
                w.Line($"{writer}.WriteNumber({expression});");
                break;
        }
    }

    /// <summary>An expression that turns a value into the run-time model.</summary>
    public static string ToValue(WireType type, string expression) => type.Kind switch
    {
        WireKind.Any or WireKind.Dict or WireKind.Null => expression,
        WireKind.Struct or WireKind.Union or WireKind.Alternate => expression + ".QapiToValue()",
        WireKind.Enum => $"new {Q}QString({type.Name}Qapi.ToWire({expression}))",
        WireKind.List => $"{Q}QapiList.ToValue<{type.Element!.Name}>({expression}, static item => {ToValue(type.Element, "item")})",
        WireKind.String => $"new {Q}QString({expression})",
        WireKind.Bool => $"{Q}QBool.From({expression})",
        WireKind.Number => $"{Q}QNum.From({expression})",
        WireKind.UInt64 or WireKind.Size => $"{Q}QNum.From({expression})",
        _ => $"{Q}QNum.From((long){expression})",
    };

    /// <summary>An expression of the schema type.</summary>
    public static string Schema(WireType type) => type.Kind switch
    {
        WireKind.String => Q + "SchemaBuiltin.Str",
        WireKind.Bool => Q + "SchemaBuiltin.Bool",
        WireKind.Number => Q + "SchemaBuiltin.Number",
        WireKind.Null => Q + "SchemaBuiltin.Null",
        WireKind.Any => Q + "SchemaBuiltin.Any",
        WireKind.Dict => Q + "SchemaObject.Empty",
        WireKind.List => $"new {Q}SchemaArray({Schema(type.Element!)})",
        WireKind.Struct or WireKind.Union or WireKind.Alternate => type.Name + ".QapiSchema",
        WireKind.Enum => type.Name + "Qapi.Schema",
        _ => Q + "SchemaBuiltin.Int",
    };

    /// <summary>An array expression of schema members.</summary>
    public static string SchemaMember(MemberModel member)
    {
        string optional = member.Optional ? ", Optional: true" : "";
        string features = member.Features.Count > 0 ? $", Features: {StringArray(member.Features)}" : "";
        return $"new({Naming.Literal(member.WireName)}, static () => {Schema(member.Type)}{optional}{features})";
    }

    public static string StringArray(IEnumerable<string> items) => "[" + string.Join(", ", items.Select(Naming.Literal)) + "]";

    /// <summary>Statements that write members of an object in wire order.</summary>
    public static void WriteMembers(CodeWriter w, IReadOnlyList<(MemberModel Member, string Expression)> members)
    {
        foreach (int i in Naming.WireOrder(members.Select(m => m.Member.WireName).ToList()))
        {
            (MemberModel member, string expression) = members[i];
            string name = $"writer.WriteName({Naming.Literal(member.WireName)}u8);";
            if (!member.Optional)
            {
                w.Line(name);
                Write(w, member.Type, expression);
                continue;
            }

            string local = "v" + i;
            w.Open($"if ({expression} is {{ }} {local})");
            w.Line(name);
            Write(w, member.Type, local);
            w.Close();
        }
    }

    /// <summary>A statement that reads a member into a local variable.</summary>
    public static string ReadMember(MemberModel member, string local)
    {
        string name = Naming.Literal(member.WireName);
        if (!member.Optional)
        {
            return $"{member.Type.Name} {local} = {Read(member.Type, $"reader.Required({name})", name)};";
        }

        string type = member.Default == null ? member.Type.Name + "?" : member.Type.Name;
        string fallback = member.Default ?? "null";
        return $"{type} {local} = reader.Optional({name}) is {{ }} {local}Value"
            + $" ? {Read(member.Type, local + "Value", name)} : {fallback};";
    }
}
