using System.Buffers.Binary;
using System.Globalization;
using System.Text;
using Vmm.TestKit.Processes;

namespace Vmm.Qmp.Tests;

/// <summary>What firmware finds in the configuration device, beside what it finds in that of the real emulator.</summary>
public sealed class FwCfgPeerTests
{
    private const uint Descriptor = 0x1000;
    private const uint Buffer = 0x100000;
    private const ushort FileDirectory = 0x19;

    // Fixed keys that read as zeros where nothing was put under them.
    private static readonly ushort[] s_keys = [0, 1, 2, 3, 4, 5, 0x0d, 0x0e, 0x0f, 0x8000, 0x8001, 0x8002, 0x8003];

    // The option ROM of a device that this machine does not have; a device tree.
    private static readonly string[] s_unserved = ["genroms/kvmvapic.bin", "etc/fdt"];

    // Other tables than the real emulator's: their names and, where it rounds them up, their sizes are the same.
    private static readonly string[] s_own = ["etc/acpi/tables", "etc/table-loader", "etc/acpi/rsdp"];

    [TestCase("pc,vmport=off", "pc")]
    [TestCase("pc,vmport=off", "pc", "-smp", "3,maxcpus=5", "-boot", "menu=on,splash-time=77,reboot-timeout=5", "-uuid", "01234567-89ab-cdef-0123-456789abcdef")]
    [TestCase("pc,vmport=off", "pc", "-device", "pvpanic,ioport=0x555", "-global", "PIIX4_PM.disable_s4=1", "-global", "PIIX4_PM.s4_val=5")]
    [TestCase("pc,vmport=off", "pc", "-m", "5G", "-smp", "2,maxcpus=12,sockets=3,cores=2,threads=2", "-cpu", "Nehalem,-vme", "-uuid", "01234567-89ab-cdef-0123-456789abcdef")]
    [TestCase("pc,vmport=off", "pc", "-m", "20G")]
    [TestCase("pc,vmport=off,acpi=off", "pc,acpi=off")]
    [TestCase("microvm", "microvm")]
    [TestCase("microvm,acpi=off", "microvm,acpi=off", "-smp", "2")]
    public void BothOfferTheSame(string theirMachine, string ourMachine, params string[] arguments)
    {
        if (Emulator.RealQemu is not { } qemu)
        {
            Assert.Ignore("needs QEMU 7.2 installed as the peer to compare with");
            return;
        }

        string[] common = ["-m", "64", "-nodefaults", "-display", "none", .. arguments];
        string[] theirs = Read(qemu, ["-accel", "tcg", "-S", "-machine", theirMachine, .. common]);
        string[] ours = Read(Emulator.OurBinary, ["-accel", "qtest", "-machine", ourMachine, .. common]);
        Assert.That(ours, Is.EqualTo(theirs));
    }

    private static string[] Read(string binary, string[] arguments)
    {
        using QtestSession session = new(binary, arguments);
        List<string> lines = [];
        foreach (ushort key in s_keys)
        {
            lines.Add($"{key:x4} {Convert.ToHexStringLower(Item(session, key, 64))}");
        }

        int count = (int)BinaryPrimitives.ReadUInt32BigEndian(Item(session, FileDirectory, 4));
        byte[] directory = Item(session, FileDirectory, 4 + (count * 64));
        int skipped = 0;
        for (int i = 0; i < count; i++)
        {
            ReadOnlySpan<byte> entry = directory.AsSpan(4 + (i * 64), 64);
            int size = BinaryPrimitives.ReadInt32BigEndian(entry);
            ushort key = BinaryPrimitives.ReadUInt16BigEndian(entry[4..]);
            string name = Encoding.ASCII.GetString(entry[8..]).TrimEnd('\0');
            if (s_unserved.Contains(name))
            {
                skipped++;
                continue;
            }

            string content = s_own.Contains(name) ? "" : Convert.ToHexStringLower(Item(session, key, size));
            string length = s_own.Contains(name) && size % 4096 != 0 && name != "etc/acpi/rsdp" ? "" : size.ToString(CultureInfo.InvariantCulture);
            lines.Add($"{key - skipped:x4} {name} {length} {content}");
        }

        return [.. lines];
    }

    // Through DMA: selects the key and reads.
    private static byte[] Item(QtestSession session, ushort key, int length)
    {
        if (length == 0)
        {
            return [];
        }

        byte[] descriptor = new byte[16];
        BinaryPrimitives.WriteUInt32BigEndian(descriptor, ((uint)key << 16) | 0x8 | 0x2);
        BinaryPrimitives.WriteInt32BigEndian(descriptor.AsSpan(4), length);
        BinaryPrimitives.WriteUInt64BigEndian(descriptor.AsSpan(8), Buffer);
        session.Ask($"write 0x{Descriptor:x} 0x10 0x{Convert.ToHexStringLower(descriptor)}");
        session.Ask("outl 0x514 0x0");
        session.Ask($"outl 0x518 0x{BinaryPrimitives.ReverseEndianness(Descriptor):x}");
        string answer = session.Ask($"read 0x{Buffer:x} 0x{length:x}")[^1];
        return Convert.FromHexString(answer["OK 0x".Length..]);
    }
}
