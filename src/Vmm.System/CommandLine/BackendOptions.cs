using Vmm.Qapi;
using Vmm.Qapi.Options;

namespace Vmm.System.CommandLine;

/// <summary>One monitor.</summary>
/// <param name="Id">Its id, or null.</param>
/// <param name="Chardev">Id of its character device.</param>
/// <param name="Control">True for QMP, false for the human monitor.</param>
/// <param name="Pretty">Indented output.</param>
/// <param name="Location">Where it was given.</param>
public sealed record MonitorOption(string? Id, string Chardev, bool Control, bool Pretty, string? Location);

/// <summary>The back end of a serial port or debug console.</summary>
/// <param name="Label">Id of the character device that is made for it: "serial0".</param>
/// <param name="Text">The option's argument, for messages.</param>
/// <param name="Chardev">The character device to make, or null when an existing one is named.</param>
/// <param name="ChardevId">Id of the character device to use, made or existing.</param>
/// <param name="Location">Where it was given.</param>
public sealed record LegacyBackend(string Label, string Text, QemuOpts? Chardev, string ChardevId, string? Location)
{
    /// <summary>Whether the character device is shared with a human monitor.</summary>
    public bool WithMonitor => Chardev?.Get("mux") == "on";
}

/// <summary>The argument of -serial or -debugcon as given.</summary>
/// <param name="Text">The argument.</param>
/// <param name="Location">Where it was given.</param>
public sealed record LegacyBackendText(string Text, string? Location);

/// <summary>
/// Character devices, monitors, serial ports and debug consoles of a command line. Used in steps, in the order in which the machine comes to be,
/// so that messages come in the order users know: <see cref="AddDefaults"/> once the machine type is known, then the character devices are
/// created, then <see cref="ResolveMonitors"/>, <see cref="ResolveSerials"/> and <see cref="ResolveDebugConsoles"/>.
/// </summary>
public sealed class BackendOptions
{
    private readonly OptsList _chardevs;
    private readonly OptsList _monitors;
    private readonly Action<Diagnostic> _report;
    private int _compatMonitors;

    internal BackendOptions(OptsList chardevs, OptsList monitors, Action<Diagnostic> report)
    {
        _chardevs = chardevs;
        _monitors = monitors;
        _report = report;
    }

    /// <summary>Character devices to create before any device, in order: -chardev and those that -qmp and -monitor imply.</summary>
    public IReadOnlyList<QemuOpts> Chardevs => _chardevs.Items;

    /// <summary>Arguments of -serial in order.</summary>
    internal List<LegacyBackendText> Serials { get; } = [];

    /// <summary>Arguments of -debugcon in order.</summary>
    internal List<LegacyBackendText> DebugConsoles { get; } = [];

    /// <summary>Whether the user left the serial port to the machine.</summary>
    internal bool DefaultSerial { get; set; }

    /// <summary>Whether the user left the monitor to the machine.</summary>
    internal bool DefaultMonitor { get; set; }

    /// <summary>Adds what a machine gets when nothing was said.</summary>
    /// <param name="machineHasSerial">Whether the machine type has a serial port.</param>
    /// <param name="nographic">-nographic was given.</param>
    /// <param name="daemonize">-daemonize was given.</param>
    /// <exception cref="QapiException">-nographic would put a serial port or monitor on the terminal of a daemon.</exception>
    public void AddDefaults(bool machineHasSerial, bool nographic, bool daemonize)
    {
        DefaultSerial &= machineHasSerial;
        if (daemonize && nographic && (DefaultSerial || DefaultMonitor))
        {
            throw new QapiException("-nographic cannot be used with -daemonize");
        }

        if (nographic)
        {
            if (DefaultSerial && DefaultMonitor)
            {
                Serials.Add(new LegacyBackendText("mon:stdio", null));
            }
            else if (DefaultSerial)
            {
                Serials.Add(new LegacyBackendText("stdio", null));
            }
            else if (DefaultMonitor)
            {
                AddMonitor("stdio", control: false, pretty: false, null);
            }
        }
        else if (DefaultSerial)
        {
            // There is no display whose virtual console could show the port.
            Serials.Add(new LegacyBackendText("null", null));
        }

        DefaultSerial = false;
        DefaultMonitor = false;
    }

    /// <summary>The monitors in order; their character devices have been declared.</summary>
    /// <returns>Null when one is not valid; that has been reported.</returns>
    public IReadOnlyList<MonitorOption>? ResolveMonitors()
    {
        var monitors = new List<MonitorOption>(_monitors.Items.Count);
        foreach (QemuOpts opts in _monitors.Items)
        {
            try
            {
                monitors.Add(ResolveMonitor(opts));
            }
            catch (QapiException exception)
            {
                _report(new Diagnostic(DiagnosticKind.Error, opts.Location, exception.Desc, exception.Hint));
                return null;
            }
        }

        return monitors;
    }

