using Vmm.Qapi.Options;

namespace Vmm.System.CommandLine;

/// <summary>The option groups that this program serves, by the names that -set, -readconfig and query-command-line-options use.</summary>
internal static class OptionGroups
{
    /// <summary>Names of all groups in the order in which query-command-line-options lists them.</summary>
    public static ReadOnlySpan<string> Names => new[]
    {
        "machine", "action", "name", "msg", "overcommit", "object", "add-fd", "boot-opts", "smp-opts", "memory", "accel", "trace", "mon",
        "global", "rtc", "device", "chardev",
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

    private static OptionDescriptor Text(string name, string? help = null) => new(name, OptionType.String, help);

    private static OptionDescriptor Bool(string name, string? help = null) => new(name, OptionType.Boolean, help);

    private static OptionDescriptor Number(string name, string? help = null) => new(name, OptionType.Number, help);

    private static OptionDescriptor Size(string name) => new(name, OptionType.Size);
}
