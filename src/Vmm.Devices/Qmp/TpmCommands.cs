using Vmm.Qapi;

namespace Vmm.Devices.Qmp;

/// <summary>Front ends of a trusted platform module.</summary>
[QapiEnum]
public enum TpmModel
{
    /// <summary>TIS.</summary>
    TpmTis,

    /// <summary>CRB.</summary>
    TpmCrb,

    /// <summary>sPAPR.</summary>
    TpmSpapr,
}

/// <summary>Back ends of a trusted platform module.</summary>
[QapiEnum]
public enum TpmType
{
    /// <summary>A host TPM.</summary>
    Passthrough,

    /// <summary>An emulator process.</summary>
    Emulator,
}

/// <summary>A host TPM.</summary>
[QapiStruct]
[QapiName("TPMPassthroughOptions")]
public sealed partial record TpmPassthroughOptions
{
    /// <summary>Device node.</summary>
    public string? Path { get; init; }

    /// <summary>File that cancels commands.</summary>
    [QapiName("cancel-path")]
    public string? CancelPath { get; init; }
}

/// <summary>An emulator process.</summary>
[QapiStruct]
[QapiName("TPMEmulatorOptions")]
public sealed partial record TpmEmulatorOptions
{
    /// <summary>Character device of its control channel.</summary>
    public required string Chardev { get; init; }
}

/// <summary>Options of a back end.</summary>
[QapiUnion(Discriminator = "type")]
public sealed partial record TpmTypeOptions
{
    /// <summary>Which one.</summary>
    public required TpmType Type { get; init; }

    /// <summary>Of a host TPM.</summary>
    [QapiBranch("passthrough", Wrapped = true)]
    public TpmPassthroughOptions? Passthrough { get; init; }

    /// <summary>Of an emulator.</summary>
    [QapiBranch("emulator", Wrapped = true)]
    public TpmEmulatorOptions? Emulator { get; init; }
}

/// <summary>A trusted platform module.</summary>
[QapiStruct]
[QapiName("TPMInfo")]
public sealed partial record TpmInfo
{
    /// <summary>Its id.</summary>
    public required string Id { get; init; }

    /// <summary>Its front end.</summary>
    public required TpmModel Model { get; init; }

    /// <summary>Its back end.</summary>
    public required TpmTypeOptions Options { get; init; }
}

/// <summary>Commands about trusted platform modules, of which this program has none.</summary>
public static class TpmCommands
{
    /// <summary>The modules of the machine.</summary>
    [QmpCommand("query-tpm", Since = "1.5")]
    public static List<TpmInfo> QueryTpm() => [];

    /// <summary>Shows the modules of the machine.</summary>
    [HmpCommand("info tpm", Help = "show the TPM device")]
    public static void InfoTpm(HmpContext context)
    {
        List<TpmInfo> modules = QueryTpm();
        if (modules.Count > 0)
        {
            context.PrintLine("TPM device:");
        }

        for (int i = 0; i < modules.Count; i++)
        {
            TpmInfo module = modules[i];
            context.PrintLine($" tpm{i}: model={module.Model.ToWire()}");
            context.Print($"  \\ {module.Id}: type={module.Options.Type.ToWire()}");
            context.Print(module.Options.Passthrough?.Path is { } path ? ",path=" + path : "");
            context.Print(module.Options.Passthrough?.CancelPath is { } cancel ? ",cancel-path=" + cancel : "");
            context.PrintLine(module.Options.Emulator?.Chardev is { } chardev ? ",chardev=" + chardev : "");
        }
    }

    /// <summary>The front ends that exist.</summary>
    [QmpCommand("query-tpm-models", Since = "1.5")]
    public static List<TpmModel> QueryTpmModels() => [];

    /// <summary>The back ends that exist.</summary>
    [QmpCommand("query-tpm-types", Since = "1.5")]
    public static List<TpmType> QueryTpmTypes() => [];
}
