using System.Collections.Generic;
using System.Linq;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;

namespace Vmm.Generators.Qapi;

/// <summary>Turns an attributed method into a command model and checks it against its declared arguments.</summary>
internal static class CommandAnalysis
{
    public static IEnumerable<CommandModel> Analyze(GeneratorAttributeSyntaxContext context, bool isHmp)
    {
        var method = (IMethodSymbol)context.TargetSymbol;
        string doc = Docs.Summary(context.TargetNode);
        foreach (AttributeData attribute in context.Attributes)
        {
            yield return Analyze(method, attribute, doc, isHmp);
        }
    }

    private static CommandModel Analyze(IMethodSymbol method, AttributeData attribute, string doc, bool isHmp)
    {
        var errors = new List<DiagnosticInfo>();
        Location? location = method.Locations.FirstOrDefault();
        string name = QapiSymbols.FirstArgument(attribute) ?? "";
        string argsType = QapiSymbols.Named(attribute, "ArgsType", "");
        void Error(string id, string message) => errors.Add(DiagnosticInfo.At(id, $"{name}: {message}", location));

        List<ArgsTypeEntry> declared = ArgsTypeEntry.Parse(argsType, out string? syntaxError) ?? [];
        if (syntaxError != null)
        {
            Error(Diagnostics.ArgsTypeSyntax, syntaxError);
        }

        if (doc.Length == 0 && !isHmp)
        {
            Error(Diagnostics.MissingDoc, "the method lacks a summary");
        }

        if (method.DeclaredAccessibility is Accessibility.Private or Accessibility.Protected || method.IsGenericMethod)
        {
            Error(Diagnostics.BadSignature, "the method must be public or internal and not generic");
        }

        List<ParameterModel> parameters = Parameters(method, declared, isHmp, Error);
        if (syntaxError == null)
        {
            Check(declared, parameters, isHmp, Error);
        }

        (WireType? result, Completion completion) = Result(method, Error);
        if (isHmp && result != null)
        {
            Error(Diagnostics.BadSignature, "an HMP command prints its result");
        }

        string help = QapiSymbols.Named(attribute, "Help", "");
        return new CommandModel(
            isHmp,
            name,
            argsType,
            QapiSymbols.Named(attribute, "AllowOob", false),
            QapiSymbols.Named(attribute, "AllowPreconfig", false),
            QapiSymbols.Named(attribute, "SuccessResponse", true),
            QapiSymbols.Named(attribute, "Since", ""),
            doc,
            QapiSymbols.Named(attribute, "Params", ""),
            help,
            QapiSymbols.Features(method),
            QapiSymbols.Qualified(method.ContainingType),
            method.ContainingType.Name,
            method.Name,
            method.ContainingType.DeclaredAccessibility == Accessibility.Public,
            method.IsStatic,
            new EquatableArray<ParameterModel>(parameters),
            result,
            completion,
            SchemaOf(attribute, "ArgsSchema"),
            SchemaOf(attribute, "RetSchema"),
            DiagnosticInfo.At(Diagnostics.DuplicateName, name, location),
            new EquatableArray<DiagnosticInfo>(errors));
    }

    private static string? SchemaOf(AttributeData attribute, string name) =>
        QapiSymbols.Named<ITypeSymbol?>(attribute, name, null) is { } type && QapiSymbols.Classify(type) is { } wire
            ? QapiExpressions.Schema(wire)
            : null;

