using System.Runtime.InteropServices;

namespace Vmm.Monitor;

/// <summary>
/// The duplex byte stream under a monitor, usually a character device. Pushes input to its handler; takes output as far as there is room.
/// Home: the loop of the monitor.
/// </summary>
public interface IMonitorChannel
{
    /// <summary>Sets the receiver of input; a channel that is connected already calls <see cref="IMonitorChannelHandler.OnOpened"/>.</summary>
    void Attach(IMonitorChannelHandler handler);

    /// <summary>Takes the handler away; nothing is delivered any more.</summary>
    void Detach();

    /// <summary>Writes without blocking.</summary>
    /// <returns>How many bytes were taken: less than given when the other side does not read. Everything when nobody is connected.</returns>
    int Write(ReadOnlySpan<byte> data);

    /// <summary>Asks for one call of <see cref="IMonitorChannelHandler.OnWritable"/> when there is room again.</summary>
    void RequestWritable();

    /// <summary>Tells that <see cref="IMonitorChannelHandler.CanReceive"/> may have grown from 0.</summary>
    void ResumeInput();

    /// <summary>Takes the oldest descriptor that came with the data of the present <see cref="IMonitorChannelHandler.Receive"/>; null for none.</summary>
    SafeHandle? TakeReceivedFd();
}

/// <summary>The monitor's end of a channel.</summary>
public interface IMonitorChannelHandler
{
    /// <summary>How many bytes may be delivered now; 0 stops reading until <see cref="IMonitorChannel.ResumeInput"/>.</summary>
    int CanReceive { get; }

    /// <summary>Delivers bytes.</summary>
    void Receive(ReadOnlySpan<byte> data);

    /// <summary>The other side connected (or, for a mux, has the focus for the first time).</summary>
    void OnOpened();

    /// <summary>The other side is gone.</summary>
    void OnClosed();

    /// <summary>This user of a multiplexed stream got or lost the focus.</summary>
    void OnFocus(bool focused);

    /// <summary>There is room for output again.</summary>
    void OnWritable();
}
