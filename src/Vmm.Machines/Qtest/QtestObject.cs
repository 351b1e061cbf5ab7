using Vmm.Interop;
using Vmm.ObjectModel.Chardevs;
using Vmm.ObjectModel.Devices;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.Machines.Qtest;

/// <summary>The object of <c>-object qtest,id=,chardev=[,log=]</c>, and of <c>-qtest</c>, which is short for it.</summary>
[QomType("qtest", Parent = "object", Interfaces = ["user-creatable"])]
public sealed partial class QtestObject : QomObject, IUserCreatable
{
    private static QtestObject? s_only;

    private QtestServer? _server;
    private SafeFd? _logFile;

    /// <summary>Name of the character device that carries the protocol.</summary>
    [QomProperty("chardev", Type = "string")]
    public string? Chardev { get; set; }

    /// <summary>File to which the conversation is written: "none" for no log; standard error when not given.</summary>
    [QomProperty("log", Type = "string")]
    public string? Log { get; set; }

    /// <inheritdoc/>
    public IReadOnlyList<string> RequiredProperties => ["chardev"];

    /// <inheritdoc/>
    public void Complete(ObjectContext context)
    {
        if (s_only is not null)
        {
            throw new QapiException(QapiErrorClass.GenericError, "Only one instance of qtest can be created");
        }

        if (Chardev is not { Length: > 0 } name)
        {
            throw new QapiException(QapiErrorClass.GenericError, "No backend specified");
        }

        if (context.Tree.Chardevs.FindChild(name) is not Chardev backend)
        {
            throw new QapiException(QapiErrorClass.GenericError, $"Cannot find character device '{name}'");
        }

        if (context.Tree.Machine is not IMachineServices machine)
        {
            throw new QapiException(QapiErrorClass.GenericError, "qtest needs a machine");
        }

        var frontend = new CharFrontend();
        frontend.Connect(backend);
        _server = new QtestServer(frontend, context.Tree, machine, OpenLog());
        s_only = this;
    }

    /// <inheritdoc/>
    protected override void OnUnparent()
    {
        _server?.Dispose();
        _server = null;
        _logFile?.Dispose();
        if (s_only == this)
        {
            s_only = null;
        }
    }

    private Action<string>? OpenLog()
    {
        switch (Log)
        {
            case "none":
                return null;
            case null:
                return static line => StdIo.Error.Write(line + "\n");
            default:
                Errno errno = Libc.Open(Log, Libc.O_WRONLY | Libc.O_CREAT | Libc.O_TRUNC | Libc.O_CLOEXEC, 0x1b6, out _logFile);
                if (errno != Errno.OK)
                {
                    throw new QapiException(QapiErrorClass.GenericError, $"Could not open '{Log}': {errno.Message()}");
                }

                return WriteLog;
        }
    }

    private void WriteLog(string line)
    {
        if (_logFile is { } file)
        {
            _ = Libc.Write(file.Fd, System.Text.Encoding.UTF8.GetBytes(line + "\n"));
        }
    }
}
