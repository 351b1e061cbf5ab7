namespace Vmm.Dump.Tests.Readers;

/// <summary>Raw Snappy, by the description of its format.</summary>
internal static class SnappyDecoder
{
    public static byte[] Decode(ReadOnlySpan<byte> data)
    {
        int at = 0;
        int length = 0;
        for (int shift = 0; ; shift += 7)
        {
            byte b = data[at++];
            length |= (b & 0x7f) << shift;
            if (b < 0x80)
            {
                break;
            }
        }

        byte[] output = new byte[length];
        int end = 0;
        while (at < data.Length)
        {
            byte tag = data[at++];
            int count = (tag >> 2) + 1;
            int distance;
            switch (tag & 3)
            {
                case 0:
                    if (count > 60)
                    {
                        int bytes = count - 60;
                        count = 1 + Little(data.Slice(at, bytes));
                        at += bytes;
                    }

                    data.Slice(at, count).CopyTo(output.AsSpan(end));
                    at += count;
                    end += count;
                    continue;
                case 1:
                    count = 4 + (tag >> 2 & 7);
                    distance = (tag >> 5 << 8) | data[at++];
                    break;
                case 2:
                    distance = Little(data.Slice(at, 2));
                    at += 2;
                    break;
                default:
                    distance = Little(data.Slice(at, 4));
                    at += 4;
                    break;
            }

            for (int i = 0; i < count; i++, end++)
            {
                output[end] = output[end - distance];
            }
        }

        return end == length ? output : throw new InvalidDataException($"{end} bytes of {length}");
    }

    private static int Little(ReadOnlySpan<byte> bytes)
    {
        int value = 0;
        for (int i = 0; i < bytes.Length; i++)
        {
            value |= bytes[i] << (8 * i);
        }

        return value;
    }
}
