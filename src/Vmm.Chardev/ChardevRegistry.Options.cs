using Vmm.ObjectModel.Chardevs;
using Vmm.Qapi;
using Vmm.Qapi.Options;

namespace Vmm.Chardevs;

/// <content>Back ends from the command line.</content>
public sealed partial class ChardevRegistry
{
    /// <summary>
    /// Makes what a <c>-chardev</c> option (or HMP's chardev-add) describes; with <c>mux=on</c> a multiplexer under the id over a back end
    /// under the id plus <c>-base</c>.
    /// </summary>
    /// <exception cref="QapiException">The options are wrong or the medium cannot be had.</exception>
    public Chardev Add(QemuOpts opts, IMonitorSession? session)
    {
        ChardevBackend backend = ChardevOptions.Parse(opts);
        string id = opts.Id ?? throw new QapiException("chardev: no id specified");
        bool mux = opts.GetBool("mux", false);
        string label = mux ? id + "-base" : id;
        Chardev chardev = Insert(label, Create(label, backend, session));
        if (chardev is PtyChardev pty)
        {
            _host.Announce($"char device redirected to {pty.SlavePath} (label {label})");
        }

        if (!mux)
        {
            return chardev;
        }

        try
        {
            return Insert(id, NewMux(id, chardev));
        }
        catch
        {
            Delete(label, chardev);
            throw;
        }
    }
}
