using Vmm.Chardevs;
using Vmm.Interop;
using Vmm.Machines.Qtest;
using Vmm.Monitor;
using Vmm.Qapi;
using Vmm.System.CommandLine;
using Vmm.System.Wiring;

namespace Vmm.System;

/// <summary>Descriptors, monitors and the character devices of serial ports and consoles.</summary>
internal sealed partial class VirtualMachine
{
    private void AddFds()
    {
        foreach (AddFdOption option in _configuration.AddFds)
        {
            _location = option.Location;
            int flags = Libc.Fcntl(option.Fd, Libc.F_GETFD, 0);
            option.Check(inherited: flags >= 0 && (flags & Libc.FD_CLOEXEC) == 0);
            int copy = Libc.Fcntl(option.Fd, Libc.F_DUPFD_CLOEXEC, 0);
            if (copy < 0)
            {
                throw new QapiException($"error duplicating fd: {((Errno)(-copy)).Message()}");
            }

            _fdSets.Add(new SafeFd(copy), option.Set, option.Opaque);
        }

        _location = null;
    }

    private void CreateMonitors(IReadOnlyList<MonitorOption> monitors)
    {
        foreach (MonitorOption option in monitors)
        {
            _location = option.Location;
            ObjectModel.Chardevs.Chardev backend = _chardevs.Find(option.Chardev)
                ?? throw new QapiException($"chardev \"{option.Chardev}\" not found");
            CharMonitorChannel channel = new(backend, _fdSets, isTerminal: !option.Control);
            if (option.Control)
            {
                _monitors.AddQmp(channel, option.Id, option.Pretty, oob: backend is not MuxChardev);
            }
            else
            {
                _monitors.AddHmp(channel, option.Id);
            }
        }

        _location = null;
    }

    private void Connect(LegacyBackend backend)
    {
        if (backend.Chardev is { } opts)
        {
            _chardevs.Add(opts, null);
        }
    }

    /// <summary>-qtest is short for an object, which comes to stand below the machine.</summary>
    private void CreateQtest(LegacyBackend? backend)
    {
        if (backend is null)
        {
            return;
        }

        _location = backend.Location;
        Connect(backend);
        QtestObject server = new() { Chardev = backend.ChardevId, Log = _configuration.Qtest.LogPath };
        _machine!.AddChild("qtest", server);
        _location = null;
        server.Complete(_objectContext);
    }
}
