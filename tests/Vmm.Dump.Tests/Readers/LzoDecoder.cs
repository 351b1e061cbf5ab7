namespace Vmm.Dump.Tests.Readers;

/// <summary>LZO1X, by the description of its stream.</summary>
internal static class LzoDecoder
{
    private const int AfterLongRun = 4;

    public static byte[] Decode(ReadOnlySpan<byte> data, int length)
    {
        byte[] output = new byte[length];
        int at = 0;
        int end = 0;
        int state = 0;
        if (data[0] > 17)
        {
            int count = data[at++] - 17;
            Literals(data, count, ref at, output, ref end);
            state = Math.Min(count, AfterLongRun);
        }

        for (;;)
        {
            int code = data[at++];
            int distance;
            int count;
            int tail;
            if (code < 16)
            {
                if (state == 0)
                {
                    Literals(data, Length(data, code, 15, ref at) + 3, ref at, output, ref end);
                    state = AfterLongRun;
                    continue;
                }

                tail = code & 3;
                count = state == AfterLongRun ? 3 : 2;
                distance = (state == AfterLongRun ? 2049 : 1) + (code >> 2) + (data[at++] << 2);
            }
            else if (code < 64)
            {
                count = Length(data, code < 32 ? code & 7 : code & 31, code < 32 ? 7 : 31, ref at) + 2;
                int word = data[at] | (data[at + 1] << 8);
                at += 2;
                tail = word & 3;
                distance = code >= 32 ? 1 + (word >> 2) : 16384 + ((code & 8) << 11) + (word >> 2);
                if (distance == 16384)
                {
                    return end == length && at == data.Length ? output : throw new InvalidDataException($"{end} bytes of {length}");
                }
            }
            else
            {
                tail = code & 3;
                count = (code >> 5) + 1;
                distance = 1 + (code >> 2 & 7) + (data[at++] << 3);
            }

            for (int i = 0; i < count; i++, end++)
            {
                output[end] = output[end - distance];
            }

            Literals(data, tail, ref at, output, ref end);
            state = tail;
        }
    }

    private static void Literals(ReadOnlySpan<byte> data, int count, ref int at, byte[] output, ref int end)
    {
        data.Slice(at, count).CopyTo(output.AsSpan(end));
        at += count;
        end += count;
    }

    private static int Length(ReadOnlySpan<byte> data, int code, int most, ref int at)
    {
        if (code != 0)
        {
            return code;
        }

        int length = most;
        while (data[at] == 0)
        {
            length += 255;
            at++;
        }

        return length + data[at++];
    }
}
