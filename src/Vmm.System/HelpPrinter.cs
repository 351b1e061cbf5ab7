using System.Text;
using Vmm.Chardevs;
using Vmm.EventLoop;
using Vmm.Interop;
using Vmm.Kvm.CpuModels;
using Vmm.Machines;
using Vmm.ObjectModel.Devices;
using Vmm.ObjectModel.Logging;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.Run;
using Vmm.Qapi;
using Vmm.System.CommandLine;
using Vmm.System.Logging;

namespace Vmm.System;

/// <summary>Prints the help that needs the program's tables.</summary>
internal static class HelpPrinter
{
    /// <summary>Prints to standard output; returns the exit status.</summary>
    public static int Print(HelpRequest help, ErrorReporter reporter, Clocks clocks)
    {
        try
        {
            StdIo.Out.Write(Text(help, clocks));
        }
        catch (QapiException e)
        {
            reporter.Report(DiagnosticKind.Error, help.Location, e.Desc);
        }

        return help.ExitStatus;
    }

    private static string Text(HelpRequest help, Clocks clocks) => help.Topic switch
    {
        HelpTopic.Machines => Machines(),
        HelpTopic.MachineProperties => MachineType.Find(help.Subject!) is { } type ? DeviceHelp.TypeText(Tree(), type.QomTypeName) : Machines(),
        HelpTopic.Accelerators => "Accelerators supported in QEMU binary:\nkvm\n",
        HelpTopic.Chardevs => ChardevOptions.HelpText,
        HelpTopic.Cpus => CpuHelp.Text(),
        HelpTopic.Devices => DeviceHelp.Types(Tree()),
        HelpTopic.DeviceProperties => DeviceHelp.PropertiesText(Tree(), help.Subject!),
        HelpTopic.Objects => Objects(clocks).HelpTypes(),
        HelpTopic.ObjectProperties => Objects(clocks).HelpProperties(help.Subject!),
        HelpTopic.TraceEvents => TraceEvents(),
        HelpTopic.DataDirectories => string.Join('\n', FirmwareDirectories.Usual) + "\n",
        _ => help.Subject ?? "",
    };

    private static QomTree Tree() => new(TypeCatalog.CreateRegistry(new CpuHost(static () => null, static () => true)));

    private static ObjectFactory Objects(Clocks clocks) =>
        new(new ObjectContext(Tree(), new EventLoop.EventLoop("main", clocks, new MachineLock()), clocks));

    private static string TraceEvents()
    {
        StringBuilder text = new();
        foreach (TraceEvent trace in RunControl.TraceEvents)
        {
            text.Append(trace.Name).Append('\n');
        }

        return text.ToString();
    }

    private static string Machines()
    {
        StringBuilder text = new("Supported machines are:\n");
        foreach (MachineType type in MachineType.All)
        {
            if (type.Alias is { } alias)
            {
                text.Append($"{alias,-20} {type.Description} (alias of {type.Name})\n");
            }

            text.Append($"{type.Name,-20} {type.Description}{(type.IsDefault ? " (default)" : "")}\n");
        }

        return text.ToString();
    }
}
