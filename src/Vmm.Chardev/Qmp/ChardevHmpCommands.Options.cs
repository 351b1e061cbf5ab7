using Vmm.Qapi;
using Vmm.Qapi.Options;

namespace Vmm.Chardevs;

/// <content>The commands that take the text of a -chardev option.</content>
public sealed partial class ChardevHmpCommands
{
    /// <summary>Adds a character device from the text of a -chardev option.</summary>
    [HmpCommand("chardev-add", ArgsType = "args:s", Params = "args", Help = "add chardev")]
    public void ChardevAdd(HmpContext context, string args)
    {
        if (Parse(context, args) is { } opts)
        {
            registry.Add(opts, context.Session);
        }
    }

    /// <summary>Exchanges a character device for one from the text of a -chardev option.</summary>
    [HmpCommand("chardev-change", ArgsType = "id:s,args:s", Params = "id args", Help = "change chardev")]
    public void ChardevChange(HmpContext context, string id, string args)
    {
        if (Parse(context, args, id) is { } opts)
        {
            registry.Change(id, ChardevOptions.Parse(opts), context.Session);
        }
    }

    private static QemuOpts? Parse(HmpContext context, string args, string? id = null)
    {
        QemuOpts? opts = OptsParser.Parse(
            new OptsList(ChardevOptions.Group), args, implied: true, location: null, SilentOptionDiagnostics.Instance);
        if (opts is null)
        {
            context.Print(ChardevOptions.Group.FormatHelp());
            return null;
        }

        if (ChardevOptions.IsHelp(opts))
        {
            context.Print(ChardevOptions.HelpText);
            return null;
        }

        opts.Id = id ?? opts.Id;
        return opts;
    }
}
