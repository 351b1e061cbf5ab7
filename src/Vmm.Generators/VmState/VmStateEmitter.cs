using System.Collections.Generic;
using System.Linq;

namespace Vmm.Generators.VmState;

/// <summary>The generated half of a migration record.</summary>
internal static class VmStateEmitter
{
    private const string V = "global::Vmm.ObjectModel.VmState.";

    public static string Emit(VmStateModel model)
    {
        CodeWriter w = CodeWriter.ForFile();
        w.Line($"namespace {model.Namespace};");
        w.Line();
        w.Open($"partial {model.Declaration} {model.Name}".Replace("  ", " "));
        w.Line("/// <summary>Name of the section on the wire.</summary>");
        w.Line($"public const string SectionName = {Naming.Literal(model.SectionName)};");
        w.Line();
        w.Line("/// <summary>Version written.</summary>");
        w.Line($"public const int SectionVersion = {model.Version};");
        w.Line();
        w.Line("/// <summary>Writes the fields, then the subsections that are present.</summary>");
        w.Open($"public void Save({V}VmStateWriter writer)");
        foreach (VmFieldModel field in model.Fields.Where(f => f.SubsectionName == null))
        {
            EmitSave(w, field);
        }

        int subsection = 0;
        foreach (VmFieldModel field in model.Fields.Where(f => f.SubsectionName != null))
        {
            string local = "s" + subsection++;
            w.Open($"if ({field.CsName} is {{ }} {local})");
            w.Line($"{V}VmStateFormat.BeginSubsection(writer, {Naming.Literal(field.SubsectionName!)}, {field.NestedVersion});");
            w.Line($"{local}.Save(writer);");
            w.Close();
        }

        w.Close();
        w.Line();
        EmitLoad(w, model);
        w.Close();
        return w.ToString();
    }

    private static void EmitSave(CodeWriter w, VmFieldModel field)
    {
        if (field.Length == 0)
        {
            w.Line(field.Method == null ? $"{field.CsName}.Save(writer);" : $"writer.Write{field.Method}({field.Wide}{field.CsName});");
            return;
        }

        w.Open($"if ({field.CsName}.Length != {field.Length})");
        w.Line($"throw new global::System.InvalidOperationException(\"{field.CsName} must have {field.Length} elements\");");
        w.Close();
        w.Line();
        if (field.Method == "UInt8" && field.Cast.Length == 0)
        {
            w.Line($"writer.WriteBytes({field.CsName});");
            return;
        }

        w.Open($"foreach ({field.TypeName} item in {field.CsName})");
        w.Line(field.Method == null ? "item.Save(writer);" : $"writer.Write{field.Method}({field.Wide}item);");
        w.Close();
        w.Line();
    }

    private static void EmitLoad(CodeWriter w, VmStateModel model)
    {
        w.Line("/// <summary>Reads a complete value; nothing is applied anywhere.</summary>");
        w.Line($"/// <exception cref=\"{V}VmStateException\">The stream is malformed or of a version that is not understood.</exception>");
        w.Open($"public static {model.Name} Load({V}VmStateReader reader, int version)");
        w.Open($"if (version is < {model.MinimumVersion} or > {model.Version})");
        w.Line($"throw new {V}VmStateException($\"{model.SectionName}: version {{version}} is not between {model.MinimumVersion} and {model.Version}\");");
        w.Close();
        w.Line();
        List<VmFieldModel> fields = model.Fields.ToList();
        if (model.HasDefaults && fields.Any(f => f.Since > model.MinimumVersion))
        {
            w.Line($"var defaults = new {model.Name}();");
        }

        for (int i = 0; i < fields.Count; i++)
        {
            if (fields[i].SubsectionName == null)
            {
                EmitLoadField(w, model, fields[i], "m" + i);
            }
        }

        List<int> subsections = Enumerable.Range(0, fields.Count).Where(i => fields[i].SubsectionName != null).ToList();
        foreach (int i in subsections)
        {
            w.Line($"{fields[i].TypeName}? m{i} = null;");
        }

        if (subsections.Count > 0)
        {
            EmitLoadSubsections(w, fields, subsections);
        }

        string list = string.Join(", ", fields.Select((f, i) => model.Positional ? "m" + i : $"@{f.CsName} = m{i}"));
        w.Line(model.Positional ? $"return new {model.Name}({list});" : $"return new {model.Name} {{ {list} }};");
        w.Close();
    }

    private static void EmitLoadField(CodeWriter w, VmStateModel model, VmFieldModel field, string local)
    {
        string read = field.Method == null
            ? $"{field.TypeName}.Load(reader, {field.NestedVersion})"
            : $"{field.Cast}reader.Read{field.Method}()";
        bool conditional = field.Since > model.MinimumVersion;
        if (field.Length == 0)
        {
            string absent = model.HasDefaults ? "defaults." + field.CsName : "default!";
            w.Line(conditional
                ? $"{field.TypeName} {local} = version >= {field.Since} ? {read} : {absent};"
                : $"{field.TypeName} {local} = {read};");
            return;
        }

        w.Line($"var {local} = new {field.TypeName}[{field.Length}];");
        if (conditional)
        {
            w.Open($"if (version >= {field.Since})");
        }

        if (field.Method == "UInt8" && field.Cast.Length == 0)
        {
            w.Line($"reader.ReadBytes({local});");
        }
        else
        {
            w.Open($"for (int i = 0; i < {local}.Length; i++)");
            w.Line($"{local}[i] = {read};");
            w.Close();
        }

        if (conditional)
        {
            w.Close();
            w.Open("else");
            w.Line(model.HasDefaults ? $"{local} = defaults.{field.CsName};" : $"{local} = new {field.TypeName}[{field.Length}];");
            w.Close();
        }

        w.Line();
    }

    private static void EmitLoadSubsections(CodeWriter w, List<VmFieldModel> fields, List<int> subsections)
    {
        w.Line("bool more = true;");
        w.Open("while (more)");
        string keyword = "if";
        foreach (int i in subsections)
        {
            w.Open($"{keyword} (reader.TryEnterSubsection({Naming.Literal(fields[i].SubsectionName!)}, out int v{i}))");
            w.Line($"m{i} = {fields[i].TypeName}.Load(reader, v{i});");
            w.Close();
            keyword = "else if";
        }

        w.Open("else");
        w.Line("more = false;");
        w.Close();
        w.Close();
        w.Line();
    }
}
