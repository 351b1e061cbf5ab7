using System.Buffers.Binary;
using System.Text;
using Vmm.Machines.Loading;

namespace Vmm.Machines.Tests;

/// <summary>Guest RAM from address 0 as one array, handed out in pieces so that callers cannot count on contiguity.</summary>
internal sealed class FlatRam(int size, int pieces = 0x10000)
{
    public byte[] Bytes { get; } = new byte[size];

    public Span<byte> Map(ulong gpa, int length)
    {
        if (gpa >= (ulong)Bytes.Length)
        {
            return default;
        }

        var at = (int)gpa;
        return Bytes.AsSpan(at, Math.Min(Math.Min(length, Bytes.Length - at), pieces - at % pieces));
    }

    public uint U32(ulong gpa) => BinaryPrimitives.ReadUInt32LittleEndian(Bytes.AsSpan((int)gpa));

    public ulong U64(ulong gpa) => BinaryPrimitives.ReadUInt64LittleEndian(Bytes.AsSpan((int)gpa));

    public string Text(ulong gpa)
    {
        var rest = Bytes.AsSpan((int)gpa);
        return Encoding.UTF8.GetString(rest[..rest.IndexOf((byte)0)]);
    }

    /// <summary>Loads an image into fresh RAM.</summary>
    public static FlatRam Load(BootImage image, int size)
    {
        var ram = new FlatRam(size);
        image.LoadInto(ram.Map, ramIsZero: true);
        return ram;
    }
}
