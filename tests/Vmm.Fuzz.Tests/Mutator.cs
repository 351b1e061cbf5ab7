using System.Buffers.Binary;

namespace Vmm.Fuzz.Tests;

/// <summary>Changes inputs at random: bytes, numbers, lengths, pieces of other inputs, words of a dictionary. Deterministic for a seed.</summary>
internal sealed class Mutator(Random random, IReadOnlyList<byte[]> dictionary, int maxLength)
{
    // Most of what decides is in a header.
    private const int HeaderLength = 256;

    private static readonly long[] s_interesting =
    [
        0, 1, -1, 2, 4, 7, 8, 16, 0x1f, 0x20, 0x40, 0x7f, 0x80, 0xff, 0x100, 0x3ff, 0x7fff, 0x8000, 0xffff, 0x10000, 0xfffff, 0x100000,
        0x7fffffff, 0x80000000, 0xfffffff0, 0xffffffff, 0x100000000, long.MaxValue, long.MinValue, -0x1000,
    ];

    /// <summary>Makes a new input from one of the pool.</summary>
    public byte[] Mutate(IReadOnlyList<byte[]> pool)
    {
        var data = new List<byte>(pool[random.Next(pool.Count)]);
        int changes = 1 << random.Next(5);
        for (int i = 0; i < changes; i++)
        {
            Change(data, pool);
        }

        if (data.Count > maxLength)
        {
            data.RemoveRange(maxLength, data.Count - maxLength);
        }

        return [.. data];
    }

    private void Change(List<byte> data, IReadOnlyList<byte[]> pool)
    {
        int at = Position(data.Count);
        switch (random.Next(dictionary.Count == 0 ? 9 : 12))
        {
            case 0 when data.Count > 0:
                data[at] ^= (byte)(1 << random.Next(8));
                break;
            case 1 when data.Count > 0:
                data[at] = (byte)random.Next(256);
                break;
            case 2 when data.Count > 0:
                data[at] = (byte)(data[at] + random.Next(-16, 17));
                break;
            case 3:
                Number(data, at);
                break;
            case 4:
                data.RemoveRange(at, Math.Min(data.Count - at, Size()));
                break;
            case 5:
                data.InsertRange(at, Enumerable.Repeat((byte)random.Next(256), Size()));
                break;
            case 6:
                byte[] copied = Piece([.. data]);
                data.InsertRange(at, copied);
                break;
            case 7:
                byte[] other = pool[random.Next(pool.Count)];
                data.RemoveRange(at, data.Count - at);
                data.AddRange(other.AsSpan(random.Next(other.Length + 1)));
                break;
            case 8:
                data.InsertRange(at, Piece(pool[random.Next(pool.Count)]));
                break;
            default:
                if (dictionary.Count > 0)
                {
                    byte[] word = dictionary[random.Next(dictionary.Count)];
                    if (random.Next(2) == 0)
                    {
                        data.RemoveRange(at, Math.Min(data.Count - at, word.Length));
                    }

                    data.InsertRange(at, word);
                }

                break;
        }
    }

    private void Number(List<byte> data, int at)
    {
        Span<byte> number = stackalloc byte[8];
        long value = s_interesting[random.Next(s_interesting.Length)];
        int size = 1 << random.Next(4);
        if (random.Next(4) == 0)
        {
            BinaryPrimitives.WriteInt64BigEndian(number, value << (64 - (size * 8)));
        }
        else
        {
            BinaryPrimitives.WriteInt64LittleEndian(number, value);
        }

        for (int i = 0; i < size && at + i < data.Count; i++)
        {
            data[at + i] = number[i];
        }
    }

    private byte[] Piece(byte[] from)
    {
        int start = random.Next(from.Length + 1);
        return from[start..Math.Min(from.Length, start + Size())];
    }

    private int Position(int length) => random.Next((random.Next(2) == 0 ? Math.Min(length, HeaderLength) : length) + (length == 0 ? 1 : 0));

    private int Size() => random.Next(8) == 0 ? random.Next(1, 1024) : random.Next(1, 17);
}