    private static List<ParameterModel> Parameters(
        IMethodSymbol method, List<ArgsTypeEntry> declared, bool isHmp, System.Action<string, string> error)
    {
        var parameters = new List<ParameterModel>();
        foreach (IParameterSymbol parameter in method.Parameters)
        {
            string typeName = QapiSymbols.Qualified(parameter.Type);
            string display = parameter.Type.WithNullableAnnotation(NullableAnnotation.NotAnnotated).ToDisplayString();
            if (display == QapiSymbols.Prefix + "IMonitorSession")
            {
                parameters.Add(new ParameterModel(ParameterRole.Session, null, typeName));
                continue;
            }

            if (display == QapiSymbols.Prefix + "JsonWriter" && !isHmp)
            {
                parameters.Add(new ParameterModel(ParameterRole.Writer, null, typeName));
                continue;
            }

            if (display == QapiSymbols.Prefix + "HmpContext" && isHmp)
            {
                parameters.Add(new ParameterModel(ParameterRole.HmpContext, null, typeName));
                continue;
            }

            string wireName = QapiSymbols.WireName(parameter);
            if (QapiSymbols.WithoutNullable(parameter.Type).ToDisplayString() == QapiSymbols.Prefix + "HmpFormat" && isHmp)
            {
                var format = new MemberModel(wireName, parameter.Name, new WireType(WireKind.Any, typeName, true), false, default);
                parameters.Add(new ParameterModel(ParameterRole.HmpFormat, format, typeName));
                continue;
            }

            WireType? wire = QapiSymbols.Classify(parameter.Type, parameter);
            if (wire == null)
            {
                error(Diagnostics.UnsupportedType, $"parameter '{parameter.Name}' of type '{display}' has no form on the wire");
                continue;
            }

            bool isObject = wire.Kind is WireKind.Struct or WireKind.Union;
            bool named = declared.Any(d => d.Name == wireName && d.Letter != 'O');
            bool optional = QapiSymbols.IsNullable(parameter.Type) || parameter.HasExplicitDefaultValue;
            string? fallback = Default(parameter);
            if (isHmp && !optional && declared.Any(d => d.Name == wireName && d.Letter == '-'))
            {
                // A flag that is not given is false.
                optional = true;
                fallback = "false";
            }

            var member = new MemberModel(
                wireName, parameter.Name, wire, optional, QapiSymbols.Features(parameter), fallback);
            ParameterRole role = isObject && !named ? ParameterRole.Boxed
                : wire.Kind == WireKind.Dict && (declared.Any(d => d.Letter == 'O') || (isHmp && !named)) ? ParameterRole.Rest
                : ParameterRole.Member;
            if (role == ParameterRole.Boxed)
            {
                CheckBoxed(declared, (INamedTypeSymbol)QapiSymbols.WithoutNullable(parameter.Type), wire.Kind, error);
            }

            parameters.Add(new ParameterModel(role, member, typeName, QapiSymbols.Has(parameter, "QapiRelaxedAttribute")));
        }

        return parameters;
    }

    private static string? Default(IParameterSymbol parameter)
    {
        if (!parameter.HasExplicitDefaultValue || parameter.ExplicitDefaultValue == null)
        {
            return null;
        }

        string literal = SymbolDisplay.FormatPrimitive(parameter.ExplicitDefaultValue, true, false) ?? "default";
        return parameter.Type.TypeKind == TypeKind.Enum ? $"({QapiSymbols.Qualified(parameter.Type)}){literal}" : literal;
    }

    private static (WireType? Result, Completion Completion) Result(IMethodSymbol method, System.Action<string, string> error)
    {
        ITypeSymbol type = method.ReturnType;
        Completion completion = Completion.Synchronous;
        if (type is INamedTypeSymbol { ContainingNamespace: { } ns } task && ns.ToDisplayString() == "System.Threading.Tasks"
            && task.Name is "Task" or "ValueTask")
        {
            completion = task.Name == "Task" ? Completion.Task : Completion.ValueTask;
            if (!task.IsGenericType)
            {
                return (null, completion);
            }

            type = task.TypeArguments[0];
        }

        if (type.SpecialType == SpecialType.System_Void)
        {
            return (null, completion);
        }

        WireType? wire = QapiSymbols.Classify(type);
        if (wire == null || QapiSymbols.IsNullable(type))
        {
            error(Diagnostics.UnsupportedType, $"the result type '{type.ToDisplayString()}' has no form on the wire");
        }

        return (wire, completion);
    }

