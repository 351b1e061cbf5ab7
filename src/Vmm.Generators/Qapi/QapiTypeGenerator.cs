using System.Collections.Generic;
using System.Linq;
using System.Threading;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using Microsoft.CodeAnalysis.CSharp.Syntax;

namespace Vmm.Generators.Qapi;

/// <summary>Emits readers, writers, conversions and schemas for attributed records and enums, one file per type.</summary>
[Generator(LanguageNames.CSharp)]
public sealed class QapiTypeGenerator : IIncrementalGenerator
{
    /// <inheritdoc/>
    public void Initialize(IncrementalGeneratorInitializationContext context)
    {
        foreach (string attribute in new[] { "QapiStructAttribute", "QapiUnionAttribute", "QapiAlternateAttribute", "QmpEventAttribute" })
        {
            IncrementalValuesProvider<ObjectModel> objects = context.SyntaxProvider.ForAttributeWithMetadataName(
                QapiSymbols.Prefix + attribute,
                static (node, _) => node is TypeDeclarationSyntax,
                (syntax, token) => AnalyzeObject(syntax, attribute, token));
            context.RegisterSourceOutput(objects, static (output, model) =>
            {
                foreach (DiagnosticInfo error in model.Errors)
                {
                    error.Report(output);
                }

                if (model.Errors.Count == 0)
                {
                    output.AddSource(model.FullName.Replace("global::", "") + ".Qapi.g.cs", QapiObjectEmitter.Emit(model));
                }
            });
        }

        IncrementalValuesProvider<EnumModel> enums = context.SyntaxProvider.ForAttributeWithMetadataName(
            QapiSymbols.Prefix + "QapiEnumAttribute",
            static (node, _) => node is EnumDeclarationSyntax,
            static (syntax, _) => AnalyzeEnum(syntax));
        context.RegisterSourceOutput(enums, static (output, model) =>
        {
            foreach (DiagnosticInfo error in model.Errors)
            {
                error.Report(output);
            }

            if (model.Errors.Count == 0)
            {
                output.AddSource(model.FullName.Replace("global::", "") + ".Qapi.g.cs", QapiEnumEmitter.Emit(model));
            }
        });
    }

    private static EnumModel AnalyzeEnum(GeneratorAttributeSyntaxContext context)
    {
        var type = (INamedTypeSymbol)context.TargetSymbol;
        var errors = new List<DiagnosticInfo>();
        if (type.ContainingType != null)
        {
            errors.Add(DiagnosticInfo.At(Diagnostics.NotPartial, $"enum '{type.Name}' must not be nested", type.Locations.FirstOrDefault()));
        }

        EquatableArray<EnumValueModel> values = QapiSymbols.EnumValues(type);
        foreach (IGrouping<string, EnumValueModel> same in values.GroupBy(v => v.WireName).Where(g => g.Count() > 1))
        {
            errors.Add(DiagnosticInfo.At(
                Diagnostics.DuplicateName, $"value '{same.Key}' of '{type.Name}' exists twice", type.Locations.FirstOrDefault()));
        }

        return new EnumModel(
            Namespace(type),
            type.Name,
            QapiSymbols.Qualified(type),
            QapiSymbols.AccessibilityText(type),
            values,
            new EquatableArray<DiagnosticInfo>(errors));
    }

