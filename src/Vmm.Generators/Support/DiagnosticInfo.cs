using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.Text;

namespace Vmm.Generators;

/// <summary>A diagnostic as a value, so that models stay comparable.</summary>
internal sealed record DiagnosticInfo(string Id, string Message, string Path, TextSpan Span, LinePositionSpan Lines)
{
    public static DiagnosticInfo At(string id, string message, Location? location) => new(
        id,
        message,
        location?.SourceTree?.FilePath ?? "",
        location?.SourceSpan ?? default,
        location?.GetLineSpan().Span ?? default);

    public void Report(SourceProductionContext context)
    {
        DiagnosticDescriptor descriptor = Diagnostics.Descriptor(Id);
        Location location = Path.Length == 0 ? Location.None : Location.Create(Path, Span, Lines);
        context.ReportDiagnostic(Diagnostic.Create(descriptor, location, Message));
    }
}

/// <summary>The rules that the generators enforce.</summary>
internal static class Diagnostics
{
    public const string NotPartial = "VMM001";
    public const string UnsupportedType = "VMM002";
    public const string ArgsTypeMismatch = "VMM003";
    public const string ArgsTypeSyntax = "VMM004";
    public const string DuplicateName = "VMM005";
    public const string MissingDoc = "VMM006";
    public const string BadUnion = "VMM007";
    public const string BadSignature = "VMM008";
    public const string BadQomType = "VMM020";
    public const string BadQomProperty = "VMM021";
    public const string MissingMigration = "VMM022";
    public const string BadVmState = "VMM030";

    public static DiagnosticDescriptor Descriptor(string id) => new(
        id,
        id switch
        {
            NotPartial => "Type must be partial and not nested",
            UnsupportedType => "Type has no form on the wire",
            ArgsTypeMismatch => "Declared arguments and parameters differ",
            ArgsTypeSyntax => "Declared arguments are malformed",
            DuplicateName => "Name is declared twice",
            MissingDoc => "Declaration lacks a doc comment",
            BadUnion => "Union is inconsistent",
            BadSignature => "Method signature does not fit its attribute",
            BadQomType => "QOM type is declared inconsistently",
            BadQomProperty => "QOM property is declared inconsistently",
            MissingMigration => "Device says nothing about migration",
            _ => "Migration record is inconsistent",
        },
        "{0}",
        "Vmm",
        DiagnosticSeverity.Error,
        isEnabledByDefault: true);
}
