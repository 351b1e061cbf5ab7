using System.Runtime.InteropServices;
using Vmm.EventLoop;
using Vmm.Memory;
using Vmm.ObjectModel.Accel;
using Vmm.ObjectModel.Devices;
using Vmm.ObjectModel.Logging;
using Vmm.ObjectModel.Qmp;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.Run;
using Vmm.Qapi;

namespace Vmm.ObjectModel.Tests;

/// <summary>Everything of the object model wired together, with an accelerator that executes nothing.</summary>
internal sealed class Bench : IMachineServices, IEventEmitter, IDisposable
{
    private readonly object _sync = new();
    private readonly InterruptLine[] _gsi = [new()];

    public Bench()
    {
        Clocks = new Clocks();
        Clocks.UseManualVirtual();
        Lock = new MachineLock();
        MainLoop = new EventLoop.EventLoop("main", Clocks, Lock);
        MainLoop.Bind();
        Lock.Enter();
        SystemMemory = MemoryRegion.Container("system", UInt128.One << 64);
        SystemIo = MemoryRegion.PortSpace();
        Memory = new AddressSpace("memory", SystemMemory);
        Ports = new AddressSpace("I/O", SystemIo);
        Types = new QomTypeRegistry();
        Types.AddCatalog(SampleDevices.Register);
        Objects = new QomTree(Types);
        Objects.SetMachine(new Container());
        Accelerator = new FakeAccelerator(Lock);
        Run = new RunControl(MainLoop, Accelerator, this) { Exit = () => { } };
        RootBus = new SampleBus { BusName = "main-system-bus" };
        Objects.Unattached.AddChild("sysbus", RootBus);
        Devices = new DeviceFactory(Objects, this) { Machine = this, MainSystemBus = RootBus };
        Context = new ObjectContext(Objects, MainLoop, Clocks);
        UserObjects = new ObjectFactory(Context);
        Table = new CommandTable();
        Summary = new MachineSummary();
        var run = new RunCommands(Run);
        var qom = new QomCommands(Objects);
        var objects = new ObjectCommands(UserObjects);
        var devices = new DeviceCommands(Objects, Devices);
        var machine = new MachineCommands(Summary, Objects, Context.Ram);
        var memory = new MemorySaveCommands(() => this, new WorkerPool());
        ObjectModelCatalog.RegisterRunCommands(Table, run);
        ObjectModelCatalog.RegisterQomCommands(Table, qom);
        ObjectModelCatalog.RegisterObjectCommands(Table, objects);
        ObjectModelCatalog.RegisterDeviceCommands(Table, devices);
        ObjectModelCatalog.RegisterMachineCommands(Table, machine);
        ObjectModelCatalog.RegisterStatic(Table);
        ObjectModelCatalog.RegisterMemorySaveCommands(Table, memory);
        Traces = new TraceEventRegistry();
        Traces.AddCatalog(static () => RunControl.TraceEvents);
        var traces = new TraceCommands(Traces, () => Accelerator);
        ObjectModelCatalog.RegisterTraceCommands(Table, traces);
        Hmp = new HmpTable();
        ObjectModelCatalog.RegisterHmp(Hmp, devices, machine, memory, objects, qom, run, traces);
    }

    public EventLoop.EventLoop MainLoop { get; }

    public Clocks Clocks { get; }

    public MachineLock Lock { get; }

    public MemoryRegion SystemMemory { get; }

    public MemoryRegion SystemIo { get; }

    public AddressSpace Memory { get; }

    public AddressSpace Ports { get; }

    public QomTypeRegistry Types { get; }

    public QomTree Objects { get; }

    public FakeAccelerator Accelerator { get; }

    public RunControl Run { get; }

    public DeviceFactory Devices { get; }

    public Bus RootBus { get; }

    public ObjectContext Context { get; }

    public ObjectFactory UserObjects { get; }

    public CommandTable Table { get; }

    public HmpTable Hmp { get; }

    public MachineSummary Summary { get; }

    public TraceEventRegistry Traces { get; }

    public Vmm.ObjectModel.Block.IBlockBackends Blocks => throw new NotSupportedException();

    public IReadOnlyList<InterruptLine> Gsi => _gsi;

    IRunControl IMachineServices.Run => Run;

    IEventEmitter IMachineServices.Events => this;

    IAccelerator IMachineServices.Accelerator => Accelerator;

    /// <summary>Events since the last look, as "NAME" or "NAME data".</summary>
    private List<string> Recorded { get; } = [];

    public void AddResetHandler(Action reset)
    {
    }

    public void Emit(IQmpEvent qmpEvent)
    {
        string text = qmpEvent.Info.Name;
        if (qmpEvent.Info.HasData)
        {
            var writer = new JsonWriter();
            qmpEvent.QapiWrite(writer);
            text += " " + writer;
        }

        lock (_sync)
        {
            Recorded.Add(text);
        }
    }

    public string[] TakeEvents()
    {
        lock (_sync)
        {
            string[] events = [.. Recorded];
            Recorded.Clear();
            return events;
        }
    }

    /// <summary>Runs the loop until nothing is due.</summary>
    public void Settle()
    {
        while (MainLoop.RunOnce(block: false))
        {
        }
    }

    /// <summary>Runs a command as a client writes it; the answer is the "return" or "error" value as JSON.</summary>
    public string Execute(string command, string arguments = "{}")
    {
        Assert.That(Table.TryGet(command, out CommandEntry? entry), command);
        var writer = new JsonWriter();
        try
        {
            ValueTask task = entry!.Invoke((QDict)QValue.Parse(arguments), new Session(), writer);
            Assert.That(task.IsCompleted);
            task.GetAwaiter().GetResult();
            return writer.WrittenCount == 0 ? "{}" : writer.ToString();
        }
        catch (QapiException e)
        {
            return new QDict { ["class"] = System.Text.Encoding.ASCII.GetString(QapiException.WireName(e.ErrorClass)), ["desc"] = e.Desc }.ToJson();
        }
    }

    /// <summary>Runs a monitor command for people.</summary>
    public string Human(string group, string name, QDict? arguments = null)
    {
        Assert.That(Hmp.TryGet(group, name, out HmpEntry? entry), name);
        var context = new HmpText();
        try
        {
            entry!.Invoke(context, arguments ?? new QDict()).GetAwaiter().GetResult();
        }
        catch (QapiException e)
        {
            context.PrintError(e);
        }

        return context.Text;
    }

    public void Dispose()
    {
        foreach (QomObject child in Objects.Objects.Children.ToArray())
        {
            child.Unparent();
        }

        Memory.Dispose();
        Ports.Dispose();
        MainLoop.Dispose();
        if (Lock.IsHeldByCurrentThread)
        {
            Lock.Exit();
        }
    }

    private sealed class Session : IMonitorSession
    {
        public string? Name => null;

        public bool IsHmp => false;

        public int CpuIndex { get; set; } = -1;

        public SafeHandle? TakeReceivedFd() => null;

        public void AddNamedFd(string name, SafeHandle fd) => fd.Dispose();

        public bool CloseNamedFd(string name) => false;

        public SafeHandle? TakeNamedFd(string name) => null;
    }

    private sealed class HmpText : HmpContext
    {
        public string Text { get; private set; } = "";

        public override IMonitorSession Session { get; } = new Session();

        public override void Print(ReadOnlySpan<char> text) => Text += text.ToString();
    }
}
