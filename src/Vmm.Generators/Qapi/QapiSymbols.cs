using System.Collections.Generic;
using System.Linq;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;

namespace Vmm.Generators.Qapi;

/// <summary>Reads wire forms off symbols; works on types of this and of referenced assemblies alike.</summary>
internal static class QapiSymbols
{
    public const string Prefix = "Vmm.Qapi.";

    private static readonly SymbolDisplayFormat s_qualified = SymbolDisplayFormat.FullyQualifiedFormat
        .WithMiscellaneousOptions(SymbolDisplayMiscellaneousOptions.EscapeKeywordIdentifiers
            | SymbolDisplayMiscellaneousOptions.UseSpecialTypes);

    public static string Qualified(ITypeSymbol type) => type.ToDisplayString(s_qualified);

    public static AttributeData? Attribute(ISymbol symbol, string name) =>
        symbol.GetAttributes().FirstOrDefault(a => a.AttributeClass?.ToDisplayString() == Prefix + name);

    public static bool Has(ISymbol symbol, string name) => Attribute(symbol, name) != null;

    public static string? FirstArgument(AttributeData? attribute) =>
        attribute is { ConstructorArguments.Length: > 0 } ? attribute.ConstructorArguments[0].Value as string : null;

    public static T Named<T>(AttributeData attribute, string name, T fallback)
    {
        foreach (KeyValuePair<string, TypedConstant> argument in attribute.NamedArguments)
        {
            if (argument.Key == name && argument.Value.Value is T value)
            {
                return value;
            }
        }

        return fallback;
    }

    public static string WireName(ISymbol symbol) => FirstArgument(Attribute(symbol, "QapiNameAttribute")) ?? Naming.Kebab(symbol.Name);

    public static EquatableArray<string> Features(ISymbol symbol) => new(symbol.GetAttributes()
        .Where(a => a.AttributeClass?.ToDisplayString() == Prefix + "QapiFeatureAttribute")
        .Select(a => FirstArgument(a) ?? ""));

    /// <summary>The wire form of a type without its outer nullability; null when it has none.</summary>
    public static WireType? Classify(ITypeSymbol type, ISymbol? declaration = null)
    {
        type = WithoutNullable(type);
        string name = Qualified(type);
        WireType Of(WireKind kind) => new(kind, name, type.IsValueType);
        switch (type.SpecialType)
        {
            case SpecialType.System_String:
                return Of(WireKind.String);
            case SpecialType.System_Boolean:
                return Of(WireKind.Bool);
            case SpecialType.System_SByte:
                return Of(WireKind.Int8);
            case SpecialType.System_Int16:
                return Of(WireKind.Int16);
            case SpecialType.System_Int32:
                return Of(WireKind.Int32);
            case SpecialType.System_Int64:
                return Of(WireKind.Int64);
            case SpecialType.System_Byte:
                return Of(WireKind.UInt8);
            case SpecialType.System_UInt16:
                return Of(WireKind.UInt16);
            case SpecialType.System_UInt32:
                return Of(WireKind.UInt32);
            case SpecialType.System_UInt64:
                return Of(declaration != null && Has(declaration, "QapiSizeAttribute") ? WireKind.Size : WireKind.UInt64);
            case SpecialType.System_Double:
                return Of(WireKind.Number);
        }

        if (type is IArrayTypeSymbol { Rank: 1 } array)
        {
            return Classify(array.ElementType) is { } element ? new WireType(WireKind.List, name, false, element) : null;
        }

        if (type is not INamedTypeSymbol named)
        {
            return null;
        }

        if (named.IsGenericType && named.TypeArguments.Length == 1)
        {
            string definition = named.ConstructedFrom.ToDisplayString();
            bool isList = definition == "System.Collections.Generic.List<T>";
            bool readOnly = definition is "System.Collections.Generic.IReadOnlyList<T>"
                or "System.Collections.Generic.IReadOnlyCollection<T>" or "System.Collections.Generic.IEnumerable<T>";
            return (isList || readOnly) && Classify(named.TypeArguments[0]) is { } element
                ? new WireType(WireKind.List, name, false, element, isList ? "list" : "array")
                : null;
        }

        return named.ToDisplayString() switch
        {
            Prefix + "QValue" => Of(WireKind.Any),
            Prefix + "QDict" => Of(WireKind.Dict),
            Prefix + "QNull" => Of(WireKind.Null),
            _ when Has(named, "QapiEnumAttribute") => Of(WireKind.Enum),
            _ when Has(named, "QapiStructAttribute") => Of(WireKind.Struct),
            _ when Has(named, "QapiUnionAttribute") => Of(WireKind.Union),
            _ when Has(named, "QapiAlternateAttribute") => Of(WireKind.Alternate),
            _ => null,
        };
    }

