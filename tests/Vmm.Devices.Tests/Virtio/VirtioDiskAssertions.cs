using Vmm.TestKit.Devices;

namespace Vmm.Devices.Tests.Virtio;

internal static class VirtioDiskAssertions
{
    private const byte Ok = 0;
    private const byte Pending = 255;

    /// <summary>Offers what is in the ring: the device must refuse it, need a reset, do nothing until then, and work afterwards.</summary>
    public static void AssertBroken(this VirtioDisk disk)
    {
        disk.Kick();
        Assert.That(disk.Status, Is.EqualTo(Pending));
        Assert.That(disk.Disk.IsBroken, Is.True);
        Assert.That(disk.Read(0x70) & 0x40, Is.EqualTo(disk.IsLegacy ? 0u : 0x40u));
        Assert.That(disk.Request(4, 0, [], 0), Is.EqualTo(Pending));
        disk.SetUp();
        Assert.That(disk.Request(4, 0, [], 0), Is.EqualTo(Ok));
    }
}
