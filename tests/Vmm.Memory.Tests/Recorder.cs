namespace Vmm.Memory.Tests;

/// <summary>A register block that remembers what was asked of it and answers from a byte array.</summary>
internal sealed class Recorder(int size) : IIoHandler
{
    public byte[] Bytes { get; } = new byte[size + 16];

    public List<(bool Write, ulong Offset, int Size, ulong Value)> Calls { get; } = [];

    public ulong Read(ulong offset, int size)
    {
        ulong value = 0;
        for (int i = 0; i < size; i++)
        {
            value |= (ulong)Bytes[(int)offset + i] << (i * 8);
        }

        Calls.Add((false, offset, size, value));
        return value;
    }

    public void Write(ulong offset, ulong value, int size)
    {
        Calls.Add((true, offset, size, value));
        for (int i = 0; i < size; i++)
        {
            Bytes[(int)offset + i] = (byte)(value >> (i * 8));
        }
    }
}

internal static class Ram
{
    public static RamBlock Make(string name, ulong size)
    {
        RamBlock? block = RamBackends.CreateAnonymous(new RamOptions(name, size), out string? error);
        Assert.That(error, Is.Null);
        return block!;
    }
}
