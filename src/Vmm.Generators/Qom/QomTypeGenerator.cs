using System.Collections.Generic;
using System.Collections.Immutable;
using System.Linq;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp.Syntax;

namespace Vmm.Generators.Qom;

/// <summary>Emits type information for QOM classes, and one class per assembly that registers them all.</summary>
[Generator(LanguageNames.CSharp)]
public sealed class QomTypeGenerator : IIncrementalGenerator
{
    private const string Qom = "global::Vmm.ObjectModel.Qom.";

    /// <inheritdoc/>
    public void Initialize(IncrementalGeneratorInitializationContext context)
    {
        IncrementalValuesProvider<QomTypeModel> types = context.SyntaxProvider.ForAttributeWithMetadataName(
            QomAnalysis.TypeAttribute,
            static (node, _) => node is ClassDeclarationSyntax,
            static (syntax, _) => QomAnalysis.Analyze(syntax));
        context.RegisterSourceOutput(types, static (output, model) =>
        {
            foreach (DiagnosticInfo error in model.Errors)
            {
                error.Report(output);
            }

            // A missing word on migration is reported without the errors that missing code would add.
            bool emit = model.Errors.All(e => e.Id == Diagnostics.MissingMigration);
            if (emit && (model.EmitTypeInfo || model.EmitTypeOverride))
            {
                output.AddSource(model.FullName.Replace("global::", "") + ".Qom.g.cs", Emit(model));
            }
        });

        IncrementalValueProvider<string> assembly = context.CompilationProvider.Select(static (c, _) => c.AssemblyName ?? "Program");
        context.RegisterSourceOutput(types.Collect().Combine(assembly), static (output, inputs) => EmitCatalog(output, inputs.Left, inputs.Right));
    }

    private static string Emit(QomTypeModel model)
    {
        CodeWriter w = CodeWriter.ForFile();
        w.Line($"namespace {model.Namespace};");
        w.Line();
        w.Open($"partial class {model.ClassName}");
        if (model.EmitTypeInfo)
        {
            EmitTypeInfo(w, model);
        }

        if (model.EmitTypeOverride)
        {
            w.Line("/// <inheritdoc/>");
            w.Line($"public override {Qom}QomTypeInfo Type => TypeInfo;");
        }

        w.Close();
        return w.ToString();
    }

    private static void EmitTypeInfo(CodeWriter w, QomTypeModel model)
    {
        w.Line($"private static {Qom}QomTypeInfo? s_typeInfo;");
        w.Line();
        w.Line($"/// <summary>Type \"{model.Name}\".</summary>");
        string hide = model.HidesBase ? "new " : "";
        w.Open($"public static {hide}{Qom}QomTypeInfo TypeInfo => s_typeInfo ??= new {Qom}QomTypeInfo");
        w.Line($"Name = {Naming.Literal(model.Name)},");
        Text(w, "Parent", model.Parent);
        if (model.IsAbstract)
        {
            w.Line("IsAbstract = true,");
        }

        if (model.Interfaces.Count > 0)
        {
            w.Line($"Interfaces = [{string.Join(", ", model.Interfaces.Select(Naming.Literal))}],");
        }

        if (model.HasFactory)
        {
            w.Line($"Factory = static () => new {model.ClassName}(),");
        }

        Text(w, "Description", model.Description);
        Text(w, "BusType", model.BusType);
        Text(w, "Category", model.Category);
        if (!model.UserCreatable)
        {
            w.Line("UserCreatable = false,");
        }

        if (!model.Hotpluggable)
        {
            w.Line("Hotpluggable = false,");
        }

        if (model.Properties.Count > 0)
        {
            w.Line("Properties = static () =>");
            w.Line("[");
            foreach (QomPropertyModel property in model.Properties)
            {
                EmitProperty(w, model, property);
            }

            w.Line("],");
        }

        w.Close(";");
        w.Line();
    }

    private static void EmitProperty(CodeWriter w, QomTypeModel model, QomPropertyModel p)
    {
        w.Line($"    new {Qom}QomPropertyInfo(");
        w.Line($"        {Naming.Literal(p.Name)},");
        w.Line($"        {Naming.Literal(p.TypeText)},");
        w.Line($"        {(p.Get == null ? "null" : "static o => " + p.Get)},");
        w.Line($"        {(p.Set == null ? "null" : $"static (o, input) => (({model.ClassName})o).@{p.CsName} = {p.Set}")},");
        w.Line($"        {(p.Description == null ? "null" : Naming.Literal(p.Description))},");
        string announced = p.Default == null ? "null" : "static () => " + QomAnalysis.Literal(p.Default);
        var extras = new List<string>();
        if (p.IsDeviceProperty)
        {
            extras.Add("IsDeviceProperty = true");
        }

        if (p.SettableAfterRealize)
        {
            extras.Add("SettableAfterRealize = true");
        }

        if (p.Target)
        {
            extras.Add($"Target = static o => (({model.ClassName})o).@{p.CsName}");
        }

        w.Line($"        {announced}){(extras.Count > 0 ? "" : ",")}");
        if (extras.Count > 0)
        {
            w.Line($"    {{ {string.Join(", ", extras)} }},");
        }
    }

    private static void Text(CodeWriter w, string name, string? value)
    {
        if (value != null)
        {
            w.Line($"{name} = {Naming.Literal(value)},");
        }
    }

    private static void EmitCatalog(SourceProductionContext output, ImmutableArray<QomTypeModel> types, string assembly)
    {
        if (types.IsEmpty)
        {
            return;
        }

        foreach (IGrouping<string, QomTypeModel> same in types.GroupBy(t => t.Name).Where(g => g.Count() > 1))
        {
            (same.Last().Location with { Message = $"QOM type '{same.Key}' is declared twice" }).Report(output);
        }

        if (types.Any(t => t.Errors.Count > 0))
        {
            return;
        }

        CodeWriter w = CodeWriter.ForFile();
        w.Line($"namespace {assembly};");
        w.Line();
        w.Line("/// <summary>The QOM types that this assembly declares by attribute.</summary>");
        w.Open($"public static class {assembly.Substring(assembly.LastIndexOf('.') + 1)}QomTypes");
        w.Line("/// <summary>Registers them all.</summary>");
        w.Open($"public static void Register({Qom}QomTypeRegistry registry)");
        foreach (QomTypeModel type in types.OrderBy(t => t.Name, System.StringComparer.Ordinal))
        {
            w.Line($"registry.Add({type.FullName}.TypeInfo);");
        }

        w.Close();
        w.Close();
        output.AddSource("QomTypes.g.cs", w.ToString());
    }
}
