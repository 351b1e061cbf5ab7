using System.Text;
using Vmm.Chardevs;
using Vmm.Interop;
using Vmm.Kvm.CpuModels;
using Vmm.Machines;
using Vmm.System.CommandLine;
using Vmm.System.Logging;

namespace Vmm.System;

/// <summary>Prints the help that needs the program's tables.</summary>
internal static class HelpPrinter
{
    /// <summary>Prints to standard output; returns the exit status.</summary>
    public static int Print(HelpRequest help, ErrorReporter reporter)
    {
        string? text = help.Topic switch
        {
            HelpTopic.Machines => Machines(),
            HelpTopic.Accelerators => "Accelerators supported in QEMU binary:\nkvm\n",
            HelpTopic.Chardevs => ChardevOptions.HelpText,
            HelpTopic.Cpus => Cpus(),
            HelpTopic.DataDirectories => string.Join('\n', FirmwareDirectories.Usual) + "\n",
            _ => null,
        };
        if (text is null)
        {
            reporter.Report(DiagnosticKind.Error, help.Location, "this help is not available");
            return 1;
        }

        StdIo.Out.Write(text);
        return help.ExitStatus;
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

    private static string Cpus()
    {
        StringBuilder text = new("Available CPUs:\n");
        CpuModelTable.ForEach((name, description) => text.Append($"x86 {name,-20}  {description}\n"));
        text.Append("x86 base                  base CPU model type with no features enabled\n");
        text.Append("x86 host                  processor with all supported host features\n");
        text.Append("x86 max                   Enables all features supported by the accelerator in the current host\n");
        return text.ToString();
    }
}
