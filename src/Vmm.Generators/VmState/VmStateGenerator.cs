using System.Collections.Generic;
using System.Linq;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using Microsoft.CodeAnalysis.CSharp.Syntax;
using Vmm.Generators.Qapi;

namespace Vmm.Generators.VmState;

/// <summary>A field of a migration record.</summary>
/// <param name="CsName">C# name.</param>
/// <param name="TypeName">Fully qualified type of the field, or of its elements.</param>
/// <param name="Method">Suffix of the reader's and writer's method ("UInt32"); null for nested records.</param>
/// <param name="Cast">Type to which a value read is cast: that of an enum; empty otherwise.</param>
/// <param name="Wide">Type to which a value written is cast: the one under an enum.</param>
/// <param name="Length">Number of elements; 0 for a scalar.</param>
/// <param name="Since">First section version that has the field.</param>
/// <param name="NestedVersion">Version of a nested record or subsection.</param>
/// <param name="SubsectionName">Full name of a subsection; null for a field.</param>
internal sealed record VmFieldModel(
    string CsName,
    string TypeName,
    string? Method,
    string Cast,
    string Wide,
    int Length,
    int Since,
    int NestedVersion,
    string? SubsectionName);

/// <summary>A migration record.</summary>
internal sealed record VmStateModel(
    string Namespace,
    string Name,
    string FullName,
    string Declaration,
    string SectionName,
    int Version,
    int MinimumVersion,
    bool Positional,
    bool HasDefaults,
    EquatableArray<VmFieldModel> Fields,
    EquatableArray<DiagnosticInfo> Errors);

/// <summary>Emits big-endian save and load of migration records in declaration order.</summary>
[Generator(LanguageNames.CSharp)]
public sealed class VmStateGenerator : IIncrementalGenerator
{
    private const string Prefix = "Vmm.ObjectModel.VmState.";

    /// <inheritdoc/>
    public void Initialize(IncrementalGeneratorInitializationContext context)
    {
        IncrementalValuesProvider<VmStateModel> records = context.SyntaxProvider.ForAttributeWithMetadataName(
            Prefix + "VmStateAttribute",
            static (node, _) => node is TypeDeclarationSyntax,
            static (syntax, _) => Analyze(syntax));
        context.RegisterSourceOutput(records, static (output, model) =>
        {
            foreach (DiagnosticInfo error in model.Errors)
            {
                error.Report(output);
            }

            if (model.Errors.Count == 0)
            {
                output.AddSource(model.FullName.Replace("global::", "") + ".VmState.g.cs", VmStateEmitter.Emit(model));
            }
        });
    }

    private static AttributeData? Attribute(ISymbol? symbol, string name) =>
        symbol?.GetAttributes().FirstOrDefault(a => a.AttributeClass?.ToDisplayString() == Prefix + name);

    private static int IntArgument(AttributeData? attribute, int fallback) =>
        attribute is { ConstructorArguments.Length: > 0 } && attribute.ConstructorArguments[0].Value is int value ? value : fallback;

