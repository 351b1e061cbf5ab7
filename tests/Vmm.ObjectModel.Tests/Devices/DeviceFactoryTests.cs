using Vmm.ObjectModel.Devices;
using Vmm.Qapi;

namespace Vmm.ObjectModel.Tests.Devices;

public sealed class DeviceFactoryTests
{
    private Bench _bench = null!;
    private SampleBridge _bridge = null!;

    [SetUp]
    public void SetUp()
    {
        _bench = new Bench();
        _bridge = new SampleBridge();
        _bench.Devices.Realize(_bridge, _bench.RootBus);
        _bench.Devices.IsMachineReady = true;
    }

    [TearDown]
    public void TearDown() => _bench.Dispose();

    [TestCase("{}", "Parameter 'driver' is missing")]
    [TestCase("""{"driver":"nope"}""", "'nope' is not a valid device model name")]
    [TestCase("""{"driver":"memory-backend-ram"}""", "'memory-backend-ram' is not a valid device model name")]
    [TestCase("""{"driver":"device"}""", "Parameter 'driver' expects a non-abstract device type")]
    [TestCase("""{"driver":"sample-card-base"}""", "Parameter 'driver' expects a non-abstract device type")]
    [TestCase("""{"driver":"sample-fixed"}""", "Parameter 'driver' expects a pluggable device type")]
    [TestCase("""{"driver":"sample-bridge"}""", "Parameter 'driver' expects a pluggable device type")]
    [TestCase("""{"driver":"sample-card","id":"1r"}""", "Parameter 'id' expects an identifier")]
    [TestCase("""{"driver":"sample-card","bus":"nope"}""", "Bus 'nope' not found")]
    [TestCase("""{"driver":"sample-card","bus":5}""", "Bus '5' not found")]
    [TestCase("""{"driver":"sample-card","bus":"main-system-bus"}""", "Device 'sample-card' can't go on System bus")]
    [TestCase("""{"driver":"sample-card","bogus":1}""", "Property 'sample-card.bogus' not found")]
    [TestCase("""{"driver":"sample-card","lanes":"zz"}""", "Parameter 'lanes' expects integer")]
    [TestCase("""{"driver":"sample-card","lanes":-1}""", "Parameter 'lanes' expects uint32_t")]
    [TestCase("""{"driver":"sample-card","lanes":true}""", "Parameter 'lanes' expects integer")]
    [TestCase("""{"driver":"sample-card","loud":"zz"}""", "Parameter 'loud' expects 'on' or 'off'")]
    [TestCase("""{"driver":"sample-card","hotplugged":"on"}""", "Property 'sample-card.hotplugged' is not writable")]
    [TestCase("""{"driver":"sample-card","fail":"on"}""", "sample-card: told to fail")]
    public void RefusedInKnownWords(string arguments, string desc)
    {
        Assert.That(Add(arguments), Is.EqualTo(Error("GenericError", desc)));
        Assert.That(_bench.Objects.Peripheral.Children, Is.Empty);
        Assert.That(_bench.Objects.PeripheralAnon.Children, Is.Empty);
        Assert.That(_bridge.ChildBuses[0].Devices, Is.Empty);
        Assert.That(_bench.Devices.VmStates.Sections, Is.Empty);
    }

