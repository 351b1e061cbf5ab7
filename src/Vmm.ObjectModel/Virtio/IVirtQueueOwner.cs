namespace Vmm.ObjectModel.Virtio;

/// <summary>Whose queue it is: a device model, or the connection of a front end in another process.</summary>
public interface IVirtQueueOwner
{
    /// <summary>Features agreed on.</summary>
    ulong GuestFeatures { get; }

    /// <summary>No queue is served any more.</summary>
    bool IsBroken { get; }

    /// <summary>The driver is wrong in a way that ends all service.</summary>
    void Break(string what);

    /// <summary>A queue has used buffers that the driver wants to know of.</summary>
    /// <param name="queue">Its number.</param>
    void InterruptQueue(int queue);
}
