using System.Buffers.Binary;
using System.Text;
using Vmm.TestKit.Guests;
using Vmm.TestKit.Processes;

namespace Vmm.Guest.Tests;

/// <summary>Debian's SeaBIOS in our machine: what it finds, where it puts the ACPI tables, and that it knows a reset from a wake-up.</summary>
public sealed class FirmwareTests
{
    private const string Firmware = "/usr/share/seabios/bios-256k.bin";
    private const string Log = "seabios.txt";
    private const int PatienceSeconds = 300;
    private const uint LowRom = 0xe0000;
    private const uint LowRomSize = 0x20000;

    [Test]
    public void SeaBiosPlacesTheTablesAndComesBackFromResetAndSleep()
    {
        GuestRun.RequireKvm();
        if (!File.Exists(Firmware))
        {
            Assert.Ignore($"needs {Firmware} (Debian package seabios)");
        }

        using Emulator emulator = Emulator.Start(
            "-accel", "kvm", "-machine", "pc", "-m", "64", "-nodefaults", "-display", "none", "-bios", Firmware,
            "-chardev", "file,id=log,path=" + Log, "-device", "isa-debugcon,iobase=0x402,chardev=log");
        using QmpClient qmp = emulator.Qmp();

        string log = WaitLog(emulator, "No bootable device.", 1);
        Assert.That(log, Does.Contain("Running on QEMU (i440fx)").And.Contain("QEMU fw_cfg DMA interface supported"));
        Assert.That(log, Does.Contain("Moving pm_base to 0x600").And.Contain("(via rsdt)").And.Contain("ACPI: parse DSDT at "));
        Assert.That(log, Does.Not.Contain("parse error"));
        CheckTables(emulator, qmp);

        // The firmware's copy of itself tells it that it has run before.
        qmp.Execute("system_reset");
        WaitLog(emulator, "In resume (status=0)", 1);
        WaitLog(emulator, "No bootable device.", 2);

        // Type 1 of the sleep control register is suspension to RAM. Nobody has set a waking vector: the firmware says so, and starts anew.
        qmp.Human("o /w 0x604 0x2400");
        qmp.WaitEvent("SUSPEND");
        qmp.Execute("system_wakeup");
        WaitLog(emulator, "In resume (status=254)", 1);
        WaitLog(emulator, "No resume vector set!", 1);
    }

    [Test]
    public void WithoutFirmwareTheStructuresAreWhereTheBiosWouldBe()
    {
        using GuestRun run = GuestRun.Start("pc", TestGuests.Spin(), debugExit: false, "-m", "64", "-S");
        using QmpClient qmp = run.Emulator.Qmp();
        byte[] bios = Memory(run.Emulator, qmp, 0xf0000, 0x1000);
        Assert.That(bios.AsSpan().StartsWith("_SM_"u8) && Sum(bios.AsSpan(0, bios[5])) == 0);
        uint structures = BinaryPrimitives.ReadUInt32LittleEndian(bios.AsSpan(24)) - 0xf0000;
        string text = Encoding.ASCII.GetString(bios.AsSpan((int)structures, BinaryPrimitives.ReadUInt16LittleEndian(bios.AsSpan(22))));
        Assert.That(text, Does.Contain("QEMU\0Standard PC (i440FX + PIIX, 1996)\0pc-i440fx-7.2\0\0"));
    }

    private static string WaitLog(Emulator emulator, string text, int times)
    {
        string path = Path.Combine(emulator.Directory, Log);
        string log = "";
        bool Found()
        {
            using FileStream file = new(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
            using StreamReader reader = new(file, Encoding.Latin1);
            log = reader.ReadToEnd();
            return log.Split(text).Length > times;
        }

        bool found = SpinWait.SpinUntil(() => Found() || emulator.Process.HasExited, TimeSpan.FromSeconds(PatienceSeconds));
        Assert.That(found && Found(), $"'{text}' is missing: {log}{emulator.Errors}");
        return log;
    }

    private static void CheckTables(Emulator emulator, QmpClient qmp)
    {
        byte[] low = Memory(emulator, qmp, LowRom, LowRomSize);
        int rsdp = -1;
        for (int at = 0; at < low.Length && rsdp < 0; at += 16)
        {
            rsdp = low.AsSpan(at).StartsWith("RSD PTR "u8) ? at : -1;
        }

        Assert.That(rsdp, Is.Not.Negative);
        Assert.That(Sum(low.AsSpan(rsdp, 20)), Is.Zero);
        byte[] rsdt = Table(emulator, qmp, BinaryPrimitives.ReadUInt32LittleEndian(low.AsSpan(rsdp + 16)), "RSDT");
        byte[] fadt = Table(emulator, qmp, BinaryPrimitives.ReadUInt32LittleEndian(rsdt.AsSpan(36)), "FACP");
        Table(emulator, qmp, BinaryPrimitives.ReadUInt32LittleEndian(rsdt.AsSpan(40)), "APIC");
        Table(emulator, qmp, BinaryPrimitives.ReadUInt32LittleEndian(fadt.AsSpan(40)), "DSDT");
        uint facs = BinaryPrimitives.ReadUInt32LittleEndian(fadt.AsSpan(36));
        Assert.That(Encoding.ASCII.GetString(Memory(emulator, qmp, facs, 4)), Is.EqualTo("FACS"));
        Assert.That(facs % 64, Is.Zero);
    }

    private static byte[] Table(Emulator emulator, QmpClient qmp, uint address, string signature)
    {
        byte[] header = Memory(emulator, qmp, address, 36);
        Assert.That(Encoding.ASCII.GetString(header.AsSpan(0, 4)), Is.EqualTo(signature));
        byte[] table = Memory(emulator, qmp, address, BinaryPrimitives.ReadUInt32LittleEndian(header.AsSpan(4)));
        Assert.That(Sum(table), Is.Zero, signature);
        return table;
    }

    private static byte[] Memory(Emulator emulator, QmpClient qmp, uint address, uint length)
    {
        string path = Path.Combine(emulator.Directory, "memory.bin");
        qmp.Execute("pmemsave", $$"""{"val": {{address}}, "size": {{length}}, "filename": "{{path}}"}""");
        return File.ReadAllBytes(path);
    }

    private static byte Sum(ReadOnlySpan<byte> bytes)
    {
        byte sum = 0;
        foreach (byte b in bytes)
        {
            sum += b;
        }

        return sum;
    }
}
