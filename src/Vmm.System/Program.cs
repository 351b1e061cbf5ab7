using Vmm.EventLoop;
using Vmm.Interop;
using Vmm.System;
using Vmm.System.Processes;

Libc.SelfCommandLine(out string[] line);
Clocks clocks = new();
int status = Startup.Begin(args, line.Length > 0 ? line[0] : "vmm-system-x86_64", clocks, TypeCatalog.IsObjectType, out Startup? startup);
if (startup is null)
{
    return status;
}

return startup.Help is { } help ? HelpPrinter.Print(help, startup.Reporter, clocks) : VirtualMachine.Run(startup, clocks);
