using System.Buffers.Binary;

namespace Vmm.Machines.Acpi;

/// <summary>Writes ACPI Machine Language (ACPI specification 6.4, chapter 20) into one growing buffer.</summary>
/// <remarks>A block is opened by a Begin method and closed by <see cref="End"/>, which puts the package length in front of what was written.</remarks>
public sealed class AmlWriter
{
    private byte[] _buffer = new byte[1024];
    private int _length;

    public ReadOnlySpan<byte> Written => _buffer.AsSpan(0, _length);

    public int Length => _length;

    /// <summary>Adds bytes as they are: operators, terms written elsewhere.</summary>
    public AmlWriter Raw(params ReadOnlySpan<byte> bytes)
    {
        if (_length + bytes.Length > _buffer.Length)
        {
            Array.Resize(ref _buffer, Math.Max(_buffer.Length * 2, _length + bytes.Length));
        }

        bytes.CopyTo(_buffer.AsSpan(_length));
        _length += bytes.Length;
        return this;
    }

    /// <summary>A name path: an optional root '\', then segments of up to four characters with dots between.</summary>
    public AmlWriter Path(string path)
    {
        var rest = path.AsSpan();
        if (rest.StartsWith("\\"))
        {
            Raw((byte)'\\');
            rest = rest[1..];
        }

        var segments = rest.IsEmpty ? 0 : rest.Count('.') + 1;
        switch (segments)
        {
            case 0:
                return Raw(0);
            case 1:
                break;
            case 2:
                Raw(0x2e);
                break;
            default:
                Raw(0x2f, (byte)segments);
                break;
        }

        foreach (var range in rest.Split('.'))
        {
            Segment(rest[range]);
        }

        return this;
    }

    /// <summary>An integer constant in its shortest encoding.</summary>
    public AmlWriter Integer(ulong value)
    {
        Span<byte> b = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(b, value);
        return value switch
        {
            0 => Raw(0x00),
            1 => Raw(0x01),
            <= byte.MaxValue => Raw(0x0a).Raw(b[..1]),
            <= ushort.MaxValue => Raw(0x0b).Raw(b[..2]),
            <= uint.MaxValue => Raw(0x0c).Raw(b[..4]),
            _ => Raw(0x0e).Raw(b),
        };
    }

    public AmlWriter String(string ascii)
    {
        Raw(0x0d);
        foreach (var c in ascii)
        {
            Raw((byte)c);
        }

        return Raw(0);
    }

    /// <summary>A compressed EISA identifier such as "PNP0A03".</summary>
    public AmlWriter EisaId(string id)
    {
        var value = (uint)(id[0] - 0x40) << 26 | (uint)(id[1] - 0x40) << 21 | (uint)(id[2] - 0x40) << 16
            | uint.Parse(id.AsSpan(3), System.Globalization.NumberStyles.AllowHexSpecifier);
        Span<byte> b = stackalloc byte[4];
        BinaryPrimitives.WriteUInt32BigEndian(b, value);
        return Raw(0x0c).Raw(b);
    }

    /// <summary>Name(path, ...): the value follows.</summary>
    public AmlWriter Name(string path) => Raw(0x08).Path(path);

    public AmlWriter NameInteger(string path, ulong value) => Name(path).Integer(value);

    /// <summary>Name(path, ResourceTemplate).</summary>
    public AmlWriter NameResources(string path, ResourceTemplate resources)
    {
        var bytes = resources.ToArray();
        var mark = Name(path).Begin(0x11);
        Integer((ulong)bytes.Length).Raw(bytes);
        return End(mark);
    }

    public AmlWriter OperationRegion(string name, RegionSpace space, ulong offset, ulong length)
    {
        return Raw(0x5b, 0x80).Path(name).Raw((byte)space).Integer(offset).Integer(length);
    }

    /// <summary>A field list over an operation region.</summary>
    /// <param name="region">Name of the region.</param>
    /// <param name="flags">Access type, lock and update rule (20.2.5.2).</param>
    /// <param name="fields">Names of four characters and their widths in bits.</param>
    public AmlWriter Field(string region, byte flags, params ReadOnlySpan<(string Name, int Bits)> fields)
    {
        var mark = Begin(0x5b, 0x81);
        Path(region).Raw(flags);
        foreach (var (name, bits) in fields)
        {
            Segment(name);
            PackageLength(bits, _length);
        }

        return End(mark);
    }

    public int BeginScope(string path) => BeginNamed(path, 0x10);

    public int BeginDevice(string name) => BeginNamed(name, 0x5b, 0x82);

    public int BeginMethod(string name, int arguments, bool serialized = false)
    {
        var mark = BeginNamed(name, 0x14);
        Raw((byte)(arguments | (serialized ? 8 : 0)));
        return mark;
    }

    /// <summary>A package with a fixed number of elements, which follow.</summary>
    public int BeginPackage(int elements)
    {
        var mark = Begin(0x12);
        Raw((byte)elements);
        return mark;
    }

    /// <summary>If; the predicate comes first in the block.</summary>
    public int BeginIf() => Begin(0xa0);

    /// <summary>Opens a block with the given operator bytes.</summary>
    public int Begin(params ReadOnlySpan<byte> op)
    {
        Raw(op);
        return _length;
    }

    /// <summary>Closes the block that was opened at <paramref name="mark"/>.</summary>
    public AmlWriter End(int mark)
    {
        var body = _length - mark;

        // The length counts its own bytes.
        var prefix = body + 1 < 0x40 ? 1 : body + 2 < 0x1000 ? 2 : 3;
        Raw(stackalloc byte[prefix]);
        _buffer.AsSpan(mark, body).CopyTo(_buffer.AsSpan(mark + prefix));
        var end = _length;
        _length = mark;
        PackageLength(body + prefix, mark);
        _length = end;
        return this;
    }

    public AmlWriter Local(int n) => Raw((byte)(0x60 + n));

    public AmlWriter Argument(int n) => Raw((byte)(0x68 + n));

    private int BeginNamed(string path, params ReadOnlySpan<byte> op)
    {
        var mark = Begin(op);
        Path(path);
        return mark;
    }

    // Up to 63 in one byte; else the low nibble first and one to three further bytes, their number in the top two bits. Field widths use it too.
    private void PackageLength(int value, int at)
    {
        _length = at;
        if (value < 0x40)
        {
            Raw((byte)value);
        }
        else if (value < 0x1000)
        {
            Raw((byte)(0x40 | (value & 15)), (byte)(value >> 4));
        }
        else
        {
            Raw((byte)(0x80 | (value & 15)), (byte)(value >> 4), (byte)(value >> 12));
        }
    }

    private void Segment(ReadOnlySpan<char> name)
    {
        for (var i = 0; i < 4; i++)
        {
            Raw(i < name.Length ? (byte)name[i] : (byte)'_');
        }
    }
}

/// <summary>Address spaces of an operation region.</summary>
public enum RegionSpace : byte
{
    SystemMemory = 0,
    SystemIo = 1,
    PciConfig = 2,
}
