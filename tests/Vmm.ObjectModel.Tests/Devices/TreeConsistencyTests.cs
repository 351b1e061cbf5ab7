using FsCheck;
using FsCheck.Fluent;
using Vmm.ObjectModel.Devices;
using Vmm.ObjectModel.Qom;

namespace Vmm.ObjectModel.Tests.Devices;

/// <summary>Whatever is added and deleted in whatever order, tree, buses and migration sections describe the same machine.</summary>
public sealed class TreeConsistencyTests
{
    [Test]
    public void RandomSequencesKeepTheTreeConsistent() => Prop.ForAll(
        ArbMap.Default.ArbFor<byte[]>(),
        operations =>
        {
            using var bench = new Bench();
            var bridge = new SampleBridge();
            bench.Devices.Realize(bridge, bench.RootBus);
            bench.Devices.IsMachineReady = true;
            foreach (byte operation in operations)
            {
                string id = "x" + ((operation >> 3) % 6);
                switch (operation & 7)
                {
                    case 0:
                        bench.Execute("object-add", $$"""{"qom-type":"memory-backend-ram","id":"{{id}}","size":4096}""");
                        break;
                    case 1:
                        bench.Execute("object-add", $$"""{"qom-type":"secret","id":"{{id}}","data":"d"}""");
                        break;
                    case 2:
                        bench.Execute("object-del", $$"""{"id":"{{id}}"}""");
                        break;
                    case 3:
                        bench.Execute("device_add", $$"""{"driver":"sample-card","id":"{{id}}"}""");
                        break;
                    case 4:
                        bench.Execute("device_add", $$"""{"driver":"sample-card","id":"{{id}}","fail":"on"}""");
                        break;
                    case 5:
                        bridge.IsGuestWilling = (operation & 8) != 0;
                        bench.Execute("device_del", $$"""{"id":"{{id}}"}""");
                        break;
                    case 6:
                        foreach (Action complete in bridge.Pending.Values.ToArray())
                        {
                            complete();
                        }

                        bridge.Pending.Clear();
                        break;
                    default:
                        bench.Execute("device_add", """{"driver":"sample-card"}""");
                        break;
                }

                Check(bench, bridge);
            }
        }).QuickCheckThrowOnFailure();

    private static void Check(Bench bench, SampleBridge bridge)
    {
        Walk(bench.Objects, bench.Objects.Root, []);
        Bus bus = bridge.ChildBuses[0];
        var devices = bench.Objects.Peripheral.Children.Concat(bench.Objects.PeripheralAnon.Children).Cast<Device>().ToHashSet();
        Assert.That(bus.Devices, Is.EquivalentTo(devices));
        Assert.That(devices.All(d => d.IsRealized && ReferenceEquals(d.ParentBus, bus)));
        Assert.That(bench.Devices.VmStates.Sections.Select(s => s.Target), Is.EquivalentTo(devices));
        int links = bench.Objects.ListProperties(bus).Count(p => p.Name.StartsWith("child[", StringComparison.Ordinal));
        Assert.That(links, Is.EqualTo(devices.Count));
        int backends = bench.Objects.Objects.Children.Count(o => o is Objects.MemoryBackend);
        Assert.That(bench.Context.Ram.Blocks, Has.Count.EqualTo(backends));
    }

    private static void Walk(QomTree tree, QomObject at, HashSet<QomObject> seen)
    {
        Assert.That(seen.Add(at), "an object is in the tree twice");
        Assert.That(tree.Resolve(at.CanonicalPath!), Is.SameAs(at));
        Assert.That(at.ChildrenInWireOrder(), Is.EquivalentTo(at.Children));
        foreach (QomObject child in at.Children)
        {
            Assert.That(child.Parent, Is.SameAs(at));
            Walk(tree, child, seen);
        }
    }
}
