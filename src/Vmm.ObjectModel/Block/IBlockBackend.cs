using Vmm.EventLoop.Tasks;

namespace Vmm.ObjectModel.Block;

/// <summary>What becomes of a guest's request that failed (rerror, werror).</summary>
public enum BlockErrorAction
{
    /// <summary>The guest sees success.</summary>
    Ignore,

    /// <summary>The guest sees the error.</summary>
    Report,

    /// <summary>The machine stops; the request is tried again when it goes on.</summary>
    Stop,
}

/// <summary>Policy for failed requests, as rerror and werror set it.</summary>
[Qapi.QapiEnum]
[Qapi.QapiName("BlockdevOnError")]
public enum BlockErrorPolicy
{
    /// <summary>The back end's own: report for reads, enospc for writes.</summary>
    Auto,

    /// <summary>The guest sees the error.</summary>
    Report,

    /// <summary>The guest sees success.</summary>
    Ignore,

    /// <summary>Stop when the host has no space, else report.</summary>
    Enospc,

    /// <summary>Stop.</summary>
    Stop,
}

/// <summary>
/// A disk as a device model sees it. Requests belong to the home thread of <see cref="Loop"/> and return 0 or a negative errno; offsets and
/// lengths are bytes. Everything else: main loop.
/// </summary>
public interface IBlockBackend
{
    /// <summary>Its name; empty for one that a device has for itself.</summary>
    string Name { get; }

    /// <summary>A medium is there.</summary>
    bool IsInserted { get; }

    /// <summary>The medium cannot be written.</summary>
    bool IsReadOnly { get; }

    /// <summary>Bytes of the medium; a negative errno without one. Any thread.</summary>
    long Length { get; }

    /// <summary>Where requests run.</summary>
    EventLoop.EventLoop Loop { get; }

    /// <summary>Writes need no flush to be complete; a device changes it as its guest asks.</summary>
    bool IsWriteCacheEnabled { get; set; }

    /// <summary>Offsets and lengths of requests are best multiples of this; a power of two.</summary>
    int RequestAlignment { get; }

    /// <summary>Longest request; 0 for no limit.</summary>
    int MaxTransfer { get; }

    /// <summary>Best length of a request; 0 when there is none.</summary>
    int OptTransfer { get; }

    /// <summary>Makes a device its user; one at a time.</summary>
    /// <param name="device">The device.</param>
    /// <param name="isReadOnly">The device never writes.</param>
    /// <param name="shareWrites">Others may write as well (share-rw).</param>
    /// <exception cref="Qapi.QapiException">It has a device, or permissions conflict.</exception>
    void Attach(IBlockDevice device, bool isReadOnly, bool shareWrites);

    /// <summary>Ends the use by its device.</summary>
    void Detach(IBlockDevice device);

    /// <summary>Moves the back end and all nodes below it to another loop.</summary>
    /// <exception cref="Qapi.QapiException">Another user of a node stays where it is.</exception>
    Task SetLoopAsync(EventLoop.EventLoop loop);

    /// <summary>Sets what happens to failed requests.</summary>
    void SetErrorPolicy(BlockErrorPolicy read, BlockErrorPolicy write);

    /// <summary>Reads.</summary>
    IoTask<int> ReadAsync(long offset, IoVectors data);

    /// <summary>Writes.</summary>
    IoTask<int> WriteAsync(long offset, IoVectors data);

    /// <summary>Makes a range read as zeroes.</summary>
    IoTask<int> WriteZeroesAsync(long offset, long bytes, bool mayUnmap);

    /// <summary>Forgets a range.</summary>
    IoTask<int> DiscardAsync(long offset, long bytes);

    /// <summary>Puts what was written on stable storage.</summary>
    IoTask<int> FlushAsync();

    /// <summary>Lets requests that wait for their limits go at once until what is returned is disposed; null without limits. Main loop.</summary>
    IDisposable? SuspendLimits() => null;

    /// <summary>Says what to do about a failed request, and does the host's part: the event, the I/O status, stopping the machine.</summary>
    /// <param name="isRead">A read.</param>
    /// <param name="error">The negative errno.</param>
    BlockErrorAction HandleError(bool isRead, int error);

    /// <summary>Counts a request that the device has refused before it became one of the back end's.</summary>
    /// <param name="isRead">A read.</param>
    void CountInvalid(bool isRead);
}

/// <summary>A device model that uses a back end. Main loop.</summary>
public interface IBlockDevice
{
    /// <summary>The device's id, or its path where it has none; as events and queries show it.</summary>
    string QdevName { get; }

    /// <summary>The medium can be changed.</summary>
    bool IsRemovable => false;

    /// <summary>The guest has locked the tray.</summary>
    bool IsLocked => false;

    /// <summary>The tray is open; null for a device without tray.</summary>
    bool? IsTrayOpen => null;

    /// <summary>The operator opens the tray or takes the medium out, or does the opposite. For devices whose medium can be changed.</summary>
    /// <param name="isLoaded">There is a medium in a closed tray.</param>
    void ChangeMedium(bool isLoaded)
    {
    }

    /// <summary>Asks the guest to open a locked tray.</summary>
    /// <param name="isForced">The tray opens whatever the guest does.</param>
    void RequestEject(bool isForced)
    {
    }

    /// <summary>No more requests from now on; calls nest.</summary>
    void DrainBegin();

    /// <summary>Ends one <see cref="DrainBegin"/>.</summary>
    void DrainEnd();

    /// <summary>The medium has another size.</summary>
    void OnResized();
}

/// <summary>Where device models find their disks.</summary>
public interface IBlockBackends
{
    /// <summary>
    /// The back end that a device's drive property names: one of that name, or one made for the device over the node of that name; null when
    /// there is neither.
    /// </summary>
    /// <exception cref="Qapi.QapiException">The node cannot be used.</exception>
    IBlockBackend? Take(string name);

    /// <summary>Ends what <see cref="Take"/> began; a back end that was made for the device goes.</summary>
    void Return(IBlockBackend backend);
}
