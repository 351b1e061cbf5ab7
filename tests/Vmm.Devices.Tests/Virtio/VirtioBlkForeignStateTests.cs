using Vmm.ObjectModel.VmState;
using Vmm.TestKit.Devices;

namespace Vmm.Devices.Tests.Virtio;

/// <summary>The migration section of a disk on a legacy transport as QEMU 7.2 writes it.</summary>
public sealed class VirtioBlkForeignStateTests
{
    [Test]
    public void AStateSavedByQemuIsLoaded()
    {
        using VirtioDisk disk = new(isLegacy: true, isPacked: false);

        // A device of QEMU 7.2 after its reset; the configuration space is zero there until it is read first.
        byte[] qemu = new byte[139];
        qemu[23] = 57;
        qemu[84] = 1;
        qemu[87] = 1;
        qemu[91] = 0x10;
        qemu[104] = VmStateFormat.Subsection;
        qemu[105] = 21;
        "virtio/64bit_features"u8.CopyTo(qemu.AsSpan(106));
        qemu[130] = 1;
        disk.Disk.LoadState(new VmStateReader(qemu), 2);
        VmStateWriter writer = new();
        disk.Disk.SaveState(writer);
        byte[] saved = writer.WrittenSpan.ToArray();
        saved.AsSpan(24, 57).Clear();
        Assert.That(saved, Is.EqualTo(qemu));
    }
}
