namespace Vmm.Generators.Qapi;

/// <summary>The companion class of an enum.</summary>
internal static class QapiEnumEmitter
{
    public static string Emit(EnumModel model)
    {
        CodeWriter w = CodeWriter.ForFile();
        if (model.Namespace.Length > 0)
        {
            w.Line($"namespace {model.Namespace};");
            w.Line();
        }

        string q = QapiExpressions.Q;
        string type = model.FullName;
        w.Line($"/// <summary>Wire names of <see cref=\"{model.Name}\"/>.</summary>");
        w.Open($"{model.Accessibility} static class {model.Name}Qapi");
        w.Line($"private static {q}SchemaEnum? s_schema;");
        w.Line();
        w.Line("/// <summary>What introspection shows.</summary>");
        w.Line($"public static {q}SchemaEnum Schema => s_schema ??= new(");
        w.Line("[");
        foreach (EnumValueModel value in model.Values)
        {
            string features = value.Features.Count > 0 ? ", " + QapiExpressions.StringArray(value.Features) : "";
            w.Line($"    new({Naming.Literal(value.WireName)}{features}),");
        }

        w.Line("]);");
        w.Line();
        EmitSwitch(w, model, "string", "ToWire", "");
        EmitSwitch(w, model, "global::System.ReadOnlySpan<byte>", "ToWireUtf8", "u8");
        w.Line("/// <summary>Finds the value of a wire name.</summary>");
        w.Open($"public static bool TryParse(string text, out {type} value)");
        w.Open("switch (text)");
        foreach (EnumValueModel value in model.Values)
        {
            w.Line($"case {Naming.Literal(value.WireName)}:");
            w.Line($"    value = {type}.@{value.CsName};");
            w.Line("    return true;");
        }

        w.Line("default:");
        w.Line("    value = default;");
        w.Line("    return false;");
        w.Close();
        w.Close();
        w.Line();
        w.Line("/// <summary>The value of a wire name that came as the named parameter.</summary>");
        w.Line($"/// <exception cref=\"{q}QapiException\">There is no such value.</exception>");
        w.Line($"public static {type} Parse(string text, string? parameter) => TryParse(text, out {type} value)");
        w.Line("    ? value");
        w.Line($"    : throw {q}QapiReader.InvalidEnum(parameter, text);");
        w.Line();
        w.Line("/// <summary>Reads a value.</summary>");
        w.Line($"public static {type} Read({q}QValue value, {q}QapiReader reader, string? name) =>");
        w.Line("    Parse(reader.String(value, name), name);");
        w.Close();
        return w.ToString();
    }

    private static void EmitSwitch(CodeWriter w, EnumModel model, string result, string method, string suffix)
    {
        w.Line("/// <summary>The wire name of a value.</summary>");
        w.Open($"public static {result} {method}(this {model.FullName} value) => value switch");
        foreach (EnumValueModel value in model.Values)
        {
            w.Line($"{model.FullName}.@{value.CsName} => {Naming.Literal(value.WireName)}{suffix},");
        }

        w.Line("_ => throw new global::System.ArgumentOutOfRangeException(nameof(value)),");
        w.Close(";");
        w.Line();
    }
}
