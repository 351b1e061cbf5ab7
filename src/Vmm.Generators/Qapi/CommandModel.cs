namespace Vmm.Generators.Qapi;

/// <summary>What a command parameter receives.</summary>
internal enum ParameterRole
{
    /// <summary>A member of the arguments.</summary>
    Member,

    /// <summary>All arguments in one record.</summary>
    Boxed,

    /// <summary>The arguments not otherwise declared.</summary>
    Rest,

    /// <summary>The calling monitor.</summary>
    Session,

    /// <summary>The writer of the result, for commands that write it themselves.</summary>
    Writer,

    /// <summary>The terminal of an HMP command.</summary>
    HmpContext,

    /// <summary>A format of an HMP command.</summary>
    HmpFormat,
}

/// <summary>A parameter of a command's method.</summary>
internal sealed record ParameterModel(ParameterRole Role, MemberModel? Member, string TypeName, bool Relaxed = false);

/// <summary>How a command's method completes.</summary>
internal enum Completion
{
    Synchronous,
    Task,
    ValueTask,
}

/// <summary>A QMP or HMP command.</summary>
internal sealed record CommandModel(
    bool IsHmp,
    string Name,
    string ArgsType,
    bool AllowOob,
    bool AllowPreconfig,
    bool SuccessResponse,
    string Since,
    string Doc,
    string Params,
    string Help,
    EquatableArray<string> Features,
    string ContainingType,
    string ContainingName,
    string MethodName,
    bool IsPublic,
    bool IsStatic,
    EquatableArray<ParameterModel> Parameters,
    WireType? Result,
    Completion Completion,
    string? ArgSchema,
    string? RetSchema,
    DiagnosticInfo Location,
    EquatableArray<DiagnosticInfo> Errors);

/// <summary>An event of the assembly's catalogue.</summary>
internal sealed record EventReference(string FullName, string Name, DiagnosticInfo Location);
