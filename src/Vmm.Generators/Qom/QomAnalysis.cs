using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using Microsoft.CodeAnalysis.CSharp.Syntax;
using Vmm.Generators.Qapi;

namespace Vmm.Generators.Qom;

/// <summary>Reads QOM types off attributed classes.</summary>
internal static class QomAnalysis
{
    public const string Prefix = "Vmm.ObjectModel.Qom.";
    public const string TypeAttribute = Prefix + "QomTypeAttribute";

    private const string PropertyAttribute = Prefix + "QomPropertyAttribute";
    private const string ObjectClass = Prefix + "QomObject";
    private const string DeviceClass = "Vmm.ObjectModel.Devices.Device";
    private const string StatefulInterface = "Vmm.ObjectModel.VmState.IVmStateful";
    private const string Q = "global::Vmm.Qapi.";

    public static QomTypeModel Analyze(GeneratorAttributeSyntaxContext context)
    {
        var type = (INamedTypeSymbol)context.TargetSymbol;
        AttributeData attribute = context.Attributes[0];
        Location? location = type.Locations.FirstOrDefault();
        var errors = new List<DiagnosticInfo>();
        string name = QapiSymbols.FirstArgument(attribute) ?? "";
        if (type.ContainingType != null || !((TypeDeclarationSyntax)context.TargetNode).Modifiers.Any(SyntaxKind.PartialKeyword))
        {
            errors.Add(DiagnosticInfo.At(Diagnostics.NotPartial, $"'{type.Name}' must be partial and not nested", location));
        }

        if (!DerivesFrom(type, ObjectClass))
        {
            errors.Add(DiagnosticInfo.At(Diagnostics.BadQomType, $"'{type.Name}' does not derive from QomObject", location));
        }

        bool isDevice = DerivesFrom(type, DeviceClass);
        if (isDevice && !type.IsAbstract && !SaysAboutMigration(type))
        {
            errors.Add(DiagnosticInfo.At(
                Diagnostics.MissingMigration,
                $"device '{name}' must implement IVmStateful or say [NotMigratable(\"reason\")]",
                location));
        }

        string? parent = QapiSymbols.Named<string?>(attribute, "Parent", null) ?? InheritedName(type);
        bool handWritten = type.GetMembers("TypeInfo").Any();
        List<QomPropertyModel> properties = Properties(type, isDevice, errors);
        foreach (IGrouping<string, QomPropertyModel> same in properties.GroupBy(p => p.Name).Where(g => g.Count() > 1))
        {
            errors.Add(DiagnosticInfo.At(Diagnostics.DuplicateName, $"property '{same.Key}' of '{name}' exists twice", location));
        }

        if (handWritten && properties.Count > 0)
        {
            errors.Add(DiagnosticInfo.At(
                Diagnostics.BadQomType, $"'{type.Name}' has a TypeInfo of its own, which leaves out its attributed properties", location));
        }

        return new QomTypeModel(
            type.ContainingNamespace.ToDisplayString(),
            type.Name,
            QapiSymbols.Qualified(type),
            name,
            string.IsNullOrEmpty(parent) ? null : parent,
            type.IsAbstract,
            BaseHasTypeInfo(type),
            !handWritten,
            !type.IsAbstract && !type.GetMembers("Type").Any(),
            !type.IsAbstract && type.InstanceConstructors.Any(c => c.Parameters.Length == 0) && !HasRequiredMembers(type),
            new EquatableArray<string>(Strings(attribute, "Interfaces")),
            QapiSymbols.Named<string?>(attribute, "Description", null),
            QapiSymbols.Named(attribute, "UserCreatable", true),
            QapiSymbols.Named(attribute, "Hotpluggable", true),
            QapiSymbols.Named<string?>(attribute, "BusType", null),
            QapiSymbols.Named<string?>(attribute, "Category", null),
            new EquatableArray<QomPropertyModel>(properties),
            DiagnosticInfo.At(Diagnostics.DuplicateName, name, location),
            new EquatableArray<DiagnosticInfo>(errors));
    }

    private static IEnumerable<string> Strings(AttributeData attribute, string name) => attribute.NamedArguments
        .Where(a => a.Key == name && a.Value.Kind == TypedConstantKind.Array)
        .SelectMany(a => a.Value.Values.Select(v => v.Value as string ?? ""));

    private static bool DerivesFrom(ITypeSymbol type, string name)
    {
        for (ITypeSymbol? t = type; t != null; t = t.BaseType)
        {
            if (t.ToDisplayString() == name)
            {
                return true;
            }
        }

        return false;
    }

    private static bool SaysAboutMigration(INamedTypeSymbol type)
    {
        if (type.AllInterfaces.Any(i => i.ToDisplayString() == StatefulInterface))
        {
            return true;
        }

        for (INamedTypeSymbol? t = type; t != null; t = t.BaseType)
        {
            if (t.GetAttributes().Any(a => a.AttributeClass?.Name is "NotMigratableAttribute" or "StatelessAttribute"))
            {
                return true;
            }
        }

        return false;
    }

    private static bool HasRequiredMembers(INamedTypeSymbol type)
    {
        for (INamedTypeSymbol? t = type; t != null; t = t.BaseType)
        {
            if (t.GetMembers().Any(m => m is IPropertySymbol { IsRequired: true } or IFieldSymbol { IsRequired: true }))
            {
                return true;
            }
        }

        return false;
    }

    private static string? TypeName(ITypeSymbol type) => QapiSymbols.FirstArgument(
        type.GetAttributes().FirstOrDefault(a => a.AttributeClass?.ToDisplayString() == TypeAttribute));

