using System.Collections.Generic;
using System.Linq;

namespace Vmm.Generators.Qapi;

/// <summary>The generated half of a struct, union, alternate or event.</summary>
internal static class QapiObjectEmitter
{
    private const string Q = QapiExpressions.Q;

    public static string Emit(ObjectModel model)
    {
        CodeWriter w = CodeWriter.ForFile();
        if (model.Namespace.Length > 0)
        {
            w.Line($"namespace {model.Namespace};");
            w.Line();
        }

        string bases = model.Event != null ? $" : {Q}IQmpEvent" : "";
        w.Open($"partial {model.Declaration} {model.Name}{bases}".Replace("  ", " "));
        if (model.Kind == WireKind.Alternate)
        {
            QapiAlternateEmitter.Emit(w, model);
        }
        else
        {
            EmitSchema(w, model);
            if (model.Event != null)
            {
                EmitEvent(w, model);
            }
            else
            {
                EmitRead(w, model);
                EmitToValue(w, model);
            }

            EmitWrite(w, model);
        }

        w.Close();
        return w.ToString();
    }

    private static string Hide(ObjectModel model) => model.HidesBase ? "new " : "";

    private static void EmitSchema(CodeWriter w, ObjectModel model)
    {
        w.Line($"private static {Q}SchemaObject? s_qapiSchema;");
        w.Line();
        w.Line("/// <summary>What introspection shows.</summary>");
        w.Line($"public {Hide(model)}static {Q}SchemaObject QapiSchema => s_qapiSchema ??= new(");
        w.Line("[");
        foreach (MemberModel member in model.Members)
        {
            w.Line($"    {QapiExpressions.SchemaMember(member)},");
        }

        string features = model.Features.Count > 0 ? $", {QapiExpressions.StringArray(model.Features)}" : "";
        if (model.Kind != WireKind.Union)
        {
            w.Line($"]{features});");
            w.Line();
            return;
        }

        w.Line($"], {Naming.Literal(model.Discriminator)},");
        w.Line("[");
        foreach (EnumValueModel tag in model.Tags)
        {
            BranchModel? branch = model.Branches.FirstOrDefault(b => b.Tags.Contains(tag.WireName));
            string type = branch == null ? $"{Q}SchemaObject.Empty"
                : branch.Wrapped ? $"s_qapi{branch.CsName}Wrapper ??= new([new(\"data\", static () => {QapiExpressions.Schema(branch.Type)})])"
                : QapiExpressions.Schema(branch.Type);
            w.Line($"    new({Naming.Literal(tag.WireName)}, static () => {type}),");
        }

        w.Line($"]{features});");
        w.Line();
        foreach (BranchModel branch in model.Branches.Where(b => b.Wrapped))
        {
            w.Line($"private static {Q}SchemaObject? s_qapi{branch.CsName}Wrapper;");
            w.Line();
        }
    }

    private static void EmitEvent(CodeWriter w, ObjectModel model)
    {
        EventModel e = model.Event!;
        w.Line($"private static {Q}QmpEventInfo? s_qmpEventInfo;");
        w.Line();
        w.Line("/// <summary>The declaration of the event.</summary>");
        w.Line($"public static {Q}QmpEventInfo QmpEventInfo => s_qmpEventInfo ??= new(");
        w.Line($"    {Naming.Literal(e.Name)},");
        w.Line($"    {e.RateLimitMs},");
        w.Line($"    {(model.Members.Count > 0 ? "true" : "false")},");
        w.Line("    static () => QapiSchema,");
        w.Line($"    {QapiExpressions.StringArray(model.Features)},");
        w.Line($"    {Naming.Literal(e.Doc)});");
        w.Line();
        w.Line($"{Q}QmpEventInfo {Q}IQmpEvent.Info => QmpEventInfo;");
        w.Line();
        string key = e.RateKey == null ? "null" : model.Members.First(m => m.WireName == e.RateKey).CsName;
        w.Line($"string? {Q}IQmpEvent.RateKey => {key};");
        w.Line();
    }

    private static void EmitRead(CodeWriter w, ObjectModel model)
    {
        w.Line("/// <summary>Reads an object.</summary>");
        w.Line($"/// <exception cref=\"{Q}QapiException\">The value does not fit the schema.</exception>");
        w.Open($"public {Hide(model)}static {model.Name} QapiRead({Q}QValue value, {Q}QapiReader reader, string? name)");
        w.Line("reader.BeginStruct(value, name);");
        w.Line($"{model.Name} result = QapiReadMembers(reader);");
        w.Line("reader.EndStruct();");
        w.Line("return result;");
        w.Close();
        w.Line();
        w.Line("/// <summary>Reads the members out of the object that the reader has entered.</summary>");
        w.Open($"public {Hide(model)}static {model.Name} QapiReadMembers({Q}QapiReader reader)");
        var locals = new List<string>();
        foreach (MemberModel member in model.Members)
        {
            string local = "m" + locals.Count;
            w.Line(QapiExpressions.ReadMember(member, local));
            locals.Add(local);
        }

        foreach (BranchModel branch in model.Branches)
        {
            w.Line($"{branch.Type.Name}? b{branch.CsName} = null;");
        }

        if (model.Branches.Count > 0)
        {
            EmitReadBranches(w, model, locals);
        }

        IEnumerable<string> arguments = model.Positional
            ? locals
            : model.Members.Select((m, i) => $"@{m.CsName} = {locals[i]}")
                .Concat(model.Branches.Select(b => $"@{b.CsName} = b{b.CsName}"));
        string list = string.Join(", ", arguments);
        w.Line(model.Positional ? $"return new {model.Name}({list});" : $"return new {model.Name} {{ {list} }};");
        w.Close();
        w.Line();
    }

