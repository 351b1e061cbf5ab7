using Vmm.Interop;

namespace Vmm.ObjectModel.Chardevs;

/// <summary>What a back end tells its front end besides bytes.</summary>
public enum ChardevEvent
{
    /// <summary>A break condition was received.</summary>
    Break,

    /// <summary>The other side connected.</summary>
    Opened,

    /// <summary>This front end of a mux got the focus.</summary>
    MuxIn,

    /// <summary>This front end of a mux lost the focus.</summary>
    MuxOut,

    /// <summary>The other side is gone.</summary>
    Closed,
}

/// <summary>Receives what comes from a character back end. Called on the back end's loop (main loop: under the machine lock).</summary>
public interface ICharHandler
{
    /// <summary>How many bytes can be taken now; 0 stops reading until <see cref="CharFrontend.AcceptInput"/>.</summary>
    int CanReceive();

    /// <summary>Takes bytes, at most as many as <see cref="CanReceive"/> allowed.</summary>
    void Receive(ReadOnlySpan<byte> data);

    /// <summary>Connection state and break.</summary>
    void OnEvent(ChardevEvent ev);

    /// <summary>Asked when the back end is exchanged at run time (chardev-change); false refuses with QEMU's error.</summary>
    bool OnBackendChange() => false;

    /// <summary>The back end was exchanged: settings that the medium keeps (line speed, modem lines) go to the new one.</summary>
    void OnBackendChanged()
    {
    }
}

/// <summary>
/// A front end's (serial port's, monitor's, …) end of a character device. It may be unconnected: writes then vanish.
/// </summary>
public sealed class CharFrontend
{
    /// <summary>The back end; null when unconnected.</summary>
    public Chardev? Backend { get; private set; }

    /// <summary>Handler of incoming bytes; null when none is set.</summary>
    public ICharHandler? Handler { get; private set; }

    /// <summary>Slot number at a multiplexer; 0 otherwise.</summary>
    public int Tag { get; internal set; }

    /// <summary>True after the front end declared itself open.</summary>
    public bool FrontendOpen { get; private set; }

    /// <summary>
    /// Takes hold of a back end. Throws <see cref="Vmm.Qapi.QapiException"/> "Device 'X' is in use" when it is taken
    /// (a mux takes up to four front ends, else "too many uses of multiplexed chardev 'X' (maximum is 4)").
    /// </summary>
    public void Connect(Chardev backend)
    {
        Tag = backend.AttachFrontend(this);
        Backend = backend;
    }

    /// <summary>Lets go of the back end and drops the handler.</summary>
    public void Disconnect()
    {
        if (Backend is { } backend)
        {
            SetHandler(null);
            backend.DetachFrontend(this);
            Backend = null;
        }
    }

    /// <summary>Sets or clears who receives. Setting it delivers <see cref="ChardevEvent.Opened"/> if the back end is open already.</summary>
    /// <param name="handler">Receiver or null.</param>
    /// <param name="setOpen">Also declare the front end open (what most devices do); a virtio port opens on the guest's word instead.</param>
    public void SetHandler(ICharHandler? handler, bool setOpen = true)
    {
        Handler = handler;
        if (Backend is { } backend)
        {
            backend.UpdateHandler(this);
            if (setOpen)
            {
                SetFrontendOpen(handler is not null);
                if (handler is not null)
                {
                    backend.TakeFocus(this);
                }
            }

            if (handler is not null && backend.IsOpen)
            {
                handler.OnEvent(ChardevEvent.Opened);

                // A handler may take bytes only from that event on.
                backend.AcceptInput();
            }
        }
    }

    /// <summary>Declares the front end open or closed (query-chardev's frontend-open; some back ends react).</summary>
    public void SetFrontendOpen(bool open)
    {
        if (FrontendOpen != open)
        {
            FrontendOpen = open;
            Backend?.OnFrontendOpen(this, open);
        }
    }

    /// <summary>Writes without blocking; returns how many bytes were taken (0 when the other side would block). Unconnected: all.</summary>
    public int Write(ReadOnlySpan<byte> data) => Backend?.Write(data) ?? data.Length;

    /// <summary>Writes all, blocking up to what the back end's medium needs; what a disconnected medium can't take is dropped.</summary>
    public void WriteAll(ReadOnlySpan<byte> data) => Backend?.WriteAll(data);

    /// <summary>Says that <see cref="ICharHandler.CanReceive"/> may have become positive.</summary>
    public void AcceptInput() => Backend?.AcceptInput();

    /// <summary>Calls <paramref name="writable"/> once when the back end can take bytes again; false when it can now or never will.</summary>
    public bool WatchWritable(Action writable) => Backend?.WatchWritable(writable) ?? false;

    /// <summary>Takes the oldest file descriptor that came with the bytes received last; null for none.</summary>
    public SafeFd? TakeReceivedFd() => Backend?.TakeReceivedFd();

    /// <summary>Makes this front end the one of a mux that gets the input.</summary>
    public void TakeFocus() => Backend?.TakeFocus(this);

    /// <summary>Whether a terminal echoes what is typed: true for protocols that do not echo by themselves.</summary>
    public void SetEcho(bool echo) => Backend?.SetEcho(echo);

    /// <summary>
    /// Re-points this front end, which has a back end, at another one (chardev-change): the old one loses its front end, the handler stays,
    /// hears what differs in connection state, and nothing else.
    /// </summary>
    public void Rebind(Chardev backend)
    {
        bool wasOpen = false;
        if (Backend is { } old)
        {
            wasOpen = old.IsOpen;
            old.DetachFrontend(this);
        }

        Tag = backend.AttachFrontend(this);
        Backend = backend;
        backend.UpdateHandler(this);
        backend.OnFrontendOpen(this, FrontendOpen);
        if (wasOpen != backend.IsOpen)
        {
            Handler?.OnEvent(backend.IsOpen ? ChardevEvent.Opened : ChardevEvent.Closed);
        }
    }
}
