namespace Vmm.Qapi.Options;

/// <summary>Receives what option parsing has to say besides its result. Errors are exceptions, never reported here.</summary>
public interface IOptionDiagnostics
{
    /// <summary>A warning: accepted, but deprecated or without effect.</summary>
    /// <param name="text">One line without prefix.</param>
    /// <param name="hint">A second line that is printed without prefix, or null.</param>
    void Warning(string text, string? hint = null);
}

/// <summary>Drops all warnings.</summary>
public sealed class SilentOptionDiagnostics : IOptionDiagnostics
{
    /// <summary>The only instance.</summary>
    public static readonly SilentOptionDiagnostics Instance = new();

    private SilentOptionDiagnostics()
    {
    }

    /// <inheritdoc/>
    public void Warning(string text, string? hint = null)
    {
    }
}
