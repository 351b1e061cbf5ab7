using Vmm.TestKit.Devices;

namespace Vmm.Devices.Tests.Virtio;

/// <summary>What only a split ring can get wrong: its list of available descriptors.</summary>
[TestFixture(true)]
[TestFixture(false)]
public sealed class VirtioBlkSplitRingTests(bool isLegacy)
{
    private VirtioDisk _disk = null!;

    [SetUp]
    public void SetUp() => _disk = new VirtioDisk(isLegacy, isPacked: false);

    [TearDown]
    public void TearDown() => _disk.Dispose();

    [TestCase(2u, (ushort)999, TestName = "AnIndexFurtherAheadThanTheRingIsLongBreaksTheDevice")]
    [TestCase(4u, (ushort)16, TestName = "AHeadOutsideOfTheRingBreaksTheDevice")]
    public void ABrokenListOfAvailableDescriptorsBreaksTheDevice(uint offset, ushort value)
    {
        _disk.SetUp();
        _disk.Submit(4, 0, [], 0);
        _disk.Machine.Memory.WriteU16(_disk.Available + offset, value);
        _disk.AssertBroken();
    }
}