    private static ObjectModel AnalyzeObject(GeneratorAttributeSyntaxContext context, string attribute, CancellationToken token)
    {
        token.ThrowIfCancellationRequested();
        var type = (INamedTypeSymbol)context.TargetSymbol;
        var syntax = (TypeDeclarationSyntax)context.TargetNode;
        var errors = new List<DiagnosticInfo>();
        Location? location = type.Locations.FirstOrDefault();
        if (type.ContainingType != null || !syntax.Modifiers.Any(SyntaxKind.PartialKeyword))
        {
            errors.Add(DiagnosticInfo.At(Diagnostics.NotPartial, $"'{type.Name}' must be partial and not nested", location));
        }

        List<MemberModel> members = QapiSymbols.Members(type, errors);
        foreach (IGrouping<string, MemberModel> same in members.GroupBy(m => m.WireName).Where(g => g.Count() > 1))
        {
            errors.Add(DiagnosticInfo.At(Diagnostics.DuplicateName, $"member '{same.Key}' of '{type.Name}' exists twice", location));
        }

        var branches = new List<BranchModel>();
        string discriminator = "";
        EquatableArray<EnumValueModel> tags = default;
        if (attribute == "QapiUnionAttribute")
        {
            discriminator = QapiSymbols.Named(context.Attributes[0], "Discriminator", "type");
            MemberModel? tag = members.FirstOrDefault(m => m.WireName == discriminator);
            INamedTypeSymbol? tagType = QapiSymbols.MemberProperties(type)
                .FirstOrDefault(p => QapiSymbols.WireName(p) == discriminator)?.Type as INamedTypeSymbol;
            if (tag is not { Type.Kind: WireKind.Enum, Optional: false } || tagType == null)
            {
                errors.Add(DiagnosticInfo.At(
                    Diagnostics.BadUnion, $"'{type.Name}' needs a required enum member '{discriminator}'", location));
            }
            else
            {
                tags = QapiSymbols.EnumValues(tagType);
                branches = Branches(type, tags, errors);
            }
        }

        EventModel? qmpEvent = null;
        if (attribute == "QmpEventAttribute")
        {
            AttributeData data = context.Attributes[0];
            string doc = Docs.Summary(syntax);
            string? rateKey = QapiSymbols.Named<string?>(data, "RateKey", null);
            qmpEvent = new EventModel(QapiSymbols.FirstArgument(data) ?? "", QapiSymbols.Named(data, "RateLimitMs", 0), rateKey, doc);
            if (doc.Length == 0)
            {
                errors.Add(DiagnosticInfo.At(Diagnostics.MissingDoc, $"event '{qmpEvent.Name}' lacks a summary", location));
            }

            if (rateKey != null && members.FirstOrDefault(m => m.WireName == rateKey) is not { Type.Kind: WireKind.String })
            {
                errors.Add(DiagnosticInfo.At(
                    Diagnostics.BadSignature, $"event '{qmpEvent.Name}' has no string member '{rateKey}'", location));
            }
        }

        bool isRecord = syntax is RecordDeclarationSyntax;
        string declaration = (isRecord ? "record" : "") + (type.IsValueType ? isRecord ? " struct" : "struct" : isRecord ? "" : "class");
        WireKind kind = attribute switch
        {
            "QapiUnionAttribute" => WireKind.Union,
            "QapiAlternateAttribute" => WireKind.Alternate,
            _ => WireKind.Struct,
        };
        return new ObjectModel(
            Namespace(type),
            type.Name,
            QapiSymbols.Qualified(type),
            declaration,
            QapiSymbols.AccessibilityText(type),
            kind,
            QapiSymbols.IsPositional(type, members.Count) && branches.Count == 0,
            type.IsValueType,
            type.BaseType is { } b && QapiSymbols.IsWireObject(b),
            QapiSymbols.FirstArgument(QapiSymbols.Attribute(type, "QapiNameAttribute")) ?? type.Name,
            new EquatableArray<MemberModel>(members),
            new EquatableArray<BranchModel>(branches),
            discriminator,
            tags,
            QapiSymbols.Features(type),
            qmpEvent,
            new EquatableArray<DiagnosticInfo>(errors));
    }

    private static List<BranchModel> Branches(INamedTypeSymbol type, EquatableArray<EnumValueModel> tags, List<DiagnosticInfo> errors)
    {
        var branches = new List<BranchModel>();
        var used = new HashSet<string>();
        foreach (IPropertySymbol property in QapiSymbols.MemberProperties(type).Where(QapiSymbols.IsBranch))
        {
            Location? location = property.Locations.FirstOrDefault();
            WireType? wire = QapiSymbols.Classify(property.Type, property);
            AttributeData[] attributes = property.GetAttributes()
                .Where(a => a.AttributeClass?.ToDisplayString() == QapiSymbols.Prefix + "QapiBranchAttribute").ToArray();
            bool wrapped = attributes.Any(a => QapiSymbols.Named(a, "Wrapped", false));
            if (wire == null || (!wrapped && wire.Kind is not (WireKind.Struct or WireKind.Union)) || !QapiSymbols.IsNullable(property.Type))
            {
                errors.Add(DiagnosticInfo.At(
                    Diagnostics.BadUnion, $"branch '{property.Name}' must be a nullable property of a QAPI object type", location));
                continue;
            }

            string[] names = attributes.Select(a => QapiSymbols.FirstArgument(a) ?? "").ToArray();
            foreach (string name in names)
            {
                if (!tags.Any(t => t.WireName == name) || !used.Add(name))
                {
                    errors.Add(DiagnosticInfo.At(
                        Diagnostics.BadUnion, $"branch '{name}' is no value of the discriminator or exists twice", location));
                }
            }

            bool known = wire.Kind == WireKind.Struct && !wrapped;
            var members = known
                ? QapiSymbols.Members((INamedTypeSymbol)QapiSymbols.WithoutNullable(property.Type), null)
                : [];
            branches.Add(new BranchModel(
                property.Name,
                wire,
                new EquatableArray<string>(names),
                wrapped,
                new EquatableArray<MemberModel>(members),
                known || wrapped));
        }

        return branches;
    }

    private static string Namespace(INamedTypeSymbol type) =>
        type.ContainingNamespace.IsGlobalNamespace ? "" : type.ContainingNamespace.ToDisplayString();
}