    private static VmStateModel Analyze(GeneratorAttributeSyntaxContext context)
    {
        var type = (INamedTypeSymbol)context.TargetSymbol;
        var syntax = (TypeDeclarationSyntax)context.TargetNode;
        AttributeData attribute = context.Attributes[0];
        Location? location = type.Locations.FirstOrDefault();
        var errors = new List<DiagnosticInfo>();
        if (type.ContainingType != null || !syntax.Modifiers.Any(SyntaxKind.PartialKeyword))
        {
            errors.Add(DiagnosticInfo.At(Diagnostics.NotPartial, $"'{type.Name}' must be partial and not nested", location));
        }

        int version = QapiSymbols.Named(attribute, "Version", 1);
        int minimum = QapiSymbols.Named(attribute, "MinimumVersion", 1);
        if (minimum > version || minimum < 0)
        {
            errors.Add(DiagnosticInfo.At(Diagnostics.BadVmState, $"'{type.Name}' reads no version that it writes", location));
        }

        string sectionName = QapiSymbols.FirstArgument(attribute) ?? "";
        List<IPropertySymbol> properties = type.GetMembers().OfType<IPropertySymbol>()
            .Where(p => !p.IsStatic && !p.IsIndexer && p.Name != "EqualityContract" && p.SetMethod != null)
            .ToList();
        bool positional = QapiSymbols.IsPositional(type, properties.Count);
        IMethodSymbol? constructor = positional
            ? type.InstanceConstructors.First(c => c.Parameters.Length == properties.Count && c.DeclaringSyntaxReferences.Length > 0)
            : null;
        var fields = new List<VmFieldModel>();
        foreach (IPropertySymbol property in properties)
        {
            IParameterSymbol? parameter = constructor?.Parameters.FirstOrDefault(p => p.Name == property.Name);
            if (Field(property, parameter, out string? problem) is { } field)
            {
                fields.Add(field);
            }

            if (problem != null)
            {
                errors.Add(DiagnosticInfo.At(
                    Diagnostics.BadVmState, $"'{type.Name}.{property.Name}' {problem}", property.Locations.FirstOrDefault()));
            }
        }

        bool record = syntax is RecordDeclarationSyntax;
        string kind = (record ? "record" : "") + (type.IsValueType ? record ? " struct" : "struct" : record ? "" : "class");
        return new VmStateModel(
            type.ContainingNamespace.ToDisplayString(),
            type.Name,
            QapiSymbols.Qualified(type),
            kind,
            sectionName,
            version,
            minimum,
            positional,
            !positional && properties.All(p => !p.IsRequired),
            new EquatableArray<VmFieldModel>(fields),
            new EquatableArray<DiagnosticInfo>(errors));
    }

    private static VmFieldModel? Field(IPropertySymbol property, IParameterSymbol? parameter, out string? problem)
    {
        problem = null;
        AttributeData? Find(string name) => Attribute(property, name) ?? Attribute(parameter, name);
        int since = IntArgument(Find("VmSinceAttribute"), 0);
        int length = IntArgument(Find("VmArrayAttribute"), 0);
        ITypeSymbol type = property.Type;
        if (Find("VmSubsectionAttribute") != null)
        {
            ITypeSymbol bare = QapiSymbols.WithoutNullable(type);
            AttributeData? nested = Attribute(bare, "VmStateAttribute");
            if (nested == null || !QapiSymbols.IsNullable(type))
            {
                problem = "must be a nullable [VmState] record to be a subsection";
                return null;
            }

            return new VmFieldModel(
                property.Name,
                QapiSymbols.Qualified(bare),
                null,
                "",
                "",
                0,
                since,
                QapiSymbols.Named(nested, "Version", 1),
                QapiSymbols.FirstArgument(nested));
        }

        if (type is IArrayTypeSymbol array)
        {
            type = array.ElementType;
            if (length <= 0)
            {
                problem = "is an array without [VmArray(length)]";
                return null;
            }
        }
        else if (length > 0)
        {
            problem = "has [VmArray] but is no array";
            return null;
        }

        string name = QapiSymbols.Qualified(type);
        if (Attribute(type, "VmStateAttribute") is { } record && !QapiSymbols.IsNullable(type))
        {
            int version = QapiSymbols.Named(record, "Version", 1);
            return new VmFieldModel(property.Name, name, null, "", "", length, since, version, null);
        }

        ITypeSymbol scalar = type.TypeKind == TypeKind.Enum ? ((INamedTypeSymbol)type).EnumUnderlyingType! : type;
        string? method = scalar.SpecialType switch
        {
            SpecialType.System_Boolean => "Bool",
            SpecialType.System_Byte => "UInt8",
            SpecialType.System_SByte => "Int8",
            SpecialType.System_UInt16 => "UInt16",
            SpecialType.System_Int16 => "Int16",
            SpecialType.System_UInt32 => "UInt32",
            SpecialType.System_Int32 => "Int32",
            SpecialType.System_UInt64 => "UInt64",
            SpecialType.System_Int64 => "Int64",
            _ => null,
        };
        if (method == null)
        {
            problem = $"of type '{property.Type.ToDisplayString()}' has no form in a migration stream";
            return null;
        }

        bool isEnum = !SymbolEqualityComparer.Default.Equals(scalar, type);
        string cast = isEnum ? $"({name})" : "";
        string wide = isEnum ? $"({QapiSymbols.Qualified(scalar)})" : "";
        return new VmFieldModel(property.Name, name, method, cast, wide, length, since, 0, null);
    }
}
