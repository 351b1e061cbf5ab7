using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;

namespace Vmm.Interop.KvmApi;

/// <summary>One statistic: what KVM says of it.</summary>
/// <param name="Name">Name.</param>
/// <param name="Flags">KVM_STATS_TYPE_*, UNIT_* and BASE_*.</param>
/// <param name="Exponent">Power of the base that the unit is scaled by.</param>
/// <param name="Size">Number of 64-bit values (more than one for histograms).</param>
/// <param name="Offset">Of the first value in the data block, in bytes.</param>
/// <param name="BucketSize">Width of a linear histogram's bucket.</param>
public sealed record KvmStatDescriptor(string Name, uint Flags, short Exponent, int Size, uint Offset, uint BucketSize);

/// <summary>The binary statistics of a VM or vCPU (api.rst, KVM_GET_STATS_FD). Values can be read from any thread.</summary>
public sealed class KvmStats : IDisposable
{
    private const int HeaderSize = 24;
    private const int DescriptorSize = 16;
    private const int MaxTableBytes = 1 << 20;
    private const int MaxValues = 1 << 16;

    private readonly SafeFd _fd;
    private readonly long _dataOffset;

    private KvmStats(SafeFd fd, string id, KvmStatDescriptor[] descriptors, long dataOffset)
    {
        _fd = fd;
        _dataOffset = dataOffset;
        Id = id;
        Descriptors = descriptors;
        int values = 0;
        foreach (KvmStatDescriptor descriptor in descriptors)
        {
            values = Math.Max(values, (int)(descriptor.Offset / 8) + descriptor.Size);
        }

        ValueCount = values;
    }

    /// <summary>For example "kvm-1234" or "kvm-1234/vcpu-0".</summary>
    public string Id { get; }

    /// <summary>All statistics, in the kernel's order.</summary>
    public IReadOnlyList<KvmStatDescriptor> Descriptors { get; }

    /// <summary>64-bit values in the data block.</summary>
    public int ValueCount { get; }

    /// <summary>Reads the data block; the value of a descriptor is at index Offset/8. EINVAL when the buffer is too short, EIO.</summary>
    public Errno Read(Span<ulong> values)
    {
        if (values.Length < ValueCount)
        {
            return Errno.EINVAL;
        }

        Span<byte> bytes = MemoryMarshal.AsBytes(values[..ValueCount]);
        int got = Libc.PRead(_fd.Fd, bytes, _dataOffset);
        return got == bytes.Length ? Errno.OK : got < 0 ? ErrnoText.FromResult(got) : Errno.EIO;
    }

    /// <summary>Closes the descriptor.</summary>
    public void Dispose() => _fd.Dispose();

    internal static Errno Open(SafeFd fd, out KvmStats? stats)
    {
        stats = null;
        Span<byte> raw = stackalloc byte[HeaderSize];
        if (Libc.PRead(fd.Fd, raw, 0) != HeaderSize)
        {
            fd.Dispose();
            return Errno.EIO;
        }

        KvmStatsHeader header = MemoryMarshal.Read<KvmStatsHeader>(raw);
        long tableBytes = (long)header.num_desc * (DescriptorSize + (long)header.name_size);
        byte[] table = new byte[Math.Clamp(tableBytes, 0, MaxTableBytes)];
        byte[] id = new byte[Math.Min(header.name_size, 4096)];
        if (tableBytes > MaxTableBytes
            || Libc.PRead(fd.Fd, table, header.desc_offset) != table.Length
            || Libc.PRead(fd.Fd, id, header.id_offset) != id.Length
            || !TryParse(table, (int)header.num_desc, (int)header.name_size, out KvmStatDescriptor[] descriptors))
        {
            fd.Dispose();
            return Errno.EIO;
        }

        stats = new KvmStats(fd, Text(id), descriptors, header.data_offset);
        return Errno.OK;
    }

    /// <summary>The descriptor table as the kernel writes it; false when it does not hold together.</summary>
    internal static bool TryParse(ReadOnlySpan<byte> table, int count, int nameSize, out KvmStatDescriptor[] descriptors)
    {
        descriptors = [];
        if (count < 0 || nameSize <= 0 || nameSize > table.Length + 1 || (long)count * (DescriptorSize + (long)nameSize) > table.Length)
        {
            return false;
        }

        KvmStatDescriptor[] result = new KvmStatDescriptor[count];
        for (int i = 0; i < count; i++)
        {
            ReadOnlySpan<byte> entry = table.Slice(i * (DescriptorSize + nameSize), DescriptorSize + nameSize);
            uint offset = BinaryPrimitives.ReadUInt32LittleEndian(entry[8..]);
            int size = BinaryPrimitives.ReadUInt16LittleEndian(entry[6..]);
            if (offset % 8 != 0 || offset / 8 + (uint)size > MaxValues)
            {
                return false;
            }

            result[i] = new KvmStatDescriptor(
                Text(entry[DescriptorSize..]),
                BinaryPrimitives.ReadUInt32LittleEndian(entry),
                BinaryPrimitives.ReadInt16LittleEndian(entry[4..]),
                size,
                offset,
                BinaryPrimitives.ReadUInt32LittleEndian(entry[12..]));
        }

        descriptors = result;
        return true;
    }

    private static string Text(ReadOnlySpan<byte> bytes)
    {
        int end = bytes.IndexOf((byte)0);
        return Encoding.UTF8.GetString(end < 0 ? bytes : bytes[..end]);
    }
}
