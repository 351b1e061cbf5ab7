namespace Vmm.ObjectModel.Accel;

/// <summary>An image that is loaded into memory at reset or kept for firmware to fetch.</summary>
/// <param name="Name">File name or what the machine calls it.</param>
/// <param name="Size">Bytes.</param>
/// <param name="Address">Guest physical address; not used when <paramref name="Region"/> is given.</param>
/// <param name="IsRom">The guest cannot write it.</param>
/// <param name="Region">Memory region that backs it instead of an address; null for none.</param>
public sealed record RomInfo(string Name, ulong Size, ulong Address, bool IsRom, string? Region = null);

/// <summary>The images of the machine: firmware, kernels. Home: main loop.</summary>
public sealed class RomList
{
    private readonly List<RomInfo> _roms = [];

    /// <summary>Images by address; those with a region of their own come last, in order of addition.</summary>
    public IReadOnlyList<RomInfo> Roms => _roms;

    /// <summary>Adds an image.</summary>
    public void Add(RomInfo rom)
    {
        int at = _roms.Count;
        while (rom.Region is null && at > 0 && (_roms[at - 1].Region is not null || _roms[at - 1].Address > rom.Address))
        {
            at--;
        }

        _roms.Insert(at, rom);
    }

    /// <summary>One line for each image.</summary>
    public string Describe()
    {
        var text = new System.Text.StringBuilder();
        foreach (RomInfo rom in _roms)
        {
            text.Append(rom.Region is { } region
                ? $"{region} size=0x{rom.Size:x6} name=\"{rom.Name}\"\n"
                : $"addr={rom.Address:x16} size=0x{rom.Size:x6} mem={(rom.IsRom ? "rom" : "ram")} name=\"{rom.Name}\"\n");
        }

        return text.ToString();
    }
}
