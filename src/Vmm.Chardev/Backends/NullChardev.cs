using Vmm.ObjectModel.Qom;

namespace Vmm.Chardevs;

/// <summary>Takes everything and never says anything. Never connected.</summary>
public sealed class NullChardev : BackendChardev
{
    /// <inheritdoc/>
    public override QomTypeInfo Type => ChardevQomTypes.Null;

    internal NullChardev(ChardevHost host)
        : base(host)
    {
        Filename = "null";
    }

    /// <inheritdoc/>
    private protected override int WriteMedium(ReadOnlySpan<byte> data) => data.Length;
}
