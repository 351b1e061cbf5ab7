using Vmm.Block.Qmp;
using Vmm.Interop;
using Vmm.ObjectModel.Block;

namespace Vmm.Block.Backend;

/// <content>What happens to requests that fail.</content>
public sealed partial class BlockBackend
{
    private BlockErrorPolicy _onReadError = BlockErrorPolicy.Report;
    private BlockErrorPolicy _onWriteError = BlockErrorPolicy.Enospc;

    private BlockDeviceIoStatus _ioStatus;

    /// <summary>Does the host's part of an error: the event, stopping the machine. Any loop.</summary>
    public Action<BlockBackend, bool, BlockErrorAction, int>? ErrorSink { get; set; }

    /// <inheritdoc/>
    public void SetErrorPolicy(BlockErrorPolicy read, BlockErrorPolicy write)
    {
        _onReadError = read == BlockErrorPolicy.Auto ? _onReadError : read;
        _onWriteError = write == BlockErrorPolicy.Auto ? _onWriteError : write;
    }

    private bool HasIoStatus => _device is not null
        && (_onWriteError is BlockErrorPolicy.Enospc or BlockErrorPolicy.Stop || _onReadError == BlockErrorPolicy.Stop);

    /// <summary>What the policy says of an error.</summary>
    public BlockErrorAction ActionFor(bool isRead, int error) => (isRead ? _onReadError : _onWriteError) switch
    {
        BlockErrorPolicy.Ignore => BlockErrorAction.Ignore,
        BlockErrorPolicy.Stop => BlockErrorAction.Stop,
        BlockErrorPolicy.Enospc when error == -(int)Errno.ENOSPC => BlockErrorAction.Stop,
        _ => BlockErrorAction.Report,
    };

    /// <summary>The worst result since the status was reset; null when the policy never stops the machine.</summary>
    public BlockDeviceIoStatus? IoStatus => HasIoStatus ? _ioStatus : null;

    /// <summary>Sets the status to good again.</summary>
    public void ResetIoStatus() => _ioStatus = BlockDeviceIoStatus.Ok;

    /// <inheritdoc/>
    public BlockErrorAction HandleError(bool isRead, int error)
    {
        BlockErrorAction action = ActionFor(isRead, error);
        if (action == BlockErrorAction.Stop && HasIoStatus && _ioStatus == BlockDeviceIoStatus.Ok)
        {
            _ioStatus = error == -(int)Errno.ENOSPC ? BlockDeviceIoStatus.Nospace : BlockDeviceIoStatus.Failed;
        }

        ErrorSink?.Invoke(this, isRead, action, error);
        return action;
    }
}
