namespace Vmm.Machines.Acpi;

/// <summary>The differentiated system description table's contents: devices that cannot be enumerated, and how to switch off.</summary>
internal static class Dsdt
{
    private const int PciSlots = 32;
    private const string IsaInPci = "\\_SB.PCI0.ISA";

    public static AmlWriter Build(AcpiConfig config)
    {
        var aml = new AmlWriter();
        var softOff = config.Ged?.SoftOffType ?? config.Pm!.SoftOffType;
        AddSleepState(aml, "\\_S3", config.Pm?.SuspendToRamType);
        AddSleepState(aml, "\\_S4", config.Pm?.SuspendToDiskType);
        AddSleepState(aml, "\\_S5", softOff);

        AddProcessors(aml, config);
        if (config.Pci is { } pci)
        {
            AddPciHost(aml, pci);
        }

        // SeaBIOS stumbles over a scope with nothing in it.
        if (config.Serials.Count > 0 || config.Keyboard || config.Rtc || config.PvpanicPort != 0)
        {
            var isa = aml.BeginScope(config.Pci is null ? "\\_SB" : IsaInPci);
            AddIsaDevices(aml, config);
            aml.End(isa);
        }

        var board = aml.BeginScope("\\_SB");
        AddVirtio(aml, config);
        if (config.FwCfgPort != 0)
        {
            var device = Device(aml, "FWCF", "QEMU0002");
            aml.NameInteger("_STA", 0x0b);
            aml.NameResources("_CRS", new ResourceTemplate().Io(config.FwCfgPort, 12)).End(device);
        }

        if (config.Ged is { } ged)
        {
            AddGed(aml, ged);
        }

        return aml.End(board);
    }

    private static void AddSleepState(AmlWriter aml, string name, byte? type)
    {
        if (type is { } value)
        {
            aml.Name(name);
            var package = aml.BeginPackage(4);
            aml.Integer(value).Integer(value).Integer(0).Integer(0).End(package);
        }
    }

    private static void AddProcessors(AmlWriter aml, AcpiConfig config)
    {
        var scope = aml.BeginScope("\\_SB");
        for (var i = 0; i < config.ApicIds.Count; i++)
        {
            var device = aml.BeginDevice($"C{i:X3}");
            aml.Name("_HID").String("ACPI0007").NameInteger("_UID", (ulong)i).End(device);
        }

        aml.End(scope);
    }

    private static void AddIsaDevices(AmlWriter aml, AcpiConfig config)
    {
        foreach (var serial in config.Serials)
        {
            var device = Device(aml, $"COM{serial.Number}", "PNP0501");
            aml.NameInteger("_UID", (ulong)serial.Number).NameInteger("_STA", 0x0f);
            aml.NameResources("_CRS", new ResourceTemplate().Io(serial.Port, 8).Irq(serial.Irq)).End(device);
        }

        if (config.Keyboard)
        {
            var keyboard = Device(aml, "KBD", "PNP0303");
            aml.NameInteger("_STA", 0x0f);
            aml.NameResources("_CRS", new ResourceTemplate().Io(0x60, 1).Io(0x64, 1).Irq(1)).End(keyboard);
            var mouse = Device(aml, "MOU", "PNP0F13");
            aml.NameInteger("_STA", 0x0f).NameResources("_CRS", new ResourceTemplate().Irq(12)).End(mouse);
        }

        if (config.Rtc)
        {
            var rtc = Device(aml, "RTC", "PNP0B00");
            aml.NameResources("_CRS", new ResourceTemplate().Io(0x70, 8).Irq(8)).End(rtc);
        }

        if (config.PvpanicPort != 0)
        {
            AddPvpanic(aml, config.PvpanicPort);
        }
    }

    // SPEC: QEMU docs/specs/pvpanic: RDPT reads the supported events, WRPT reports one.
    private static void AddPvpanic(AmlWriter aml, ushort port)
    {
        var device = Device(aml, "PEVT", "QEMU0001");
        aml.NameResources("_CRS", new ResourceTemplate().Io(port, 1));
        aml.OperationRegion("PEOR", RegionSpace.SystemIo, port, 1).Field("PEOR", 0x01, ("PEPT", 8));
        aml.NameInteger("_STA", 0x0f);
        var read = aml.BeginMethod("RDPT", 0);
        aml.Raw(0xa4).Path("PEPT").End(read);
        var write = aml.BeginMethod("WRPT", 1);
        aml.Raw(0x70).Argument(0).Path("PEPT").End(write);
        aml.End(device);
    }

    private static void AddVirtio(AmlWriter aml, AcpiConfig config)
    {
        for (var i = 0; i < config.VirtioMmio.Count; i++)
        {
            var transport = config.VirtioMmio[i];
            var device = Device(aml, $"VR{i:X2}", "LNRO0005");
            aml.NameInteger("_UID", (ulong)i);
            var resources = new ResourceTemplate().Memory32(transport.Address, transport.Length);
            aml.NameResources("_CRS", resources.Interrupt(level: false, shared: false, transport.Interrupt)).End(device);
        }
    }

