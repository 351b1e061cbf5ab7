namespace Vmm.Devices;

/// <summary>Packed binary coded decimal, two digits per byte.</summary>
public static class Bcd
{
    /// <summary>Packs 0..99.</summary>
    public static byte Pack(int value) => (byte)((value / 10 << 4) | (value % 10));

    /// <summary>Unpacks; digits above nine count as ten times that much, as adders in hardware do.</summary>
    public static int Unpack(byte value) => ((value >> 4) * 10) + (value & 15);
}
