using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;

namespace Vmm.Block.Drivers;

/// <summary>
/// The behaviour and state of one node. Request methods run on the node's home loop, get offsets and lengths that keep to
/// <see cref="BlockLimits"/> and lie within the node (writes may end behind its end only where the node grows), and return 0 or a negative
/// errno. The defaults suit a driver without the feature. Everything else: main loop, no request under way.
/// </summary>
public abstract class BlockDriver
{
    private BlockNode? _node;

    /// <summary>The name on the wire: "raw", "qcow2", ...</summary>
    public abstract string FormatName { get; }

    /// <summary>Shows the contents of its child, which is in the role <see cref="ChildRole.Filtered"/>.</summary>
    public virtual bool IsFilter => false;

    /// <summary>Interprets the contents of a child, as opposed to a protocol or a filter.</summary>
    public virtual bool IsFormat => false;

    /// <summary>May have a backing file.</summary>
    public virtual bool SupportsBacking => false;

    /// <summary>Reads and writes need no permission on the data child by itself: contents are checked or transformed.</summary>
    public virtual bool IsEncrypted => false;

    /// <summary>Has compressed clusters.</summary>
    public virtual bool SupportsCompression => false;

    /// <summary>The driver has given up its image: requests end with ENOMEDIUM.</summary>
    public virtual bool IsEjected => false;

    /// <summary>The node whose behaviour this is.</summary>
    public BlockNode Node => _node ?? throw new InvalidOperationException("a driver without node");

    /// <summary>Flags of <see cref="WriteAsync"/> that the driver carries out itself; others are emulated (Fua by a flush).</summary>
    public virtual BlockRequestFlags SupportedWriteFlags => BlockRequestFlags.None;

    /// <summary>Flags of <see cref="WriteZeroesAsync"/> that the driver carries out itself.</summary>
    public virtual BlockRequestFlags SupportedZeroFlags => BlockRequestFlags.None;

    /// <summary>True when a new part of the node reads as zeroes without being written.</summary>
    public virtual bool HasZeroInit => false;

    /// <summary>Bytes of the node; a negative errno. Asked after opening and where the node's file may have another size.</summary>
    public abstract IoTask<long> GetLengthAsync();

    /// <summary>
    /// Opens: reads what the driver needs to know. Children are there already (<see cref="BlockNode.File"/>, ...). Throws a
    /// <see cref="QapiException"/> in QEMU's words.
    /// </summary>
    public virtual IoTask OpenAsync() => IoTask.CompletedTask;

    /// <summary>Closes: what is still in memory goes to the children. The node is drained; children are still there.</summary>
    public virtual IoTask CloseAsync() => IoTask.CompletedTask;

    /// <summary>Puts the node's wishes into <paramref name="limits"/>, which holds those of the data child.</summary>
    public virtual void RefreshLimits(ref BlockLimits limits)
    {
    }

    /// <summary>Reads into all of <paramref name="data"/>.</summary>
    public virtual IoTask<int> ReadAsync(long offset, IoVectors data, BlockRequestFlags flags) => new(BlockResult.NotSupported);

    /// <summary>Writes all of <paramref name="data"/>.</summary>
    public virtual IoTask<int> WriteAsync(long offset, IoVectors data, BlockRequestFlags flags) => new(BlockResult.NotSupported);

    /// <summary>Makes a range read as zeroes; ENOTSUP has the caller write them.</summary>
    public virtual IoTask<int> WriteZeroesAsync(long offset, long bytes, BlockRequestFlags flags) => new(BlockResult.NotSupported);

    /// <summary>Writes compressed clusters; no data for the end of the image.</summary>
    public virtual IoTask<int> WriteCompressedAsync(long offset, IoVectors? data) => new(BlockResult.NotSupported);

    /// <summary>Forgets a range; ENOTSUP is no error to the caller.</summary>
    public virtual IoTask<int> DiscardAsync(long offset, long bytes) => new(BlockResult.NotSupported);

    /// <summary>Metadata and data that wait in the driver go to the children. Their flush comes after.</summary>
    public virtual IoTask<int> FlushToOsAsync() => new(0);

    /// <summary>A protocol driver's flush to stable storage.</summary>
    public virtual IoTask<int> FlushToDiskAsync() => new(0);

