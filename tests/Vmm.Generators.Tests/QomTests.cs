using Vmm.ObjectModel.Devices;
using Vmm.ObjectModel.Qom;
using Vmm.ObjectModel.VmState;
using Vmm.Qapi;

namespace Vmm.Generators.Tests;

[QomType("sample-base", Parent = "device", BusType = "Sample")]
public abstract partial class SampleBaseDevice : Device
{
    [QomProperty("label", Description = "what it says")]
    public string? Label { get; set; }
}

[QomType("sample-device", Description = "A sample", Category = "Misc", Hotpluggable = false, Interfaces = ["hotplug-handler"])]
public sealed partial class SampleDevice : SampleBaseDevice, IVmStateful
{
    [QomProperty("iobase", Default = "1016")]
    public uint IoBase { get; set; } = 0x3f8;

    [QomProperty("kind", Default = "\"ringbuf\"", SettableAfterRealize = true)]
    public SampleKind Kind { get; set; } = SampleKind.RingBuffer;

    [QomProperty("room", IsSize = true, ObjectOnly = true)]
    public ulong Room { get; set; }

    [QomProperty("peer")]
    public SampleBaseDevice? Peer { get; set; }

    [QomProperty("fixed", Type = "sometype")]
    public bool Fixed { get; } = true;

    public string VmStateName => SampleState.SectionName;

    public int VmStateVersion => SampleState.SectionVersion;

    public void SaveState(VmStateWriter writer)
    {
    }

    public void LoadState(VmStateReader reader, int version)
    {
    }

    protected override void Realize(IMachineServices machine)
    {
    }
}

[QomType("sample-quiet")]
[NotMigratable("it is a sample")]
public sealed partial class SampleQuietDevice(int lanes) : SampleBaseDevice
{
    public int Lanes { get; } = lanes;

    protected override void Realize(IMachineServices machine)
    {
    }
}

[VmState("sample", Version = 3, MinimumVersion = 2)]
public sealed partial record SampleState
{
    public ushort First { get; init; }

    [VmArray(3)]
    public byte[] Bytes { get; init; } = [1, 2, 3];

    [VmArray(2)]
    [VmSince(3)]
    public uint[] Words { get; init; } = [7, 8];

    [VmSince(3)]
    public SampleKind Kind { get; init; } = SampleKind.Null;

    public SampleInner Inner { get; init; } = new(5, true);

    [VmArray(2)]
    public SampleInner[] Inners { get; init; } = [new(1, false), new(2, true)];

    [VmSubsection]
    public SampleExtra? Extra { get; init; }

    [VmSubsection]
    public SampleMore? More { get; init; }
}

[VmState("inner")]
public sealed partial record SampleInner(sbyte Small, bool Flag);

[VmState("sample/extra", Version = 2)]
public sealed partial record SampleExtra
{
    public long Deadline { get; init; }
}

[VmState("sample/more")]
public partial record struct SampleMore(byte Value);

public sealed class QomTests
{
    [Test]
    public void TypeInfoSaysWhatTheAttributesSay()
    {
        QomTypeInfo info = SampleDevice.TypeInfo;
        Assert.That(info.Name, Is.EqualTo("sample-device"));
        Assert.That(info.Parent, Is.EqualTo("sample-base"));
        Assert.That(info.Interfaces, Is.EqualTo(new[] { "hotplug-handler" }));
        Assert.That((info.Description, info.Category, info.Hotpluggable, info.UserCreatable), Is.EqualTo(("A sample", "Misc", false, true)));
        Assert.That(SampleBaseDevice.TypeInfo.IsAbstract);
        Assert.That(SampleBaseDevice.TypeInfo.BusType, Is.EqualTo("Sample"));
        Assert.That(SampleBaseDevice.TypeInfo.Factory is null && SampleQuietDevice.TypeInfo.Factory is null);
        QomObject made = info.Factory!();
        Assert.That(made, Is.InstanceOf<SampleDevice>());
        Assert.That(made.Type, Is.SameAs(info));
        Assert.That(info.Properties().Select(p => (p.Name, p.Type)), Is.EqualTo(new[]
        {
            ("iobase", "uint32"), ("kind", "SampleKind"), ("room", "size"), ("peer", "link<sample-base>"), ("fixed", "sometype"),
        }));
    }