    [Test]
    public void AddedDevicesAreInTheirPlaces()
    {
        Assert.That(Add("""{"driver":"card","id":"c0","lanes":"8","loud":true}"""), Is.EqualTo("{}"));
        Assert.That(Add("""{"driver":"sample-card"}"""), Is.EqualTo("{}"));
        Assert.That(Add("""{"driver":"sample-card","id":"c0"}"""), Is.EqualTo(Error("GenericError", "Duplicate device ID 'c0'")));
        Assert.That(_bench.Execute("qom-get", """{"path":"c0","property":"lanes"}"""), Is.EqualTo("8"));
        Assert.That(_bench.Execute("qom-get", """{"path":"c0","property":"hotplugged"}"""), Is.EqualTo("true"));
        Assert.That(_bench.Execute("qom-get", """{"path":"c0","property":"parent_bus"}"""), Is.EqualTo("\"/machine/unattached/device[0]/slots.0\""));
        Assert.That(_bench.Objects.Resolve("/machine/peripheral-anon/device[0]"), Is.Not.Null);
        Assert.That(_bench.Objects.Resolve("slots.0/child[0]")?.CanonicalPath, Is.EqualTo("/machine/peripheral/c0"));
        Assert.That(
            _bench.Execute("qom-set", """{"path":"c0","property":"lanes","value":1}"""),
            Is.EqualTo(Error("GenericError", "Attempt to set property 'lanes' on device 'c0' (type 'sample-card') after it was realized")));
        Assert.That(_bench.Execute("qom-set", """{"path":"c0","property":"loud","value":false}"""), Is.EqualTo("{}"));
        Assert.That(_bench.Devices.VmStates.Sections.Select(s => s.InstanceId), Is.EqualTo(new[] { 0, 1 }));
    }

    [Test]
    public void FullBusTakesNoMore()
    {
        for (int i = 0; i < 8; i++)
        {
            Assert.That(Add("""{"driver":"sample-card"}"""), Is.EqualTo("{}"));
        }

        Assert.That(Add("""{"driver":"sample-card"}"""), Is.EqualTo(Error("GenericError", "No 'Slots' bus found for device 'sample-card'")));
        Assert.That(Add("""{"driver":"sample-card","bus":"slots.0"}"""), Is.EqualTo(Error("GenericError", "Bus 'slots.0' is full")));
    }

    [TestCase("/sample-bridge/slots.0", null)]
    [TestCase("/sample-bridge", null)]
    [TestCase("slots.0", null)]
    [TestCase("/nope", "Device 'nope' not found")]
    [TestCase("/sample-bridge/zz", "Bus 'zz' not found")]
    [TestCase("sample-bridge/zz", "Bus 'sample-bridge' not found")]
    [TestCase("slots.0/c0", "Device 'c0' has no child bus")]
    public void BusPathsAreFollowed(string path, string? desc)
    {
        Add("""{"driver":"sample-card","id":"c0"}""");
        if (desc is null)
        {
            Assert.That(_bench.Devices.FindBus(path).BusName, Is.EqualTo("slots.0"));
        }
        else
        {
            Assert.That(Assert.Throws<QapiException>(() => _bench.Devices.FindBus(path))!.Desc, Is.EqualTo(desc));
        }
    }

    [Test]
    public void DeletionIsToldWhenTheGuestAgreed()
    {
        Add("""{"driver":"sample-card","id":"c0"}""");
        _bridge.IsGuestWilling = false;
        Assert.That(Delete("c0"), Is.EqualTo("{}"));
        Assert.That(_bench.TakeEvents(), Is.Empty);
        Assert.That(Delete("c0"), Is.EqualTo(Error("GenericError", "Device c0 is already in the process of unplug")));
        _bridge.Pending.Single().Value();
        Assert.That(_bench.TakeEvents(), Is.EqualTo(new[] { """DEVICE_DELETED {"device": "c0", "path": "/machine/peripheral/c0"}""" }));
        Assert.That(Delete("c0"), Is.EqualTo(Error("DeviceNotFound", "Device 'c0' not found")));
        Assert.That(_bench.Devices.VmStates.Sections, Is.Empty);
        Assert.That(Add("""{"driver":"sample-card","id":"c0"}"""), Is.EqualTo("{}"));
    }

    [TestCase("nope", "DeviceNotFound", "Device 'nope' not found")]
    [TestCase("/nope", "DeviceNotFound", "Device '/nope' not found")]
    [TestCase("", "GenericError", " is not a hotpluggable device")]
    [TestCase("/machine/unattached/device[0]", "GenericError", "Bus 'main-system-bus' does not support hotplugging")]
    public void DeletionIsRefusedInKnownWords(string id, string errorClass, string desc) =>
        Assert.That(Delete(id), Is.EqualTo(Error(errorClass, desc)));