    /// <summary>A filter's length when its child has another one.</summary>
    public virtual long LengthOver(long childLength) => childLength;

    /// <summary>What is known about the beginning of a range.</summary>
    public virtual IoTask<BlockStatus> StatusAsync(long offset, long bytes, bool wantZero) =>
        new(new BlockStatus(BlockStatusFlags.Data | BlockStatusFlags.Allocated, bytes));

    /// <summary>Reads what a filter keeps of one moment.</summary>
    public virtual IoTask<int> SnapshotReadAsync(long offset, IoVectors data) => new(BlockResult.NotSupported);

    /// <summary>What is known about the beginning of a range of that moment.</summary>
    public virtual IoTask<BlockStatus> SnapshotStatusAsync(long offset, long bytes, bool wantZero) => new(BlockStatus.Error(BlockResult.NotSupported));

    /// <summary>A range of that moment is wanted no more.</summary>
    public virtual IoTask<int> SnapshotDiscardAsync(long offset, long bytes) => new(BlockResult.NotSupported);

    /// <summary>Sets the size.</summary>
    /// <param name="length">New size in bytes.</param>
    /// <param name="exact">The size must be this one; else a greater one will do.</param>
    /// <param name="prealloc">How new space is made.</param>
    /// <param name="zeroed">New space must read as zeroes.</param>
    /// <exception cref="QapiException">It cannot be done; the size is unchanged.</exception>
    public virtual IoTask TruncateAsync(long length, bool exact, PreallocMode prealloc, bool zeroed) =>
        throw new QapiException("Image format driver does not support resize");

    /// <summary>Changes options that the image has stored. Main loop. Called where the registry says that the driver can.</summary>
    /// <param name="amend">Options of this driver.</param>
    /// <param name="force">What loses data may be done as well.</param>
    /// <exception cref="QapiException">It cannot be done.</exception>
    public virtual IoTask AmendAsync(BlockdevAmendOptions amend, bool force) => IoTask.CompletedTask;

    /// <summary>Has the image show its backing file everywhere. Home loop, drained.</summary>
    public virtual IoTask<int> MakeEmptyAsync() => new(BlockResult.NotSupported);

    /// <summary>Has the image name another backing file; the node keeps the one that it has. On the home loop, drained.</summary>
    /// <param name="name">Its name; null for none.</param>
    /// <param name="format">Its format; null where it must be probed.</param>
    public virtual IoTask<int> ChangeBackingFileAsync(string? name, string? format) => new(BlockResult.NotSupported);

    /// <summary>
    /// What this node needs of a child, and lets others do, when its own parents together need and share what is given. The default is that
    /// of filters for filtered children and of image formats otherwise.
    /// </summary>
    public virtual (BlockPermissions Needed, BlockPermissions Shared) ChildPermissions(
        BlockEdge child, BlockPermissions needed, BlockPermissions shared) =>
        DefaultPermissions.For(Node, child, needed, shared);

    /// <summary>Whether a flush of this node is one of a child that it writes; the default is that it is.</summary>
    public virtual bool Flushes(BlockEdge child) => true;

    /// <summary>
    /// Brings into force what all users of the node together need and share: locks, another descriptor. Called again with the old values
    /// when another node fails, which must work.
    /// </summary>
    /// <exception cref="QapiException">It cannot be had; what was in force before still is.</exception>
    public virtual void SetPermissions(BlockPermissions needed, BlockPermissions shared)
    {
    }

    /// <summary>Stops what the driver does on its own account.</summary>
    public virtual void DrainBegin()
    {
    }

    /// <summary>Ends one <see cref="DrainBegin"/>.</summary>
    public virtual void DrainEnd()
    {
    }

    /// <summary>Refuses a bitmap that the image could not keep. Main loop.</summary>
    /// <exception cref="QapiException">It could not.</exception>
    public virtual void CheckNewBitmap(string name) =>
        throw new QapiException($"Can't store persistent bitmaps to {Node.Name}: Operation not supported");

    /// <summary>Takes a bitmap that the image keeps out of it; one in memory stays. Home loop, drained.</summary>
    /// <exception cref="QapiException">The image cannot be written.</exception>
    public virtual IoTask ForgetBitmapAsync(string name) => IoTask.CompletedTask;

