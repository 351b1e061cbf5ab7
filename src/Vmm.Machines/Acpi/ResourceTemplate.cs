using System.Buffers.Binary;

namespace Vmm.Machines.Acpi;

/// <summary>Builds a resource descriptor list (ACPI specification 6.4, section 6.4).</summary>
public sealed class ResourceTemplate
{
    private const byte MinMaxFixed = 0x0c;

    private readonly List<byte> _bytes = new(64);

    /// <summary>I/O ports, 16-bit decode, at a fixed address.</summary>
    public ResourceTemplate Io(ushort port, byte length, byte alignment = 1)
    {
        return Add(0x47, 1, (byte)port, (byte)(port >> 8), (byte)port, (byte)(port >> 8), alignment, length);
    }

    /// <summary>One ISA interrupt: edge, active high, exclusive.</summary>
    public ResourceTemplate Irq(int irq) => Add(0x22, (byte)(1 << irq), (byte)(1 << irq >> 8));

    /// <summary>Global system interrupts that the device consumes, active high.</summary>
    public ResourceTemplate Interrupt(bool level, bool shared, params ReadOnlySpan<uint> interrupts)
    {
        Header(0x89, 2 + 4 * interrupts.Length);
        Add((byte)(1 | (level ? 0 : 2) | (shared ? 8 : 0)), (byte)interrupts.Length);
        foreach (var i in interrupts)
        {
            U32(i);
        }

        return this;
    }

    /// <summary>A range of bus numbers that a bridge produces.</summary>
    public ResourceTemplate BusNumbers(ushort first, ushort last)
    {
        Header(0x88, 13);
        Add(2, MinMaxFixed, 0);
        return U16(0).U16(first).U16(last).U16(0).U16((ushort)(last - first + 1));
    }

    /// <summary>A window of I/O ports that a bridge produces.</summary>
    public ResourceTemplate IoWindow(ushort first, ushort last)
    {
        Header(0x88, 13);
        Add(1, MinMaxFixed, 3);
        return U16(0).U16(first).U16(last).U16(0).U16((ushort)(last - first + 1));
    }

    /// <summary>A 32-bit memory window that a bridge produces.</summary>
    public ResourceTemplate MemoryWindow32(uint first, uint last, bool cacheable)
    {
        Header(0x87, 23);
        Add(0, MinMaxFixed, (byte)(1 | (cacheable ? 2 : 0)));
        return U32(0).U32(first).U32(last).U32(0).U32(last - first + 1);
    }

    /// <summary>A 64-bit memory window that a bridge produces.</summary>
    public ResourceTemplate MemoryWindow64(ulong first, ulong last, bool cacheable)
    {
        Header(0x8a, 43);
        Add(0, MinMaxFixed, (byte)(1 | (cacheable ? 2 : 0)));
        return U64(0).U64(first).U64(last).U64(0).U64(last - first + 1);
    }

    /// <summary>Memory-mapped registers at a fixed 32-bit address, writable.</summary>
    public ResourceTemplate Memory32(uint address, uint length)
    {
        Header(0x86, 9);
        Add(1);
        return U32(address).U32(length);
    }

    /// <summary>The list with its end tag; a zero checksum counts as correct.</summary>
    public byte[] ToArray() => [.. _bytes, 0x79, 0];

    private void Header(byte tag, int length) => Add(tag, (byte)length, (byte)(length >> 8));

    private ResourceTemplate U16(ushort value) => Add((byte)value, (byte)(value >> 8));

    private ResourceTemplate U32(uint value)
    {
        Span<byte> b = stackalloc byte[4];
        BinaryPrimitives.WriteUInt32LittleEndian(b, value);
        return Add(b);
    }

    private ResourceTemplate U64(ulong value)
    {
        Span<byte> b = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(b, value);
        return Add(b);
    }

    private ResourceTemplate Add(params ReadOnlySpan<byte> bytes)
    {
        foreach (var b in bytes)
        {
            _bytes.Add(b);
        }

        return this;
    }
}
