using Vmm.EventLoop.Tasks;

namespace Vmm.Block.Drivers.Qcow2;

/// <content>Images that become writable or read-only while they are open.</content>
public sealed partial class Qcow2Driver
{
    /// <inheritdoc/>
    public override async IoTask SuspendWritesAsync()
    {
        if (!_isFailed)
        {
            await _lock.EnterAsync();
            int result;
            try
            {
                await StoreBitmapsAsync();
                result = await _metadata.CleanAsync();
            }
            finally
            {
                _lock.Exit();
            }

            Check(result, "Could not write the image's tables");
        }
    }

    /// <inheritdoc/>
    public override IoTask ResumeWritesAsync() => PrepareForWritesAsync();
}
