using Vmm.EventLoop;
using Vmm.ObjectModel.Fds;
using Vmm.ObjectModel.Qmp;
using Vmm.ObjectModel.Qom;

namespace Vmm.Chardevs;

/// <summary>What character back ends need of the process.</summary>
/// <param name="Loop">Home loop of every back end.</param>
/// <param name="FdSets">Where <c>/dev/fdset/N</c> paths are resolved.</param>
public sealed record ChardevHost(EventLoop.EventLoop Loop, FdSets FdSets)
{
    /// <summary>Warnings and errors that belong to no command, one line without program name; by default lost.</summary>
    public Action<string> Report { get; init; } = static _ => { };

    /// <summary>Notices for whoever gives commands, one line ("char device redirected to …"): standard output or the current monitor.</summary>
    public Action<string> Announce { get; init; } = static _ => { };

    /// <summary>Ends the process as the quit command does (the mux key C-a x).</summary>
    public Action Quit { get; init; } = static () => { };

    /// <summary>Writes snapshot changes back to the images (the mux key C-a s); null where no block layer exists.</summary>
    public Action? CommitDisks { get; init; }

    /// <summary>True when the process gives up its terminal (-daemonize), which rules stdio out.</summary>
    public bool IsDaemon { get; init; }

    /// <summary>Where names are looked up for connections that are made in the background; null: on the loop, which then waits.</summary>
    public WorkerPool? Workers { get; init; }

    /// <summary>Finds an operator's objects by their ids: TLS credentials, and what decides who is let in.</summary>
    public Func<string, QomObject?> Objects { get; init; } = static _ => null;

    /// <summary>Where sockets can be cut off by command.</summary>
    public YankRegistry Yank { get; init; } = new();

    /// <summary>
    /// Descriptor that becomes readable when the process is asked to end (a signalfd, say), and ends the wait of a server for its first
    /// client; -1 for none.
    /// </summary>
    public int InterruptFd { get; init; } = -1;
}
