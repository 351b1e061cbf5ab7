using Vmm.Interop;
using Vmm.ObjectModel.Block;

namespace Vmm.Block.Backend;

/// <content>What happens to requests that fail.</content>
public sealed partial class BlockBackend
{
    private BlockErrorPolicy _onReadError = BlockErrorPolicy.Report;
    private BlockErrorPolicy _onWriteError = BlockErrorPolicy.Enospc;

    /// <summary>Does the host's part of an error: the event, stopping the machine. Any loop.</summary>
    public Action<BlockBackend, bool, BlockErrorAction, int>? ErrorSink { get; set; }

    /// <inheritdoc/>
    public void SetErrorPolicy(BlockErrorPolicy read, BlockErrorPolicy write)
    {
        _onReadError = read == BlockErrorPolicy.Auto ? BlockErrorPolicy.Report : read;
        _onWriteError = write == BlockErrorPolicy.Auto ? BlockErrorPolicy.Enospc : write;
    }

    /// <summary>What the policy says of an error.</summary>
    public BlockErrorAction ActionFor(bool isRead, int error) => (isRead ? _onReadError : _onWriteError) switch
    {
        BlockErrorPolicy.Ignore => BlockErrorAction.Ignore,
        BlockErrorPolicy.Stop => BlockErrorAction.Stop,
        BlockErrorPolicy.Enospc when error == -(int)Errno.ENOSPC => BlockErrorAction.Stop,
        _ => BlockErrorAction.Report,
    };

    /// <inheritdoc/>
    public BlockErrorAction HandleError(bool isRead, int error)
    {
        BlockErrorAction action = ActionFor(isRead, error);
        ErrorSink?.Invoke(this, isRead, action, error);
        return action;
    }
}
