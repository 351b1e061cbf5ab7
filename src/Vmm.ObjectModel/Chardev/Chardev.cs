using Vmm.Interop;
using Vmm.Qapi;
using Vmm.ObjectModel.Qom;

namespace Vmm.ObjectModel.Chardevs;

/// <summary>
/// A character back end (QOM <c>chardev</c>, child of <c>/chardevs</c>). Home loop: the main loop, unless a monitor moves it to
/// its own I/O thread.
/// </summary>
[QomType("chardev", Parent = "object")]
public abstract partial class Chardev : QomObject
{
    private CharFrontend? _frontend;

    /// <summary>The id given by the user; shown as label.</summary>
    public string Label { get; set; } = "";

    /// <summary>What query-chardev shows, e.g. <c>unix:/path,server=on</c> or <c>pty:/dev/pts/3</c>.</summary>
    public virtual string Filename { get; protected set; } = "";

    /// <summary>True while the other side is connected.</summary>
    public bool IsOpen { get; protected set; }

    /// <summary>True when a front end holds this back end.</summary>
    public virtual bool IsBusy => _frontend is not null;

    /// <summary>True when a front end declared itself open.</summary>
    public virtual bool FrontendOpen => _frontend?.FrontendOpen ?? false;

    /// <summary>The one front end; null for none (a multiplexer has several).</summary>
    public CharFrontend? Frontend => _frontend;

    /// <summary>Registers a front end; returns its tag.</summary>
    public virtual int AttachFrontend(CharFrontend frontend)
    {
        if (_frontend is not null)
        {
            throw new QapiException(QapiErrorClass.GenericError, $"Device '{Label}' is in use");
        }

        _frontend = frontend;
        return 0;
    }

    /// <summary>Unregisters a front end.</summary>
    public virtual void DetachFrontend(CharFrontend frontend)
    {
        if (ReferenceEquals(_frontend, frontend))
        {
            _frontend = null;
        }
    }

    /// <summary>The front end's handler changed: start or stop reading.</summary>
    public virtual void UpdateHandler(CharFrontend frontend)
    {
    }

    /// <summary>The front end declared itself open or closed.</summary>
    public virtual void OnFrontendOpen(CharFrontend frontend, bool open)
    {
    }

    /// <summary>See <see cref="CharFrontend.TakeFocus"/>.</summary>
    public virtual void TakeFocus(CharFrontend frontend)
    {
    }

    /// <summary>See <see cref="CharFrontend.SetEcho"/>.</summary>
    public virtual void SetEcho(bool echo)
    {
    }

    /// <summary>Writes what can be taken without blocking; returns the number of bytes taken.</summary>
    public abstract int Write(ReadOnlySpan<byte> data);

    /// <summary>Writes all of it, waiting where the medium makes that sensible.</summary>
    public virtual void WriteAll(ReadOnlySpan<byte> data)
    {
        while (!data.IsEmpty)
        {
            int n = Write(data);
            if (n <= 0)
            {
                return;
            }

            data = data[n..];
        }
    }

    /// <summary>The front end can receive again.</summary>
    public virtual void AcceptInput()
    {
    }

    /// <summary>See <see cref="CharFrontend.WatchWritable"/>.</summary>
    public virtual bool WatchWritable(Action writable) => false;

    /// <summary>See <see cref="CharFrontend.TakeReceivedFd"/>.</summary>
    public virtual SafeFd? TakeReceivedFd() => null;

    /// <summary>Sends a break condition to the front end (chardev-send-break).</summary>
    public void SendBreakToFrontend() => SendEvent(ChardevEvent.Break);

    /// <summary>Passes an event to the front end and keeps <see cref="IsOpen"/> up to date.</summary>
    protected virtual void SendEvent(ChardevEvent ev)
    {
        if (ev == ChardevEvent.Opened)
        {
            IsOpen = true;
        }
        else if (ev == ChardevEvent.Closed)
        {
            IsOpen = false;
        }

        _frontend?.Handler?.OnEvent(ev);
    }
}
