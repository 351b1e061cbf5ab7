using Vmm.EventLoop;
using Vmm.Interop;
using Vmm.Qapi;
using Vmm.System.Processes;

// Starts as the real program does, up to the point where a machine would be made, then waits to be killed. An object of type
// "fail" makes the set-up fail.
int status = Startup.Begin(args, "vmm-probe", new Clocks(), static _ => true, out Startup? startup);
if (startup?.Configuration is not { } configuration)
{
    return status;
}

try
{
    using PidFile? pidFile = configuration.PidFile == null ? null : PidFile.Create(configuration.PidFile);
    if (configuration.Objects.Count > 0)
    {
        throw new QapiException("set-up failed");
    }

    startup.Daemon?.Detach();
    Libc.Poll(-1, 0, 60_000);
    return 0;
}
catch (QapiException exception)
{
    startup.Reporter.Error(exception.Desc);
    return 1;
}
