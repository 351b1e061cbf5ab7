using System.Runtime.InteropServices;

namespace Vmm.Dump.Kdump;

/// <summary>
/// Tells pages that no compressor makes smaller, encrypted or compressed already, without compressing them: deflate takes many times longer to
/// find that out. One thread at a time.
/// </summary>
internal sealed class NoiseDetector
{
    private const int Values = 256;
    private const int FirstLook = 512;
    private const int HashBits = 12;
    private const uint HashMultiplier = 0x9e37_79b1;

    // Squares of the counts of values add up to n + n^2 / 256 in noise. In the first bytes twice of that is something else for certain. In all
    // of a page, the chi-squared statistic (255 in noise) is at most this: shorter codes for what is frequent then save less than the 40 bytes
    // that say which codes they are.
    private const int MostChiSquared = 600;

    private readonly int[] _counts = new int[Values];
    private readonly ushort[] _positions = new ushort[1 << HashBits];

    /// <summary>True for a page whose bytes are all about equally frequent, and in which no four bytes come twice.</summary>
    internal bool IsNoise(ReadOnlySpan<byte> page)
    {
        Array.Clear(_counts);
        Count(page[..FirstLook]);
        if (Squares() > 2 * (FirstLook + (FirstLook * FirstLook / Values)))
        {
            return false;
        }

        Count(page[FirstLook..]);
        return Squares() <= (long)(page.Length + MostChiSquared) * page.Length / Values && !HasRepeats(page);
    }

    private void Count(ReadOnlySpan<byte> bytes)
    {
        int[] counts = _counts;
        foreach (byte value in bytes)
        {
            counts[value]++;
        }
    }

    private long Squares()
    {
        long sum = 0;
        foreach (int count in _counts)
        {
            sum += (long)count * count;
        }

        return sum;
    }

    private bool HasRepeats(ReadOnlySpan<byte> page)
    {
        ushort[] positions = _positions;
        Array.Clear(positions);
        for (int at = 0; at + sizeof(uint) <= page.Length; at++)
        {
            uint word = MemoryMarshal.Read<uint>(page[at..]);
            ref ushort position = ref positions[(word * HashMultiplier) >> (32 - HashBits)];

            // 0 is both the first position and none: what is the same there is a repeat when it is not the first itself.
            if (position < at && MemoryMarshal.Read<uint>(page[position..]) == word)
            {
                return true;
            }

            position = (ushort)at;
        }

        return false;
    }
}
