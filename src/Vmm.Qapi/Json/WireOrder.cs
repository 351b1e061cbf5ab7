using System.Text;

namespace Vmm.Qapi;

/// <summary>The order in which the members of a JSON object are written: by hash bucket, within a bucket the last added first.</summary>
public static class WireOrder
{
    /// <summary>The bucket (0..511) of a member name.</summary>
    public static int Bucket(ReadOnlySpan<byte> utf8Name)
    {
        uint hash = 0x238F13AFu * (uint)utf8Name.Length;
        for (int i = 0; i < utf8Name.Length; i++)
        {
            hash += (uint)utf8Name[i] << (i * 5 % 24);
        }

        return (int)(((1103515243u * hash) + 12345u) & 511);
    }

    /// <summary>The bucket (0..511) of a member name.</summary>
    public static int Bucket(string name)
    {
        int max = Encoding.UTF8.GetMaxByteCount(name.Length);
        Span<byte> buffer = max <= 384 ? stackalloc byte[384] : new byte[max];
        return Bucket(buffer[..Encoding.UTF8.GetBytes(name, buffer)]);
    }
}
