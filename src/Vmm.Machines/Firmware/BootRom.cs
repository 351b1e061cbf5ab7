namespace Vmm.Machines.Firmware;

/// <summary>The boot ROM that comes with the product, for a machine that is given neither a kernel nor firmware.</summary>
/// <remarks>
/// It ends at 4 GiB and is also seen below 1 MiB, as every PC firmware; it needs COM1 to be seen, and uses fw_cfg, the PIIX4 or the generic event
/// device, pvpanic and the i8042 where they are. It is not compressed and not kept in memory of ours: the bytes are read out of the executable.
/// </remarks>
public static class BootRom
{
    /// <summary>Size in bytes.</summary>
    public const int Size = 0x10000;

    /// <summary>What the ROM is called in lists.</summary>
    public const string Name = "vmm-bootrom.bin";

    /// <summary>Copies the ROM.</summary>
    /// <param name="target">Exactly <see cref="Size"/> bytes: the top of the firmware region.</param>
    public static void CopyTo(Span<byte> target)
    {
        if (target.Length != Size)
        {
            throw new ArgumentException("the boot ROM is 64 KiB", nameof(target));
        }

        using var stream = typeof(BootRom).Assembly.GetManifestResourceStream(Name)
            ?? throw new InvalidOperationException("the boot ROM is missing from the executable");
        stream.ReadExactly(target);
    }
}