    private static string? InheritedName(INamedTypeSymbol type)
    {
        for (INamedTypeSymbol? t = type.BaseType; t != null; t = t.BaseType)
        {
            if (TypeName(t) is { } name)
            {
                return name;
            }
        }

        return null;
    }

    private static bool BaseHasTypeInfo(INamedTypeSymbol type)
    {
        for (INamedTypeSymbol? t = type.BaseType; t != null; t = t.BaseType)
        {
            if (TypeName(t) != null || t.GetMembers("TypeInfo").Any())
            {
                return true;
            }
        }

        return false;
    }

    private static List<QomPropertyModel> Properties(INamedTypeSymbol type, bool isDevice, List<DiagnosticInfo> errors)
    {
        var properties = new List<QomPropertyModel>();
        foreach (IPropertySymbol property in type.GetMembers().OfType<IPropertySymbol>())
        {
            AttributeData? attribute = property.GetAttributes()
                .FirstOrDefault(a => a.AttributeClass?.ToDisplayString() == PropertyAttribute);
            if (attribute == null)
            {
                continue;
            }

            bool isSize = QapiSymbols.Named(attribute, "IsSize", false);
            (string Type, string Get, string Set, bool Target)? form = Form(property.Type, isSize, "((" + type.Name + ")o).@" + property.Name);
            if (form is not { } f || property.IsStatic)
            {
                errors.Add(DiagnosticInfo.At(
                    Diagnostics.BadQomProperty,
                    $"'{property.Type.ToDisplayString()}' of '{type.Name}.{property.Name}' cannot be a QOM property",
                    property.Locations.FirstOrDefault()));
                continue;
            }

            properties.Add(new QomPropertyModel(
                QapiSymbols.FirstArgument(attribute) ?? "",
                property.Name,
                QapiSymbols.Named<string?>(attribute, "Type", null) ?? f.Type,
                property.GetMethod == null ? null : f.Get,
                property.SetMethod is null or { IsInitOnly: true } ? null : f.Set,
                f.Target,
                QapiSymbols.Named<string?>(attribute, "Description", null),
                QapiSymbols.Named<string?>(attribute, "Default", null),
                isDevice && !QapiSymbols.Named(attribute, "ObjectOnly", false),
                QapiSymbols.Named(attribute, "SettableAfterRealize", false)));
        }

        return properties;
    }

    private static (string Type, string Get, string Set, bool Target)? Form(ITypeSymbol declared, bool isSize, string access)
    {
        ITypeSymbol type = QapiSymbols.WithoutNullable(declared);
        bool nullableValue = declared.IsValueType && QapiSymbols.IsNullable(declared);
        string value = nullableValue ? $"{access}.GetValueOrDefault()" : access;
        (string, string, string, bool)? Integer(string name, string method, string widened) =>
            isSize ? null : (name, $"{Q}QNum.From(({widened}){value})", $"input.{method}()", false);
        switch (type.SpecialType)
        {
            case SpecialType.System_Boolean:
                return ("bool", $"{Q}QBool.From({value})", "input.ReadBool()", false);
            case SpecialType.System_String:
                return ("str", $"new {Q}QString({access} ?? \"\")", "input.ReadString()", false);
            case SpecialType.System_Double:
                return ("number", $"{Q}QNum.From({value})", "input.ReadDouble()", false);
            case SpecialType.System_Byte:
                return Integer("uint8", "ReadUInt8", "long");
            case SpecialType.System_UInt16:
                return Integer("uint16", "ReadUInt16", "long");
            case SpecialType.System_UInt32:
                return Integer("uint32", "ReadUInt32", "long");
            case SpecialType.System_UInt64 when isSize:
                return ("size", $"{Q}QNum.From({value})", "input.ReadSize()", false);
            case SpecialType.System_UInt64:
                return Integer("uint64", "ReadUInt64", "ulong");
            case SpecialType.System_SByte:
                return Integer("int8", "ReadInt8", "long");
            case SpecialType.System_Int16:
                return Integer("int16", "ReadInt16", "long");
            case SpecialType.System_Int32:
                return Integer("int32", "ReadInt32", "long");
            case SpecialType.System_Int64:
                return Integer("int64", "ReadInt64", "long");
        }

        if (type.ToDisplayString() == "Vmm.Qapi.QDict")
        {
            return ("dict", access, "default!", false);
        }

        string qualified = QapiSymbols.Qualified(type);
        if (QapiSymbols.Has(type, "QapiEnumAttribute"))
        {
            string name = QapiSymbols.FirstArgument(QapiSymbols.Attribute(type, "QapiNameAttribute")) ?? type.Name;
            return (
                name,
                $"new {Q}QString({qualified}Qapi.ToWire({value}))",
                $"{qualified}Qapi.Parse(input.ReadString(), input.Name)",
                false);
        }

        if (DerivesFrom(type, ObjectClass))
        {
            string name = TypeName(type) ?? InheritedName((INamedTypeSymbol)type) ?? "object";
            string cast = QapiSymbols.IsNullable(declared) ? $"({qualified}?)" : $"({qualified})";
            string assert = QapiSymbols.IsNullable(declared) ? "" : "!";
            return (
                $"link<{name}>",
                $"new {Q}QString({access}?.CanonicalPath ?? \"\")",
                $"{cast}input.ReadLink({Naming.Literal(name)}){assert}",
                true);
        }

        return null;
    }

    /// <summary>An expression of the run-time value of a JSON literal.</summary>
    public static string Literal(string json)
    {
        if (json is "true" or "false")
        {
            return json == "true" ? Q + "QBool.True" : Q + "QBool.False";
        }

        if (long.TryParse(json, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out long number))
        {
            return $"{Q}QNum.From({number.ToString(CultureInfo.InvariantCulture)}L)";
        }

        return $"{Q}QValue.Parse({Naming.Literal(json)})";
    }
}