    [Test]
    public void PropertiesReadAndWrite()
    {
        var device = new SampleDevice();
        Dictionary<string, QomPropertyInfo> properties = SampleDevice.TypeInfo.Properties().ToDictionary(p => p.Name);
        properties["iobase"].Set!(device, new PropertyInput("iobase", "0x2f8", isKeyval: true));
        properties["kind"].Set!(device, new PropertyInput("kind", "socket", isKeyval: false));
        properties["room"].Set!(device, new PropertyInput("room", "4K", isKeyval: true));
        SampleBaseDevice.TypeInfo.Properties()[0].Set!(device, new PropertyInput("label", "l", isKeyval: false));
        Assert.That((device.IoBase, device.Kind, device.Room, device.Label), Is.EqualTo((0x2f8u, SampleKind.Socket, 4096ul, "l")));
        Assert.That(properties["iobase"].Get!(device).ToJson(), Is.EqualTo("760"));
        Assert.That(properties["kind"].Get!(device).ToJson(), Is.EqualTo("\"socket\""));
        Assert.That(properties["peer"].Get!(device).ToJson(), Is.EqualTo("\"\""));
        Assert.That(properties["peer"].Target!(device), Is.Null);
        Assert.That(properties["fixed"].Set, Is.Null);
        Assert.That(properties["kind"].DefaultValue!().ToJson(), Is.EqualTo("\"ringbuf\""));
        Assert.That(properties["iobase"].IsDeviceProperty && !properties["room"].IsDeviceProperty);
        Assert.That(properties["kind"].SettableAfterRealize);
        QapiException error = Assert.Throws<QapiException>(() =>
            properties["kind"].Set!(device, new PropertyInput("kind", "x", isKeyval: false)))!;
        Assert.That(error.Desc, Is.EqualTo("Parameter 'kind' does not accept value 'x'"));
    }

    [Test]
    public void StateIsBigEndianInDeclarationOrder()
    {
        var writer = new VmStateWriter();
        new SampleState { First = 0x1234, Kind = SampleKind.RingBuffer, More = new SampleMore(0xAB) }.Save(writer);
        string expected = "1234" + "010203" + "0000000700000008" + "00000001" + "0501" + "0100" + "0201"
            + "05" + "0B" + Convert.ToHexString("sample/more"u8) + "00000001" + "AB";
        Assert.That(Convert.ToHexString(writer.WrittenSpan), Is.EqualTo(expected));
    }

    [Test]
    public void StateRoundTrips()
    {
        var state = new SampleState
        {
            First = 1,
            Bytes = [9, 8, 7],
            Words = [1, uint.MaxValue],
            Inner = new SampleInner(-5, false),
            Inners = [new SampleInner(-1, true), new SampleInner(-2, false)],
            Extra = new SampleExtra { Deadline = -1 },
            More = new SampleMore(3),
        };
        var writer = new VmStateWriter();
        state.Save(writer);
        SampleState back = SampleState.Load(new VmStateReader(writer.WrittenSpan.ToArray()), 3);
        var again = new VmStateWriter();
        back.Save(again);
        Assert.That(again.WrittenSpan.SequenceEqual(writer.WrittenSpan));
        Assert.That(back.Extra, Is.EqualTo(state.Extra));
        Assert.That(back.Kind, Is.EqualTo(SampleKind.Null));
    }

    [Test]
    public void OlderVersionsLeaveDefaults()
    {
        byte[] old = Convert.FromHexString("0001" + "010203" + "0501" + "0100" + "0201");
        SampleState state = SampleState.Load(new VmStateReader(old), 2);
        Assert.That(state.Words, Is.EqualTo(new uint[] { 7, 8 }));
        Assert.That(state.Kind, Is.EqualTo(SampleKind.Null));
        Assert.Throws<VmStateException>(() => SampleState.Load(new VmStateReader(old), 1));
        Assert.Throws<VmStateException>(() => SampleState.Load(new VmStateReader(old), 4));
        Assert.Throws<VmStateException>(() => SampleState.Load(new VmStateReader(old.AsMemory(0, 8)), 2));
    }

    [Test]
    public void CatalogueHoldsAllTypes()
    {
        var registry = new QomTypeRegistry();
        TestsQomTypes.Register(registry);
        Assert.That(registry.TryGet("sample-device", out QomTypeInfo? device) && device == SampleDevice.TypeInfo);
        Assert.That(registry.TryGet("sample-quiet", out QomTypeInfo? quiet) && quiet == SampleQuietDevice.TypeInfo);
    }
}
