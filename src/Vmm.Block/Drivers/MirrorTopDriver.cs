using Vmm.Block.Graph;

namespace Vmm.Block.Drivers;

/// <summary>
/// The filter that a mirror job puts above its source: it passes everything on, and marks the place at which the users of the source are
/// pointed to the target.
/// </summary>
public sealed class MirrorTopDriver : FilterDriver
{
    /// <inheritdoc/>
    public override string FormatName => "mirror_top";

    /// <inheritdoc/>
    public override BlockRequestFlags SupportedWriteFlags => base.SupportedWriteFlags | BlockRequestFlags.Fua;

    /// <inheritdoc/>
    public override BlockRequestFlags SupportedZeroFlags => base.SupportedZeroFlags | BlockRequestFlags.MayUnmap | BlockRequestFlags.Fua;

    /// <inheritdoc/>
    public override string ExactFilename => Child.Filename;
}
