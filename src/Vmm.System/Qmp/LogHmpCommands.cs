using Vmm.ObjectModel.Logging;
using Vmm.Qapi;
using Vmm.System.CommandLine;
using Vmm.System.Logging;

namespace Vmm.System.Qmp;

/// <summary>The terminal commands about the log.</summary>
public sealed class LogHmpCommands(LogControl log)
{
    /// <summary>Chooses what is logged.</summary>
    [HmpCommand("log", ArgsType = "items:s", Params = "item1[,...]", Help = "activate logging of the specified items")]
    public void Log(HmpContext context, string items)
    {
        var traces = new List<TraceSwitch>();
        LogItems chosen = LogItems.None;
        if (items != "none" && !LogConfiguration.TryParseItems(items, out chosen, traces, out _))
        {
            context.Print(LogConfiguration.ItemsHelp("log ", withNone: true));
            return;
        }

        log.SetItems(chosen, traces);
    }

    /// <summary>Sends the log to another file.</summary>
    [HmpCommand("logfile", ArgsType = "filename:F", Params = "filename", Help = "output logs to 'filename'")]
    public void LogFile(HmpContext context, string filename)
    {
        try
        {
            log.SetFile(filename);
        }
        catch (QapiException e)
        {
            context.PrintLine(e.Desc);
        }
    }
}
