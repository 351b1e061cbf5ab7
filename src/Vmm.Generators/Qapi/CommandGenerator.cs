using System.Collections.Generic;
using System.Collections.Immutable;
using System.Linq;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp.Syntax;

namespace Vmm.Generators.Qapi;

/// <summary>Emits one catalogue per assembly that registers its commands and events.</summary>
[Generator(LanguageNames.CSharp)]
public sealed class CommandGenerator : IIncrementalGenerator
{
    /// <inheritdoc/>
    public void Initialize(IncrementalGeneratorInitializationContext context)
    {
        IncrementalValuesProvider<CommandModel> qmp = context.SyntaxProvider.ForAttributeWithMetadataName(
            QapiSymbols.Prefix + "QmpCommandAttribute",
            static (node, _) => node is MethodDeclarationSyntax,
            static (syntax, _) => new EquatableArray<CommandModel>(CommandAnalysis.Analyze(syntax, isHmp: false)))
            .SelectMany(static (commands, _) => commands);
        IncrementalValuesProvider<CommandModel> hmp = context.SyntaxProvider.ForAttributeWithMetadataName(
            QapiSymbols.Prefix + "HmpCommandAttribute",
            static (node, _) => node is MethodDeclarationSyntax,
            static (syntax, _) => new EquatableArray<CommandModel>(CommandAnalysis.Analyze(syntax, isHmp: true)))
            .SelectMany(static (commands, _) => commands);
        IncrementalValuesProvider<EventReference> events = context.SyntaxProvider.ForAttributeWithMetadataName(
            QapiSymbols.Prefix + "QmpEventAttribute",
            static (node, _) => node is TypeDeclarationSyntax,
            static (syntax, _) => new EventReference(
                QapiSymbols.Qualified((INamedTypeSymbol)syntax.TargetSymbol),
                QapiSymbols.FirstArgument(syntax.Attributes[0]) ?? "",
                DiagnosticInfo.At(Diagnostics.DuplicateName, syntax.TargetSymbol.Name, syntax.TargetSymbol.Locations.FirstOrDefault())));
        // The name of the executable's assembly is no identifier; its root namespace is.
        IncrementalValueProvider<string> assembly = context.CompilationProvider
            .Select(static (c, _) => c.AssemblyName ?? "Program")
            .Combine(context.AnalyzerConfigOptionsProvider.Select(static (o, _) =>
                o.GlobalOptions.TryGetValue("build_property.RootNamespace", out string? name) ? name : null))
            .Select(static (pair, _) => string.IsNullOrEmpty(pair.Right) ? pair.Left : pair.Right!);

        context.RegisterSourceOutput(
            qmp.Collect().Combine(hmp.Collect()).Combine(events.Collect()).Combine(assembly),
            static (output, inputs) => Produce(output, inputs.Left.Left.Left, inputs.Left.Left.Right, inputs.Left.Right, inputs.Right));
    }

    private static void Produce(
        SourceProductionContext output,
        ImmutableArray<CommandModel> qmp,
        ImmutableArray<CommandModel> hmp,
        ImmutableArray<EventReference> events,
        string assembly)
    {
        if (qmp.IsEmpty && hmp.IsEmpty && events.IsEmpty)
        {
            return;
        }

        bool failed = false;
        foreach (DiagnosticInfo error in qmp.Concat(hmp).SelectMany(c => c.Errors))
        {
            error.Report(output);
            failed = true;
        }

        failed |= ReportDuplicates(output, qmp.Select(c => (c.Name, c.Location)), "command");
        failed |= ReportDuplicates(output, hmp.SelectMany(HmpNames), "HMP command");
        failed |= ReportDuplicates(output, events.Select(e => (e.Name, e.Location)), "event");
        if (!failed)
        {
            // The order of files in a compilation must not show in the output.
            output.AddSource("Catalog.g.cs", CatalogEmitter.Emit(
                assembly,
                qmp.OrderBy(c => c.Name, System.StringComparer.Ordinal).ToList(),
                hmp.OrderBy(c => c.Name, System.StringComparer.Ordinal).ToList(),
                events.OrderBy(e => e.Name, System.StringComparer.Ordinal).ToList()));
        }
    }

    private static IEnumerable<(string Name, DiagnosticInfo Location)> HmpNames(CommandModel command)
    {
        int space = command.Name.IndexOf(' ');
        string group = command.Name.Substring(0, space + 1);
        return command.Name.Substring(space + 1).Split('|').Select(name => (group + name, command.Location));
    }

    private static bool ReportDuplicates(
        SourceProductionContext output, IEnumerable<(string Name, DiagnosticInfo Location)> names, string what)
    {
        bool any = false;
        foreach (IGrouping<string, (string Name, DiagnosticInfo Location)> same in names.GroupBy(n => n.Name).Where(g => g.Count() > 1))
        {
            (same.Last().Location with { Message = $"{what} '{same.Key}' is declared twice" }).Report(output);
            any = true;
        }

        return any;
    }
}
