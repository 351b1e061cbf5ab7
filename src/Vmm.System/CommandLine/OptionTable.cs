namespace Vmm.System.CommandLine;

/// <summary>The options that this program serves.</summary>
internal enum OptionId
{
    /// <summary>An option of the emulator we mirror that this build does not serve.</summary>
    Unserved,

    /// <summary>An option that exists for other architectures only.</summary>
    OtherTarget,
    Accel,
    Action,
    AddFd,
    Append,
    Bios,
    Boot,
    Chardev,
    Cpu,
    D,
    Daemonize,
    Debugcon,
    Device,
    Display,
    EnableKvm,
    Global,
    Help,
    Initrd,
    Kernel,
    LogFile,
    DataDirectory,
    Machine,
    Memory,
    MemoryPath,
    MemoryPrealloc,
    Mon,
    Monitor,
    Msg,
    Name,
    Net,
    Nic,
    NoAcpi,
    NoDefaults,
    NoHpet,
    NoReboot,
    NoShutdown,
    NoUserConfig,
    Nographic,
    Blockdev,
    Cdrom,
    Drive,
    FloppyA,
    FloppyB,
    HardDiskA,
    HardDiskB,
    HardDiskC,
    HardDiskD,
    MtdBlock,
    Pflash,
    Sd,
    Snapshot,
    Object,
    Overcommit,
    Parallel,
    PidFile,
    Preconfig,
    Qmp,
    QmpPretty,
    Qtest,
    QtestLog,
    ReadConfig,
    Rtc,
    Serial,
    Set,
    Smp,
    Stopped,
    Trace,
    Uuid,
    Version,
    Vga,
    WatchdogAction,
}

/// <summary>What an option name means.</summary>
/// <param name="Id">The option.</param>
/// <param name="HasArgument">Whether the next argument belongs to it.</param>
internal readonly record struct OptionInfo(OptionId Id, bool HasArgument);

/// <summary>
/// The one table of option names. It is code, not data, so that nothing is built at start.
/// </summary>
internal static class OptionTable
{
    /// <summary>Finds an option by its name without dashes.</summary>
    public static bool TryFind(ReadOnlySpan<char> name, out OptionInfo info)
    {
        info = name switch
        {
            "accel" => With(OptionId.Accel),
            "action" => With(OptionId.Action),
            "add-fd" => With(OptionId.AddFd),
            "append" => With(OptionId.Append),
            "bios" => With(OptionId.Bios),
            "boot" => With(OptionId.Boot),
            "chardev" => With(OptionId.Chardev),
            "cpu" => With(OptionId.Cpu),
            "d" => With(OptionId.D),
            "daemonize" => Flag(OptionId.Daemonize),
            "debugcon" => With(OptionId.Debugcon),
            "device" => With(OptionId.Device),
            "display" => With(OptionId.Display),
            "enable-kvm" => Flag(OptionId.EnableKvm),
            "global" => With(OptionId.Global),
            "h" or "help" => Flag(OptionId.Help),
            "initrd" => With(OptionId.Initrd),
            "kernel" => With(OptionId.Kernel),
            "D" => With(OptionId.LogFile),
            "L" => With(OptionId.DataDirectory),
            "M" or "machine" => With(OptionId.Machine),
            "m" => With(OptionId.Memory),
            "mem-path" => With(OptionId.MemoryPath),
            "mem-prealloc" => Flag(OptionId.MemoryPrealloc),
            "mon" => With(OptionId.Mon),
            "monitor" => With(OptionId.Monitor),
            "msg" => With(OptionId.Msg),
            "name" => With(OptionId.Name),
            "net" => With(OptionId.Net),
            "nic" => With(OptionId.Nic),
            "no-acpi" => Flag(OptionId.NoAcpi),
            "nodefaults" => Flag(OptionId.NoDefaults),
            "no-hpet" => Flag(OptionId.NoHpet),
            "no-reboot" => Flag(OptionId.NoReboot),
            "no-shutdown" => Flag(OptionId.NoShutdown),
            "no-user-config" => Flag(OptionId.NoUserConfig),
            "nographic" => Flag(OptionId.Nographic),
            "object" => With(OptionId.Object),
            "overcommit" => With(OptionId.Overcommit),
            "parallel" => With(OptionId.Parallel),
            "pidfile" => With(OptionId.PidFile),
            "preconfig" => Flag(OptionId.Preconfig),
            "qmp" => With(OptionId.Qmp),
            "qmp-pretty" => With(OptionId.QmpPretty),
            "qtest" => With(OptionId.Qtest),
            "qtest-log" => With(OptionId.QtestLog),
            "readconfig" => With(OptionId.ReadConfig),
            "rtc" => With(OptionId.Rtc),
            "serial" => With(OptionId.Serial),
            "set" => With(OptionId.Set),
            "smp" => With(OptionId.Smp),
            "S" => Flag(OptionId.Stopped),
            "blockdev" => With(OptionId.Blockdev),
            "cdrom" => With(OptionId.Cdrom),
            "drive" => With(OptionId.Drive),
            "fda" => With(OptionId.FloppyA),
            "fdb" => With(OptionId.FloppyB),
            "hda" => With(OptionId.HardDiskA),
            "hdb" => With(OptionId.HardDiskB),
            "hdc" => With(OptionId.HardDiskC),
            "hdd" => With(OptionId.HardDiskD),
            "mtdblock" => With(OptionId.MtdBlock),
            "pflash" => With(OptionId.Pflash),
            "sd" => With(OptionId.Sd),
            "snapshot" => Flag(OptionId.Snapshot),
            "trace" => With(OptionId.Trace),
            "uuid" => With(OptionId.Uuid),
            "version" => Flag(OptionId.Version),
            "vga" => With(OptionId.Vga),
            "watchdog-action" => With(OptionId.WatchdogAction),

            "acpitable" or "audio" or "audiodev" or "chroot" or "compat" or "dfilter" or "dtb"
                or "dump-vmstate" or "echr" or "fsdev" or "fw_cfg" or "gdb"
                or "icount" or "incoming" or "iscsi" or "k" or "loadvm" or "netdev" or "numa"
                or "option-rom" or "plugin" or "rotate" or "runas" or "sandbox" or "seed" or "smbios" or "spice"
                or "tpmdev" or "usbdevice" or "virtfs" or "vnc" or "xen-domid" => With(OptionId.Unserved),
            "async-teardown" or "audio-help" or "enable-sync-profile" or "full-screen" or "no-fd-bootchk"
                or "only-migratable" or "portrait" or "s" or "singlestep" or "usb" or "win2k-hack" or "xen-attach"
                or "xen-domid-restrict" => Flag(OptionId.Unserved),
            "g" or "prom-env" or "semihosting-config" => With(OptionId.OtherTarget),
            "old-param" or "semihosting" => Flag(OptionId.OtherTarget),
            _ => new OptionInfo((OptionId)(-1), false),
        };
        return (int)info.Id >= 0;
    }

    private static OptionInfo With(OptionId id) => new(id, true);

    private static OptionInfo Flag(OptionId id) => new(id, false);
}
