using Vmm.Block.Graph;

namespace Vmm.Block.Drivers;

/// <summary>
/// The filter that a commit job puts above the image whose contents go to its backing file: it asks nothing of the images below, which are
/// not consistent meanwhile, and is the place at which the overlay is pointed to the backing file.
/// </summary>
public sealed class CommitTopDriver : FilterDriver
{
    /// <inheritdoc/>
    public override string FormatName => "commit_top";

    /// <inheritdoc/>
    public override bool IsTemporary => true;

    /// <inheritdoc/>
    public override string ExactFilename => Child.Filename;

    /// <inheritdoc/>
    public override (BlockPermissions Needed, BlockPermissions Shared) ChildPermissions(
        BlockEdge child, BlockPermissions needed, BlockPermissions shared) => (BlockPermissions.None, BlockPermissions.All);
}