    /// <summary>The node is about to become read-only: what waits in memory goes to the children. Home loop, drained.</summary>
    public virtual IoTask SuspendWritesAsync() => IoTask.CompletedTask;

    /// <summary>The node has become writable. Home loop, drained.</summary>
    /// <exception cref="QapiException">It cannot be written.</exception>
    public virtual IoTask ResumeWritesAsync() => IoTask.CompletedTask;

    /// <summary>The host's file is needed for another kind of use. Main loop, drained.</summary>
    /// <exception cref="QapiException">It cannot be had; what there was still is.</exception>
    public virtual void SetWritable(bool isWritable)
    {
    }

    /// <summary>The node goes to another loop; no request is under way.</summary>
    public virtual void OnLoopChanged()
    {
    }

    /// <summary>The node can get other options while it is open, be it only those that all nodes have.</summary>
    public virtual bool CanReopen => true;

    /// <summary>The driver can change an option of its own while the node is open.</summary>
    public virtual bool IsChangeable(string option) => false;

    /// <summary>An option of its own that was given may be left out while the node is open.</summary>
    public virtual bool IsResettable(string option) => IsChangeable(option);

    /// <summary>Gets ready for other options; nothing has changed yet. Main loop, drained. Null when there is nothing to do.</summary>
    /// <param name="options">All options of the node.</param>
    /// <param name="common">Those that all drivers have.</param>
    /// <exception cref="QapiException">They cannot be had.</exception>
    public virtual IoTask<ReopenStep?> PrepareReopenAsync(BlockdevOptions options, NodeOptions common) => new((ReopenStep?)null);

    /// <summary>Bytes that the node takes on its host; a negative errno. Main loop.</summary>
    public virtual long GetAllocatedBytes() => Node.Primary is { } child ? child.Node.Driver.GetAllocatedBytes() : BlockResult.NotSupported;

    /// <summary>The name of the file that would open this node again; null when only options can say it.</summary>
    public virtual string? ExactFilename => null;

    /// <summary>The name of the file in which the image is, to which names in the image are relative; null when only options can say it.</summary>
    public virtual string? FileName => ExactFilename;

    /// <summary>The backing file is another one than the image itself names.</summary>
    public virtual bool IsBackingOverridden => false;

    /// <summary>The options that say what this node is, without its children and without those that only say how it is used.</summary>
    public virtual void DescribeOptions(QDict options)
    {
    }

    /// <summary>Bytes of a cluster, in which the image allocates; 0 when there are none.</summary>
    public virtual int ClusterBytes => 0;

    /// <summary>Where the state of a machine begins in the addresses of the image, behind its contents; 0 when it has no place.</summary>
    public virtual long VmStateOffset => 0;

    /// <summary>Adds what query-block's "image" shows beyond the common members.</summary>
    public virtual void DescribeImage(ImageDescription image)
    {
    }

    internal void Attach(BlockNode node) => _node = node;
}

/// <summary>New options of a driver that is ready for them. One of both is called.</summary>
public abstract class ReopenStep
{
    /// <summary>Puts them into force; children and permissions are the new ones.</summary>
    public virtual IoTask CommitAsync() => IoTask.CompletedTask;

    /// <summary>Forgets them; what was done to prepare them is undone.</summary>
    public virtual IoTask AbortAsync() => IoTask.CompletedTask;
}

/// <summary>What a driver tells about its image.</summary>
public sealed class ImageDescription
{
    /// <summary>The image was not closed properly.</summary>
    public bool? IsDirty { get; set; }

    /// <summary>Clusters are compressed.</summary>
    public bool IsCompressed { get; set; }

    /// <summary>Name of the backing file as the image says it.</summary>
    public string? BackingFile { get; set; }

    /// <summary>Name of the backing file as it would be opened.</summary>
    public string? FullBackingFile { get; set; }

    /// <summary>Format of the backing file as the image says it.</summary>
    public string? BackingFormat { get; set; }

    /// <summary>Members of "format-specific".</summary>
    public QDict? FormatSpecific { get; set; }

    /// <summary>Elements of "snapshots".</summary>
    public QList? Snapshots { get; set; }
}