    public static ITypeSymbol WithoutNullable(ITypeSymbol type) =>
        type is INamedTypeSymbol { OriginalDefinition.SpecialType: SpecialType.System_Nullable_T } nullable
            ? nullable.TypeArguments[0]
            : type.WithNullableAnnotation(NullableAnnotation.NotAnnotated);

    public static bool IsNullable(ITypeSymbol type) =>
        type.OriginalDefinition.SpecialType == SpecialType.System_Nullable_T || type.NullableAnnotation == NullableAnnotation.Annotated;

    /// <summary>The properties that are members, those of base records first.</summary>
    public static IEnumerable<IPropertySymbol> MemberProperties(INamedTypeSymbol type)
    {
        IEnumerable<IPropertySymbol> inherited = type.BaseType is { } b && IsWireObject(b) ? MemberProperties(b) : [];
        return inherited.Concat(type.GetMembers().OfType<IPropertySymbol>().Where(p =>
            !p.IsStatic && !p.IsIndexer && p.DeclaredAccessibility is Accessibility.Public or Accessibility.Internal
            && !p.IsImplicitlyDeclaredContract() && !p.IsOverride
            && p.ExplicitInterfaceImplementations.IsEmpty && !Has(p, "QapiIgnoreAttribute")));
    }

    public static bool IsWireObject(INamedTypeSymbol type) =>
        Has(type, "QapiStructAttribute") || Has(type, "QapiUnionAttribute") || Has(type, "QmpEventAttribute");

    public static bool IsBranch(IPropertySymbol property) => Has(property, "QapiBranchAttribute");

    /// <summary>The members of an object type, without the branches of a union.</summary>
    public static List<MemberModel> Members(INamedTypeSymbol type, List<DiagnosticInfo>? errors)
    {
        var members = new List<MemberModel>();
        foreach (IPropertySymbol property in MemberProperties(type).Where(p => !IsBranch(p)))
        {
            WireType? wire = Classify(property.Type, property);
            if (wire == null)
            {
                errors?.Add(DiagnosticInfo.At(
                    Diagnostics.UnsupportedType,
                    $"'{property.Type.ToDisplayString()}' of '{type.Name}.{property.Name}' has no form on the wire",
                    property.Locations.FirstOrDefault()));
                continue;
            }

            members.Add(new MemberModel(WireName(property), property.Name, wire, IsNullable(property.Type), Features(property)));
        }

        return members;
    }

    /// <summary>Whether the record has a primary constructor that takes all members in order.</summary>
    public static bool IsPositional(INamedTypeSymbol type, int memberCount) => memberCount > 0
        && type.InstanceConstructors.Any(c => c.Parameters.Length == memberCount
            && c.DeclaringSyntaxReferences.Any(r => r.GetSyntax() is Microsoft.CodeAnalysis.CSharp.Syntax.RecordDeclarationSyntax));

    public static EquatableArray<EnumValueModel> EnumValues(INamedTypeSymbol type) => new(type.GetMembers().OfType<IFieldSymbol>()
        .Where(f => f.HasConstantValue)
        .Select(f => new EnumValueModel(WireName(f), f.Name, Features(f))));

    public static string AccessibilityText(INamedTypeSymbol type) =>
        type.DeclaredAccessibility == Accessibility.Public ? "public" : "internal";

    private static bool IsImplicitlyDeclaredContract(this IPropertySymbol property) => property.Name == "EqualityContract";
}
