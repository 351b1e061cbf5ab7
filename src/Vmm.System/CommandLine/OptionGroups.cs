using Vmm.Qapi.Options;

namespace Vmm.System.CommandLine;

/// <summary>The option groups that this program serves, by the names that -set, -readconfig and query-command-line-options use.</summary>
internal static class OptionGroups
{
    /// <summary>Names of all groups in the order in which query-command-line-options lists them.</summary>
    public static ReadOnlySpan<string> Names => new[]
    {
        "machine", "action", "name", "msg", "overcommit", "object", "add-fd", "boot-opts", "smp-opts", "memory", "accel", "trace", "mon",
        "global", "rtc", "device", "chardev", "drive",
    };

    /// <summary>Whether a group is stored in nested form, so that -set does not reach it.</summary>
    public static bool IsNested(string name) => name is "object" or "machine" or "smp-opts" or "boot-opts";

    /// <summary>Makes the description of a group; null when there is none of that name.</summary>
    public static OptionGroup? Create(string name) => name switch
    {
        "machine" => new("machine", "type", true),
        "object" => new("object", "qom-type", false),
        "device" => new("device", "driver", false),
        "accel" => new("accel", "accel", false),
        "action" => new(
            "action",
            null,
            true,
            Text("shutdown"),
            Text("reboot"),
            Text("panic"),
            Text("watchdog")),
        "name" => new(
            "name",
            "guest",
            true,
            Text("guest", "Sets the name of the guest."),
            Text("process", "Sets the name of the process, as shown by ps and top"),
            Bool("debug-threads", "Names the threads of the process; defaults off. The names are not a stable interface.")),
        "msg" => new(
            "msg",
            null,
            true,
            Bool("timestamp"),
            Bool("guest-name", "Prepends the guest's name to messages when -name guest is set")),
        "overcommit" => new("overcommit", null, true, Bool("mem-lock"), Bool("cpu-pm")),
        "add-fd" => new(
            "add-fd",
            null,
            false,
            Number("fd", "file descriptor of which a duplicate is added to fd set"),
            Number("set", "ID of the fd set to add fd to"),
            Text("opaque", "free-form string used to describe fd")),
        "boot-opts" => new(
            "boot-opts",
            "order",
            true,
            Text("order"),
            Text("once"),
            Bool("menu"),
            Text("splash"),
            Number("splash-time"),
            Number("reboot-timeout"),
            Bool("strict")),
        "smp-opts" => new(
            "smp-opts",
            "cpus",
            true,
            Number("cpus"),
            Number("sockets"),
            Number("dies"),
            Number("clusters"),
            Number("cores"),
            Number("threads"),
            Number("maxcpus")),
        "memory" => new("memory", "size", true, Size("size"), Number("slots"), Size("maxmem")),
        "trace" => new("trace", "enable", false, Text("enable"), Text("events"), Text("file")),
        "mon" => new("mon", "chardev", false, Text("mode"), Text("chardev"), Bool("pretty")),
        "global" => new("global", null, false, Text("driver"), Text("property"), Text("value")),
        "rtc" => new("rtc", null, true, Text("base"), Text("clock"), Text("driftfix")),
        "chardev" => Chardevs.ChardevOptions.Group,
        "drive" => new("drive", null, false),
        _ => null,
    };

    /// <summary>What query-command-line-options shows of -machine, whose properties belong to the machine types.</summary>
    public static OptionDescriptor[] MachineParameters() =>
    [
        Text("type", "emulated machine"),
        Text("accel", "accelerator list"),
        Bool("kernel_irqchip", "use KVM in-kernel irqchip"),
        Text("kernel", "Linux kernel image file"),
        Text("initrd", "Linux initial ramdisk file"),
        Text("append", "Linux kernel command line"),
        Bool("dump-guest-core", "Include guest memory in  a core dump"),
        Bool("mem-merge", "enable/disable memory merge support"),
        Text("firmware", "firmware image"),
    ];

    /// <summary>What query-command-line-options shows of -drive, most of whose options belong to the block drivers; last first.</summary>
    public static OptionDescriptor[] DriveParameters()
    {
        List<OptionDescriptor> list =
        [
            Text("node-name", "Node name of the block device node"),
            Text("driver", "Block driver to use for the node"),
            Bool("cache.direct", "Bypass software writeback cache on the host"),
            Bool("cache.no-flush", "Ignore flush requests"),
            Bool("auto-read-only", "Node can become read-only if opening read-write fails"),
            Text("discard", "discard operation (ignore/off, unmap/on)"),
            Bool("force-share", "always accept other writers (default: off)"),
            Bool("snapshot", "enable/disable snapshot mode"),
            Text("aio", "host AIO implementation (threads, native, io_uring)"),
            Bool("cache.writeback", "Enable writeback mode"),
            Text("format", "disk format (raw, qcow2, ...)"),
            Text("werror", "write error action"),
            Number("throttling.iops-total", "limit total I/O operations per second"),
            Number("throttling.iops-read", "limit read operations per second"),
            Number("throttling.iops-write", "limit write operations per second"),
            Number("throttling.bps-total", "limit total bytes per second"),
            Number("throttling.bps-read", "limit read bytes per second"),
            Number("throttling.bps-write", "limit write bytes per second"),
            Number("throttling.iops-total-max", "I/O operations burst"),
            Number("throttling.iops-read-max", "I/O operations read burst"),
            Number("throttling.iops-write-max", "I/O operations write burst"),
            Number("throttling.bps-total-max", "total bytes burst"),
            Number("throttling.bps-read-max", "total bytes read burst"),
            Number("throttling.bps-write-max", "total bytes write burst"),
        ];
        foreach (string unit in (ReadOnlySpan<string>)["iops", "bps"])
        {
            foreach (string kind in (ReadOnlySpan<string>)["total", "read", "write"])
            {
                list.Add(Number($"throttling.{unit}-{kind}-max-length", $"length of the {unit}-{kind}-max burst period, in seconds"));
            }
        }

        list.AddRange(
        [
            Number("throttling.iops-size", "when limiting by iops max size of an I/O in bytes"),
            Text("throttling.group", "name of the block throttling group"),
            Text("detect-zeroes", "try to optimize zero writes (off, on, unmap)"),
            Bool("stats-account-invalid", "whether to account for invalid I/O operations in the statistics"),
            Bool("stats-account-failed", "whether to account for failed I/O operations in the statistics"),
            Number("bus", "bus number"),
            Number("unit", "unit number (i.e. lun for scsi)"),
            Number("index", "index number"),
            Text("media", "media type (disk, cdrom)"),
            Text("if", "interface (ide, scsi, sd, mtd, floppy, pflash, virtio)"),
            Text("file", "file name"),
            Bool("read-only", "open drive file as read-only"),
            Text("rerror", "read error action"),
            Text("werror", "write error action"),
            Bool("copy-on-read", "copy read data from backing file into image file"),
        ]);
        return [.. list];
    }

    private static OptionDescriptor Text(string name, string? help = null) => new(name, OptionType.String, help);

    private static OptionDescriptor Bool(string name, string? help = null) => new(name, OptionType.Boolean, help);

    private static OptionDescriptor Number(string name, string? help = null) => new(name, OptionType.Number, help);

    private static OptionDescriptor Size(string name) => new(name, OptionType.Size);
}