    /// <summary>The serial ports in order; the index in the list is the number of the port.</summary>
    /// <param name="connect">Makes the character device of one before the next is looked at; what it throws is reported.</param>
    /// <returns>Null when one is not valid; that has been reported.</returns>
    public IReadOnlyList<LegacyBackend>? ResolveSerials(Action<LegacyBackend>? connect = null)
    {
        var serials = new List<LegacyBackend>(Serials.Count);
        foreach (LegacyBackendText serial in Serials)
        {
            if (serial.Text == "none")
            {
                continue;
            }

            if (Resolve($"serial{serials.Count}", serial) is not { } backend || !TryConnect(backend, connect))
            {
                ReportSerialFailure(serial.Text, serial.Location);
                return null;
            }

            serials.Add(backend);
        }

        return serials;
    }

    /// <summary>The debug consoles in order.</summary>
    /// <param name="connect">As for <see cref="ResolveSerials"/>.</param>
    /// <returns>Null when one is not valid; that has been reported.</returns>
    public IReadOnlyList<LegacyBackend>? ResolveDebugConsoles(Action<LegacyBackend>? connect = null)
    {
        var consoles = new List<LegacyBackend>(DebugConsoles.Count);
        foreach (LegacyBackendText console in DebugConsoles)
        {
            if (Resolve("debugcon", console) is not { } backend || !TryConnect(backend, connect))
            {
                _report(new Diagnostic(DiagnosticKind.Error, console.Location, $"invalid character backend '{console.Text}'"));
                return null;
            }

            consoles.Add(backend);
        }

        return consoles;
    }

    /// <summary>The character device of -qtest.</summary>
    /// <returns>Null when it is not valid; that has been reported.</returns>
    public LegacyBackend? ResolveQtest(string text)
    {
        LegacyBackend? backend = Resolve("qtest", new LegacyBackendText(text, null), permitMonitor: false);
        if (backend == null)
        {
            _report(new Diagnostic(DiagnosticKind.Error, null, $"Failed to initialize device for qtest: \"{text}\""));
        }

        return backend;
    }

    /// <summary>Reports that the character device of a serial port could not be made, after the reason has been reported.</summary>
    public void ReportSerialFailure(string text, string? location) => _report(new Diagnostic(
        DiagnosticKind.Error, location, $"could not connect serial device to character backend '{text}'"));

    /// <summary>Declares a monitor from the argument of -monitor or -qmp.</summary>
    /// <exception cref="QapiException">The argument is not valid; the reason, if there is one to tell, has been reported.</exception>
    internal void AddMonitor(string text, bool control, bool pretty, string? location)
    {
        string label;
        if (text.StartsWith("chardev:", StringComparison.Ordinal))
        {
            label = text[8..];
        }
        else
        {
            label = $"compat_monitor{_compatMonitors}";
            if (!ChardevCompat.TryParse(_chardevs, label, text, location, out _, out QapiException? error))
            {
                if (error != null)
                {
                    _report(new Diagnostic(DiagnosticKind.Error, location, error.Desc, error.Hint));
                }

                throw new QapiException($"parse error: {text}");
            }
        }

        QemuOpts opts = _monitors.Create(label, location);
        opts.Append("mode", control ? "control" : "readline");
        opts.Append("chardev", label);
        if (control)
        {
            opts.Append("pretty", pretty ? "on" : "off");
        }

        _compatMonitors++;
    }

    private bool TryConnect(LegacyBackend backend, Action<LegacyBackend>? connect)
    {
        try
        {
            connect?.Invoke(backend);
            return true;
        }
        catch (QapiException exception)
        {
            _report(new Diagnostic(DiagnosticKind.Error, backend.Location, exception.Desc, exception.Hint));
            return false;
        }
    }

    private MonitorOption ResolveMonitor(QemuOpts opts)
    {
        string? mode = opts.Get("mode");
        bool pretty = opts.GetBool("pretty", false);
        string chardev = opts.Get("chardev") ?? throw QapiException.MissingParameter("chardev");
        if (mode is not (null or "readline" or "control"))
        {
            throw QapiException.InvalidEnumValue("mode", mode);
        }

        if (_chardevs.Find(chardev) == null)
        {
            throw new QapiException($"chardev \"{chardev}\" not found");
        }

        if (pretty && mode != "control")
        {
            throw new QapiException("'pretty' is not compatible with HMP monitors");
        }

        return new MonitorOption(opts.Id, chardev, mode == "control", pretty, opts.Location);
    }

    private LegacyBackend? Resolve(string label, LegacyBackendText backend, bool permitMonitor = true)
    {
        if (backend.Text.StartsWith("chardev:", StringComparison.Ordinal))
        {
            string id = backend.Text[8..];
            return _chardevs.Find(id) == null ? null : new LegacyBackend(label, backend.Text, null, id, backend.Location);
        }

        if (!permitMonitor && backend.Text.StartsWith("mon:", StringComparison.Ordinal))
        {
            _report(new Diagnostic(DiagnosticKind.Error, backend.Location, "mon: isn't supported in this context"));
            return null;
        }

        if (ChardevCompat.TryParse(_chardevs, label, backend.Text, backend.Location, out QemuOpts opts, out QapiException? error))
        {
            return new LegacyBackend(label, backend.Text, opts, label, backend.Location);
        }

        if (error != null)
        {
            _report(new Diagnostic(DiagnosticKind.Error, backend.Location, error.Desc, error.Hint));
        }

        return null;
    }
}
