using System.Collections.Generic;
using System.Linq;

namespace Vmm.Generators.Qapi;

/// <summary>The generated half of an alternate: the JSON type of the value selects the property.</summary>
internal static class QapiAlternateEmitter
{
    private const string Q = QapiExpressions.Q;

    public static void Emit(CodeWriter w, ObjectModel model)
    {
        string members = string.Join(", ", model.Members.Select(m => $"static () => {QapiExpressions.Schema(m.Type)}"));
        w.Line($"private static {Q}SchemaAlternate? s_qapiSchema;");
        w.Line();
        w.Line("/// <summary>What introspection shows.</summary>");
        w.Line($"public static {Q}SchemaAlternate QapiSchema => s_qapiSchema ??= new([{members}]);");
        w.Line();
        w.Line("/// <summary>Reads a value by its JSON type.</summary>");
        w.Line($"/// <exception cref=\"{Q}QapiException\">The value has a type that is not among the choices.</exception>");
        w.Open($"public static {model.Name} QapiRead({Q}QValue value, {Q}QapiReader reader, string? name)");
        bool hasText = model.Members.Any(m => m.Type.Kind is WireKind.String or WireKind.Enum);
        foreach (MemberModel member in model.Members)
        {
            string pattern = Pattern(member.Type.Kind);
            string keyval = !hasText && member.Type.Kind is not (WireKind.Struct or WireKind.Union or WireKind.List or WireKind.Null)
                ? $" || (reader.Mode == {Q}QapiInputMode.Keyval && value is {Q}QString)"
                : "";
            w.Open($"if (value is {Q}{pattern}{keyval})");
            w.Line($"return new {model.Name} {{ @{member.CsName} = {QapiExpressions.Read(member.Type, "value", "name")} }};");
            w.Close();
            w.Line();
        }

        w.Line($"throw {Q}QapiReader.InvalidAlternate(name, {Naming.Literal(model.WireName)});");
        w.Close();
        w.Line();
        w.Line("/// <summary>Writes the choice that is set.</summary>");
        w.Open($"public void QapiWrite({Q}JsonWriter writer)");
        EmitChoice(w, model.Members, (member, local) => QapiExpressions.Write(w, member.Type, local));
        w.Close();
        w.Line();
        w.Line("/// <summary>The choice that is set as a run-time value.</summary>");
        w.Open($"public {Q}QValue QapiToValue()");
        foreach (MemberModel member in model.Members)
        {
            string local = "v" + member.CsName;
            w.Open($"if ({member.CsName} is {{ }} {local})");
            w.Line($"return {QapiExpressions.ToValue(member.Type, local)};");
            w.Close();
            w.Line();
        }

        w.Line("throw new global::System.InvalidOperationException(\"no choice is set\");");
        w.Close();
    }

    private static void EmitChoice(CodeWriter w, IEnumerable<MemberModel> members, System.Action<MemberModel, string> body)
    {
        string keyword = "if";
        foreach (MemberModel member in members)
        {
            string local = "v" + member.CsName;
            w.Open($"{keyword} ({member.CsName} is {{ }} {local})");
            body(member, local);
            w.Close();
            keyword = "else if";
        }
    }

    private static string Pattern(WireKind kind) => kind switch
    {
        WireKind.String or WireKind.Enum => "QString",
        WireKind.Bool => "QBool",
        WireKind.Null => "QNull",
        WireKind.List => "QList",
        WireKind.Struct or WireKind.Union or WireKind.Dict => "QDict",
        _ => "QNum",
    };
}
