using System.Buffers.Binary;
using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;

namespace Vmm.Block.Drivers.Qcow2;

/// <summary>Metadata of an image in its file: reads, writes, barriers. Results are 0 or a negative errno. Home: the node's loop.</summary>
internal sealed class Qcow2File(BlockEdge edge)
{
    private const int ChunkBytes = 64 << 10;

    /// <summary>The file's node.</summary>
    internal BlockNode Node => edge.Node;

    /// <summary>Bytes of the file.</summary>
    internal long Length => edge.Node.Length;

    /// <summary>An event of which tests may want to know.</summary>
    internal IoTask DebugAsync(BlkdebugEvent point) => edge.Node.DebugAsync(point);

    /// <summary>Reads into a part of a buffer; what lies behind the end of the file is zero.</summary>
    internal async IoTask<int> ReadAsync(long offset, NativeBuffer buffer, int position, int length)
    {
        IoVectors data = IoVectors.Rent(buffer.Vector(position, length));
        int result = await edge.Node.ReadAsync(offset, data);
        data.Return();
        return result;
    }

    /// <summary>Writes a part of a buffer.</summary>
    internal async IoTask<int> WriteAsync(long offset, NativeBuffer buffer, int position, int length)
    {
        IoVectors data = IoVectors.Rent(buffer.Vector(position, length));
        int result = await edge.Node.WriteAsync(offset, data);
        data.Return();
        return result;
    }

    /// <summary>Writes bytes of managed memory.</summary>
    internal async IoTask<int> WriteBytesAsync(long offset, ReadOnlyMemory<byte> bytes)
    {
        if (bytes.IsEmpty)
        {
            return 0;
        }

        using NativeBuffer buffer = new(bytes.Length);
        bytes.Span.CopyTo(buffer.Span);
        return await WriteAsync(offset, buffer, 0, bytes.Length);
    }

    /// <summary>Reads bytes into managed memory.</summary>
    internal async IoTask<int> ReadBytesAsync(long offset, Memory<byte> bytes)
    {
        if (bytes.IsEmpty)
        {
            return 0;
        }

        using NativeBuffer buffer = new(bytes.Length);
        int result = await ReadAsync(offset, buffer, 0, bytes.Length);
        if (result >= 0)
        {
            buffer.Span.CopyTo(bytes.Span);
        }

        return result;
    }

    /// <summary>Makes a range zero.</summary>
    internal IoTask<int> ZeroAsync(long offset, long bytes) => edge.Node.WriteZeroesAsync(offset, bytes);

    /// <summary>All writes so far are on stable storage before any later one.</summary>
    internal IoTask<int> BarrierAsync() => edge.Node.FlushAsync();

    /// <summary>Reads a table; what lies behind the end of the file is zero.</summary>
    internal async IoTask<int> ReadTableAsync(long offset, Qcow2Table table)
    {
        // As much as the file has of it, however long the image says that it is.
        int entries = (int)Math.Min(table.Length, Math.Max(Length - offset + 7, 0) / 8);
        if (entries == 0)
        {
            return 0;
        }

        using NativeBuffer buffer = new(Math.Min(ChunkBytes, 8 * entries));
        int result = 0;
        for (int done = 0; done < entries && result >= 0;)
        {
            int count = Math.Min(ChunkBytes / 8, entries - done);
            result = await ReadAsync(offset + (8L * done), buffer, 0, 8 * count);
            for (int i = 0; result >= 0 && i < count; i++)
            {
                table[done + i] = BinaryPrimitives.ReadUInt64BigEndian(buffer.Span[(8 * i)..]);
            }

            done += count;
        }

        return result;
    }

    /// <summary>Writes numbers of a table.</summary>
    /// <param name="offset">Where the table begins.</param>
    /// <param name="table">The table.</param>
    /// <param name="first">First number to be written.</param>
    /// <param name="count">How many.</param>
    internal async IoTask<int> WriteTableAsync(long offset, Qcow2Table table, int first, int count)
    {
        if (count == 0)
        {
            return 0;
        }

        using NativeBuffer buffer = new(Math.Min(ChunkBytes, 8 * count));
        int result = 0;
        for (int done = 0; done < count && result >= 0;)
        {
            int part = Math.Min(ChunkBytes / 8, count - done);
            for (int i = 0; i < part; i++)
            {
                BinaryPrimitives.WriteUInt64BigEndian(buffer.Span[(8 * i)..], table[first + done + i]);
            }

            result = await WriteAsync(offset + (8L * (first + done)), buffer, 0, 8 * part);
            done += part;
        }

        return result;
    }
}
