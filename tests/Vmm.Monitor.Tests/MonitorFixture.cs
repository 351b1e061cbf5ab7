using Vmm.EventLoop;
using Vmm.Qapi;

namespace Vmm.Monitor.Tests;

/// <summary>A monitor core with test commands on a loop that the test turns by hand.</summary>
internal sealed class MonitorFixture : IDisposable
{
    public MonitorFixture()
    {
        Clocks = new Clocks();
        Clocks.UseManualVirtual();
        Loop = new EventLoop.EventLoop("main", Clocks);
        Loop.Bind();
        var table = new CommandTable();
        Core = new MonitorCore(Loop, new MonitorVersion(7, 2, 22, "Vmm"), table, ClockType.Virtual, hmp =>
        {
            TestsCatalog.RegisterHmp(hmp, Commands);
            MonitorCatalog.RegisterHmp(hmp, new MonitorHmpCommands(Core!));
        })
        {
            ReadRegister = (_, name) => name == "rax" ? 0x1234 : null,
            CpuExists = index => index == 0,
            ParseOptions = (list, text) => new QDict { ["driver"] = text },
        };
        Commands.Events = Core;
        MonitorCatalog.Register(table, new MonitorCommands(Core), new MonitorHmpCommands(Core));
        TestsCatalog.Register(table, Commands);
    }

    public Clocks Clocks { get; }

    public EventLoop.EventLoop Loop { get; }

    public MonitorCore Core { get; }

    public TestCommands Commands { get; } = new();

    public (MemoryChannel Channel, QmpSession Session) Open(bool pretty = false, bool negotiate = false, bool oob = false)
    {
        var channel = new MemoryChannel();
        QmpSession session = Core.AddQmp(channel, "mon0", pretty);
        if (negotiate)
        {
            channel.Send("""{"execute":"qmp_capabilities","arguments":{"enable":[""" + (oob ? "\"oob\"" : "") + "]}}");
            channel.TakeOutput();
        }

        return (channel, session);
    }

    public void Turn()
    {
        for (int i = 0; i < 10; i++)
        {
            Loop.RunOnce(block: false);
        }
    }

    public void Dispose() => Loop.Dispose();
}