    // ACPI 6.4, 5.6.9: _EVT is called with the interrupt's number; the selector says what happened and is cleared by reading.
    private static void AddGed(AmlWriter aml, AcpiGedBlock ged)
    {
        const ulong PowerButton = 2;
        var device = Device(aml, "GED", "ACPI0013");
        aml.Name("_UID").String("GED");
        aml.NameResources("_CRS", new ResourceTemplate().Interrupt(level: false, shared: false, ged.Interrupt));
        aml.OperationRegion("EREG", RegionSpace.SystemMemory, ged.Selector, 4).Field("EREG", 0x43, ("ESEL", 32));
        var handler = aml.BeginMethod("_EVT", 1, serialized: true);
        aml.Raw(0x70).Path("ESEL").Local(0);
        var condition = aml.BeginIf();
        aml.Raw(0x7b).Local(0).Integer(PowerButton).Raw(0x00);
        aml.Raw(0x86).Path("PWRB").Integer(0x80).End(condition);
        aml.End(handler).End(device);

        var button = Device(aml, "PWRB", "PNP0C0C");
        aml.NameInteger("_UID", 0).End(button);
    }

    private static void AddPciHost(AmlWriter aml, AcpiPciHost pci)
    {
        var board = aml.BeginScope("\\_SB");
        var host = Device(aml, "PCI0", "PNP0A03");
        aml.NameInteger("_UID", 0);
        var windows = new ResourceTemplate()
            .BusNumbers(0, 0xff)
            .Io(0xcf8, 8)
            .IoWindow(0, 0xcf7)
            .IoWindow(0xd00, 0xffff)
            .MemoryWindow32(0xa0000, 0xbffff, cacheable: true)
            .MemoryWindow32(pci.WindowStart, pci.WindowEnd, cacheable: false);
        if (pci.Window64End != 0)
        {
            windows.MemoryWindow64(pci.Window64Start, pci.Window64End, cacheable: true);
        }

        aml.NameResources("_CRS", windows);
        AddRouting(aml);

        // The PIIX3's routing registers: one byte per pin, bit 7 is off, the low nibble the ISA interrupt.
        var isa = aml.BeginDevice("ISA");
        aml.NameInteger("_ADR", 0x00010000);
        aml.OperationRegion("P40C", RegionSpace.PciConfig, 0x60, 4);
        aml.Field("P40C", 0x01, ("PRQ0", 8), ("PRQ1", 8), ("PRQ2", 8), ("PRQ3", 8)).End(isa);
        aml.End(host);
        for (var i = 0; i < 4; i++)
        {
            AddLink(aml, i);
        }

        AddSciLink(aml);
        aml.End(board);
    }

    // Pin p of slot s arrives at link (s + p - 1) mod 4; slot 1 holds the power management function, whose interrupt is the SCI.
    private static void AddRouting(AmlWriter aml)
    {
        aml.Name("_PRT");
        var all = aml.BeginPackage(PciSlots * 4);
        for (var slot = 0; slot < PciSlots; slot++)
        {
            for (var pin = 0; pin < 4; pin++)
            {
                var entry = aml.BeginPackage(4);
                aml.Integer((ulong)slot << 16 | 0xffff).Integer((ulong)pin);
                aml.Path(slot == 1 && pin == 0 ? "\\_SB.LNKS" : "\\_SB.LNK" + "DABC"[(slot + pin) & 3]).Integer(0).End(entry);
            }
        }

        aml.End(all);
    }

    private static void AddLink(AmlWriter aml, int number)
    {
        var register = $"{IsaInPci}.PRQ{number}";
        var device = Device(aml, $"LNK{(char)('A' + number)}", "PNP0C0F");
        aml.NameInteger("_UID", (ulong)number);
        aml.NameResources("_PRS", new ResourceTemplate().Interrupt(level: true, shared: true, 5, 10, 11));

        var status = aml.BeginMethod("_STA", 0);
        var off = aml.BeginIf();
        aml.Raw(0x7b).Path(register).Integer(0x80).Raw(0x00);
        aml.Raw(0xa4).Integer(0x09).End(off);
        aml.Raw(0xa4).Integer(0x0b).End(status);

        var disable = aml.BeginMethod("_DIS", 0);
        aml.Raw(0x7d).Path(register).Integer(0x80).Path(register).End(disable);

        // Byte 5 of an extended interrupt descriptor with one number is that number.
        aml.NameResources("PRR0", new ResourceTemplate().Interrupt(level: true, shared: true, 0));
        var current = aml.BeginMethod("_CRS", 0, serialized: true);
        aml.Raw(0x8a).Path("PRR0").Integer(5).Path("PRRI");
        var on = aml.BeginIf();
        aml.Raw(0x95).Path(register).Integer(0x80);
        aml.Raw(0x70).Path(register).Path("PRRI").End(on);
        aml.Raw(0xa4).Path("PRR0").End(current);

        var set = aml.BeginMethod("_SRS", 1);
        aml.Raw(0x8a).Argument(0).Integer(5).Path("PRRI");
        aml.Raw(0x70).Path("PRRI").Path(register).End(set);
        aml.End(device);
    }

    private static void AddSciLink(AmlWriter aml)
    {
        var device = Device(aml, "LNKS", "PNP0C0F");
        aml.NameInteger("_UID", 4);
        aml.NameResources("_PRS", new ResourceTemplate().Interrupt(level: true, shared: true, 9));
        aml.NameInteger("_STA", 0x0b);
        aml.End(aml.BeginMethod("_DIS", 0));
        var current = aml.BeginMethod("_CRS", 0);
        aml.Raw(0xa4).Path("_PRS").End(current);
        aml.End(aml.BeginMethod("_SRS", 1));
        aml.End(device);
    }

    // PNP identifiers are written compressed, others as strings.
    private static int Device(AmlWriter aml, string name, string hardwareId)
    {
        var mark = aml.BeginDevice(name);
        aml.Name("_HID");
        _ = hardwareId.StartsWith("PNP", StringComparison.Ordinal) ? aml.EisaId(hardwareId) : aml.String(hardwareId);
        return mark;
    }
}