    [Test]
    public void FixedBusTakesNothingOnceTheMachineIsReady()
    {
        _bridge.ChildBuses[0].HotplugHandler = null;
        Assert.That(Add("""{"driver":"sample-card"}"""), Is.EqualTo(Error("GenericError", "Bus 'slots.0' does not support hotplugging")));
        _bench.Devices.IsMachineReady = false;
        Assert.That(Add("""{"driver":"sample-card"}"""), Is.EqualTo("{}"));
    }

    [Test]
    public void GlobalsComeBeforeTheUsersValues()
    {
        _bench.Devices.Globals.Add(new GlobalProperty("sample-card-base", "lanes", "16"));
        _bench.Devices.Globals.Add(new GlobalProperty("sample-card", "room", "4K"));
        Add("""{"driver":"sample-card","id":"a","lanes":"2"}""");
        Add("""{"driver":"sample-card","id":"b"}""");
        Assert.That(_bench.Execute("qom-get", """{"path":"a","property":"lanes"}"""), Is.EqualTo("2"));
        Assert.That(_bench.Execute("qom-get", """{"path":"b","property":"lanes"}"""), Is.EqualTo("16"));
        Assert.That(_bench.Execute("qom-get", """{"path":"b","property":"room"}"""), Is.EqualTo("4096"));
        Assert.That(_bench.Devices.Globals.All(g => g.IsUsed));
        _bench.Devices.Globals.Add(new GlobalProperty("sample-card", "zz", "1"));
        Assert.That(
            Add("""{"driver":"sample-card"}"""),
            Is.EqualTo(Error("GenericError", "can't apply global sample-card.zz=1: Property 'sample-card.zz' not found")));
    }

    [Test]
    public void PropertiesAreListedWithDefaults()
    {
        Assert.That(_bench.Execute("device-list-properties", """{"typename":"sample-card"}"""), Is.EqualTo(
            """[{"name": "room", "type": "size"}, {"default-value": 4, "name": "lanes", "type": "uint32"}, """
            + """{"name": "fail", "type": "bool"}, {"default-value": false, "name": "loud", "description": "on/off", "type": "bool"}]"""));
        Assert.That(_bench.Execute("device-list-properties", """{"typename":"nope"}"""), Is.EqualTo(Error("DeviceNotFound", "Device 'nope' not found")));
        Assert.That(
            _bench.Execute("device-list-properties", """{"typename":"sample-card-base"}"""),
            Is.EqualTo(Error("GenericError", "Parameter 'typename' expects a non-abstract device type")));
    }

    [Test]
    public void HelpIsPrintedAsKnown()
    {
        Assert.That(DeviceHelp.PropertiesText(_bench.Objects, "card"), Is.EqualTo(
            "sample-card options:\n  fail=<bool>\n  lanes=<uint32>         -  (default: 4)\n  loud=<bool>            - on/off (default: false)\n  room=<size>\n"));
        Assert.That(DeviceHelp.Types(_bench.Objects), Is.EqualTo(
            "Controller/Bridge/Hub devices:\nname \"sample-bridge\", bus System\n\n"
            + "Misc devices:\nname \"sample-card\", bus Slots, alias \"card\", desc \"Sample card\"\n"));
    }

    [Test]
    public void TreeOfBusesIsPrinted()
    {
        Add("""{"driver":"sample-card","id":"c0"}""");
        Assert.That(_bench.Human("info", "qtree"), Is.EqualTo(
            "bus: main-system-bus\n  type System\n  dev: sample-bridge, id \"\"\n    bus: slots.0\n      type Slots\n"
            + "      dev: sample-card, id \"c0\"\n        gpio-out \"\" 1\n        loud = false\n        fail = false\n"
            + "        lanes = 4 (0x4)\n        room = 2048 (2 KiB)\n"));
    }

    private static string Error(string errorClass, string desc) => new QDict { ["class"] = errorClass, ["desc"] = desc }.ToJson();

    private string Add(string arguments) => _bench.Execute("device_add", arguments);

    private string Delete(string id) => _bench.Execute("device_del", $$"""{"id":"{{id}}"}""");
}