    private static void Check(
        List<ArgsTypeEntry> declared, List<ParameterModel> parameters, bool isHmp, System.Action<string, string> error)
    {
        if (parameters.Any(p => p.Role == ParameterRole.Boxed))
        {
            if (parameters.Any(p => p.Role is ParameterRole.Member or ParameterRole.Rest))
            {
                error(Diagnostics.BadSignature, "a record with all arguments excludes other parameters");
            }

            return;
        }

        bool dictionary = isHmp && parameters.Any(p => p.Role == ParameterRole.Rest);
        foreach (ArgsTypeEntry entry in declared.Where(d => d.Letter is not 'O'))
        {
            ParameterModel? parameter = parameters.FirstOrDefault(p => p.Member?.WireName == entry.Name && p.Role != ParameterRole.Rest);
            if (parameter == null)
            {
                if (!dictionary)
                {
                    error(Diagnostics.ArgsTypeMismatch, $"no parameter is named '{entry.Name}'");
                }

                continue;
            }

            if (parameter.Role == ParameterRole.HmpFormat != (entry.Letter == '/')
                || (entry.Letter != '/' && !entry.Accepts(parameter.Member!.Type.Kind)))
            {
                error(Diagnostics.ArgsTypeMismatch, $"'{entry.Name}' is declared '{entry.Letter}' but is a {parameter.Member!.Type.Kind}");
            }
            else if (entry.Optional && !parameter.Member!.Optional && parameter.Role == ParameterRole.Member)
            {
                error(Diagnostics.ArgsTypeMismatch, $"'{entry.Name}' is declared optional but the parameter is required");
            }
            else if (!entry.Optional && parameter.Member!.Optional && parameter.Role == ParameterRole.Member
                && !parameter.Relaxed)
            {
                error(Diagnostics.ArgsTypeMismatch, $"'{entry.Name}' is declared required but the parameter is optional");
            }
        }

        foreach (ParameterModel parameter in parameters.Where(p => p.Role is ParameterRole.Member or ParameterRole.HmpFormat))
        {
            if (!declared.Any(d => d.Name == parameter.Member!.WireName))
            {
                error(Diagnostics.ArgsTypeMismatch, $"parameter '{parameter.Member!.WireName}' is not declared in ArgsType");
            }
        }

        if (declared.Any(d => d.Letter == 'O') && !parameters.Any(p => p.Role == ParameterRole.Rest))
        {
            error(Diagnostics.ArgsTypeMismatch, "an open argument list needs a QDict or record parameter");
        }
    }

    private static void CheckBoxed(
        List<ArgsTypeEntry> declared, INamedTypeSymbol type, WireKind kind, System.Action<string, string> error)
    {
        if (declared.Count == 1 && declared[0].Letter == 'O')
        {
            return;
        }

        List<IPropertySymbol> properties = QapiSymbols.MemberProperties(type).Where(p => !QapiSymbols.IsBranch(p)).ToList();
        foreach (ArgsTypeEntry entry in declared)
        {
            IPropertySymbol? property = properties.FirstOrDefault(p => QapiSymbols.WireName(p) == entry.Name);
            if (property == null)
            {
                if (kind == WireKind.Struct)
                {
                    error(Diagnostics.ArgsTypeMismatch, $"'{type.Name}' has no member '{entry.Name}'");
                }
            }
            else if (QapiSymbols.Classify(property.Type, property) is { } wire && !entry.Accepts(wire.Kind))
            {
                error(Diagnostics.ArgsTypeMismatch, $"'{entry.Name}' is declared '{entry.Letter}' but is a {wire.Kind}");
            }
            else if (entry.Optional != QapiSymbols.IsNullable(property.Type) && !QapiSymbols.Has(property, "QapiRelaxedAttribute"))
            {
                error(Diagnostics.ArgsTypeMismatch, $"'{entry.Name}' differs in being optional");
            }
        }

        foreach (IPropertySymbol property in properties.Where(p => !declared.Any(d => d.Name == QapiSymbols.WireName(p))))
        {
            error(Diagnostics.ArgsTypeMismatch, $"member '{QapiSymbols.WireName(property)}' is not declared in ArgsType");
        }
    }
}
