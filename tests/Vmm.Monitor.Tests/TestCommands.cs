using System.Globalization;
using System.Runtime.InteropServices;
using Vmm.Qapi;

namespace Vmm.Monitor.Tests;

/// <summary>The port changed.</summary>
[QmpEvent("PORT_CHANGE", RateLimitMs = 1000, RateKey = "id")]
public sealed partial record PortChange(string Id, bool Open);

/// <summary>The machine stopped.</summary>
[QmpEvent("STOP")]
public sealed partial record StopEvent;

/// <summary>State of the machine.</summary>
[QapiStruct]
public sealed partial record TestStatus(bool Running, bool Singlestep, string Status);

/// <summary>Commands for the tests.</summary>
public sealed class TestCommands
{
    public TaskCompletionSource? Blocked { get; set; }

    public IEventEmitter? Events { get; set; }

    public List<string> Log { get; } = [];

    /// <summary>Tells the status.</summary>
    [QmpCommand("query-status", AllowPreconfig = true)]
    public static TestStatus QueryStatus() => new(false, false, "prelaunch");

    /// <summary>Stops.</summary>
    [QmpCommand("stop")]
    public void Stop() => Events!.Emit(new StopEvent());

    /// <summary>Waits until the test lets it go.</summary>
    [QmpCommand("block", ArgsType = "name:s?")]
    public async Task Block(string? name)
    {
        Log.Add("block " + name);
        await (Blocked ??= new TaskCompletionSource()).Task;
        Log.Add("unblock " + name);
    }

    /// <summary>Fails after waiting.</summary>
    [QmpCommand("block-fail")]
    public async Task<TestStatus> BlockFail()
    {
        await (Blocked ??= new TaskCompletionSource()).Task;
        throw QapiException.DeviceNotFound("x");
    }

    /// <summary>Pauses a migration.</summary>
    [QmpCommand("migrate-pause", AllowOob = true)]
    public static void MigratePause() =>
        throw new QapiException("migrate-pause is currently only supported during postcopy-active state");

    /// <summary>Echoes.</summary>
    [QmpCommand("echo", ArgsType = "value:q", AllowOob = true)]
    public static QValue Echo(QValue value) => value;

    /// <summary>Takes a descriptor.</summary>
    [QmpCommand("getfd", ArgsType = "fdname:s")]
    public void GetFd(string fdname, IMonitorSession session)
    {
        SafeHandle fd = session.TakeReceivedFd()
            ?? throw new QapiException("No file descriptor supplied via SCM_RIGHTS");
        Log.Add($"{fdname}={((FakeFd)fd).Number}");
        session.AddNamedFd(fdname, fd);
    }

    /// <summary>Prints an addition.</summary>
    [HmpCommand("print|p", ArgsType = "fmt:/,val:l", Params = "/fmt expr", Help = "print expression value (use $reg for CPU register access)")]
    public static void Print(HmpContext context, HmpFormat fmt, long val) => context.PrintLine(fmt.Format switch
    {
        'd' => val.ToString(CultureInfo.InvariantCulture),
        'u' => ((ulong)val).ToString(CultureInfo.InvariantCulture),
        'o' => "0" + Convert.ToString(val, 8),
        'c' => $"'{(char)val}'",
        _ => "0x" + val.ToString("x", CultureInfo.InvariantCulture),
    });

    /// <summary>Stops.</summary>
    [HmpCommand("stop|s", Help = "stop emulation")]
    public void HmpStop(HmpContext context) => Log.Add("hmp stop");

    /// <summary>Shows arguments.</summary>
    [HmpCommand("memsave", ArgsType = "val:l,size:i,filename:s", Params = "addr size file", Help = "save to disk")]
    public static void MemSave(HmpContext context, long val, int size, string filename) =>
        context.PrintLine($"{val} {size} [{filename}]");

    /// <summary>Shows arguments.</summary>
    [HmpCommand("balloon", ArgsType = "value:M", Params = "target", Help = "set size")]
    public static void Balloon(HmpContext context, long value) => context.PrintLine($"{value}");

    /// <summary>Shows arguments.</summary>
    [HmpCommand("set_link", ArgsType = "name:s,up:b", Params = "name on|off", Help = "change link")]
    public static void SetLink(HmpContext context, string name, bool up) => context.PrintLine($"{name} {up}");

    /// <summary>Shows arguments.</summary>
    [HmpCommand("migrate", ArgsType = "detach:-d,blk:-b,uri:s", Params = "[-d] [-b] uri", Help = "migrate")]
    public static void Migrate(HmpContext context, bool detach, bool blk, string uri) => context.PrintLine($"{detach} {blk} {uri}");

    /// <summary>Shows arguments.</summary>
    [HmpCommand("block_resize", ArgsType = "device:B,size:o", Params = "device size", Help = "resize")]
    public static void Resize(HmpContext context, string device, long size) => context.PrintLine($"{device} {size}");

    /// <summary>Shows arguments.</summary>
    [HmpCommand("logfile", ArgsType = "filename:F", Params = "filename", Help = "output logs")]
    public static void LogFile(HmpContext context, string filename) => context.PrintLine(filename);

    /// <summary>Shows arguments.</summary>
    [HmpCommand("downtime", ArgsType = "value:T", Params = "value", Help = "set downtime")]
    public static void Downtime(HmpContext context, double value) => context.PrintLine(CFormat.G17(value));

    /// <summary>Shows arguments.</summary>
    [HmpCommand("device_add", ArgsType = "device:O", Params = "driver[,prop=value]", Help = "add device")]
    public static void DeviceAdd(HmpContext context, QDict device) => context.PrintLine(device.ToJson());

    /// <summary>Shows arguments.</summary>
    [HmpCommand("cpu", ArgsType = "index:i", Params = "index", Help = "set the default CPU")]
    public static void Cpu(HmpContext context, int index) => context.MonCpuIndex = index;

    /// <summary>Fails.</summary>
    [HmpCommand("nmi", Help = "inject an NMI")]
    public static void Nmi(HmpContext context) => throw QapiException.Unsupported();

    /// <summary>Shows registers.</summary>
    [HmpCommand("info registers", ArgsType = "cpustate_all:-a", Params = "[-a]", Help = "show the cpu registers")]
    public static void Registers(HmpContext context, [QapiName("cpustate_all")] bool all) => context.PrintLine($"registers {all}");

    /// <summary>Waits.</summary>
    [HmpCommand("wait", Help = "wait")]
    public async Task Wait(HmpContext context)
    {
        await (Blocked ??= new TaskCompletionSource()).Task;
        context.PrintLine("waited");
    }
}
