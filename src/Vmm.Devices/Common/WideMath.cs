namespace Vmm.Devices;

/// <summary>Clock conversions that need more than 64 bits in between.</summary>
public static class WideMath
{
    /// <summary>Nanoseconds per second.</summary>
    public const long NsPerSecond = 1_000_000_000;

    /// <summary><paramref name="value"/> * <paramref name="multiplier"/> / <paramref name="divisor"/>, rounded down.</summary>
    public static ulong MulDiv(ulong value, uint multiplier, uint divisor)
    {
        ulong high = Math.BigMul(value, multiplier, out ulong low);
        if (high == 0)
        {
            return low / divisor;
        }

        return (ulong)(new UInt128(high, low) / divisor);
    }
}