    private static void EmitReadBranches(CodeWriter w, ObjectModel model, List<string> locals)
    {
        int tagIndex = TagIndex(model);
        string tagType = model.Members[tagIndex].Type.Name;
        w.Open($"switch ({locals[tagIndex]})");
        foreach (BranchModel branch in model.Branches)
        {
            foreach (string tag in branch.Tags)
            {
                w.Line($"case {tagType}.@{CsTag(model, tag)}:");
            }

            string read = branch.Wrapped
                ? QapiExpressions.Read(branch.Type, "reader.Required(\"data\")", "\"data\"")
                : branch.Type.Name + ".QapiReadMembers(reader)";
            w.Line($"    b{branch.CsName} = {read};");
            w.Line("    break;");
        }

        w.Close();
        w.Line();
    }

    private static void EmitToValue(CodeWriter w, ObjectModel model)
    {
        w.Line("/// <summary>The object as a run-time value.</summary>");
        w.Open($"public {Hide(model)}{Q}QDict QapiToValue()");
        w.Line($"var dict = new {Q}QDict({model.Members.Count + model.Branches.Count});");
        w.Line("QapiAddTo(dict);");
        w.Line("return dict;");
        w.Close();
        w.Line();
        w.Line("/// <summary>Adds the members to a run-time object.</summary>");
        w.Open($"public {Hide(model)}void QapiAddTo({Q}QDict dict)");
        int index = 0;
        foreach (MemberModel member in model.Members)
        {
            string name = Naming.Literal(member.WireName);
            if (member.Optional)
            {
                string local = "v" + index;
                w.Open($"if ({member.CsName} is {{ }} {local})");
                w.Line($"dict[{name}] = {QapiExpressions.ToValue(member.Type, local)};");
                w.Close();
            }
            else
            {
                w.Line($"dict[{name}] = {QapiExpressions.ToValue(member.Type, member.CsName)};");
            }

            index++;
        }

        foreach (BranchModel branch in model.Branches)
        {
            string local = "b" + branch.CsName;
            w.Open($"if ({branch.CsName} is {{ }} {local})");
            w.Line(branch.Wrapped
                ? $"dict[\"data\"] = {QapiExpressions.ToValue(branch.Type, local)};"
                : $"{local}.QapiAddTo(dict);");
            w.Close();
        }

        w.Close();
        w.Line();
    }

    private static void EmitWrite(CodeWriter w, ObjectModel model)
    {
        w.Line("/// <summary>Writes the object with its members in wire order.</summary>");
        w.Open($"public {Hide(model)}void QapiWrite({Q}JsonWriter writer)");
        if (model.Branches.Any(b => !b.MembersKnown))
        {
            // The members of a nested union are known only at run time.
            w.Line("QapiToValue().WriteTo(writer);");
            w.Close();
            return;
        }

        w.Line("writer.WriteStartObject();");
        List<(MemberModel, string)> own = model.Members.Select(m => (m, m.CsName)).ToList();
        if (model.Branches.Count == 0)
        {
            QapiExpressions.WriteMembers(w, own);
        }
        else
        {
            EmitWriteBranches(w, model, own);
        }

        w.Line("writer.WriteEndObject();");
        w.Close();
    }

    private static void EmitWriteBranches(CodeWriter w, ObjectModel model, List<(MemberModel, string)> own)
    {
        MemberModel tag = model.Members[TagIndex(model)];
        w.Open($"switch ({tag.CsName})");
        foreach (BranchModel branch in model.Branches)
        {
            string names = string.Join(" or ", branch.Tags.Select(name => $"{tag.Type.Name}.@{CsTag(model, name)}"));
            w.Line($"case {names} when {branch.CsName} is {{ }} branch:");
            IEnumerable<(MemberModel, string)> members = branch.Wrapped
                ? [(new MemberModel("data", "", branch.Type, false, default), "branch")]
                : branch.Members.Select(m => (m, "branch." + m.CsName));
            w.Open();
            QapiExpressions.WriteMembers(w, own.Concat(members).ToList());
            w.Line("break;");
            w.Close();
        }

        w.Line("default:");
        w.Open();
        QapiExpressions.WriteMembers(w, own);
        w.Line("break;");
        w.Close();
        w.Close();
        w.Line();
    }

    private static int TagIndex(ObjectModel model) => model.Members.ToList().FindIndex(m => m.WireName == model.Discriminator);

    private static string CsTag(ObjectModel model, string tag) => model.Tags.First(t => t.WireName == tag).CsName;
}
