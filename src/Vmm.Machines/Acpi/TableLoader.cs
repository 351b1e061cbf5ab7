using System.Buffers.Binary;
using System.Text;

namespace Vmm.Machines.Acpi;

/// <summary>Writes the script by which firmware places files in memory and links them (QEMU's linker-loader interface).</summary>
/// <remarks>A command is 128 bytes, little-endian: its number, then its operands; file names take 56 bytes.</remarks>
internal sealed class TableLoader
{
    private const int CommandSize = 128;
    private const int NameSize = 56;

    private readonly List<byte[]> _commands = [];

    /// <summary>Where firmware puts a file.</summary>
    public enum Zone : byte
    {
        /// <summary>Anywhere below 4 GiB.</summary>
        High = 1,

        /// <summary>The segment from 0xf0000, where systems look for the root pointer.</summary>
        LowRom = 2,
    }

    /// <summary>Loads a file into memory of its own; comes before anything else is done with the file.</summary>
    public void Allocate(string file, uint alignment, Zone zone)
    {
        Span<byte> command = Begin(1);
        Name(command[4..], file);
        BinaryPrimitives.WriteUInt32LittleEndian(command[60..], alignment);
        command[64] = (byte)zone;
    }

    /// <summary>Adds the address of <paramref name="target"/> to the <paramref name="size"/> bytes at <paramref name="offset"/>.</summary>
    public void AddPointer(string file, int offset, int size, string target)
    {
        Span<byte> command = Begin(2);
        Name(command[4..], file);
        Name(command[60..], target);
        BinaryPrimitives.WriteInt32LittleEndian(command[116..], offset);
        command[120] = (byte)size;
    }

    /// <summary>Subtracts the sum of a range, all pointers in it adjusted, from the byte at <paramref name="offset"/>.</summary>
    public void AddChecksum(string file, int offset, int start, int length)
    {
        Span<byte> command = Begin(3);
        Name(command[4..], file);
        BinaryPrimitives.WriteInt32LittleEndian(command[60..], offset);
        BinaryPrimitives.WriteInt32LittleEndian(command[64..], start);
        BinaryPrimitives.WriteInt32LittleEndian(command[68..], length);
    }

    /// <summary>The script.</summary>
    public byte[] ToArray()
    {
        var script = new byte[_commands.Count * CommandSize];
        for (var i = 0; i < _commands.Count; i++)
        {
            _commands[i].CopyTo(script, i * CommandSize);
        }

        return script;
    }

    private Span<byte> Begin(uint number)
    {
        var command = new byte[CommandSize];
        BinaryPrimitives.WriteUInt32LittleEndian(command, number);
        _commands.Add(command);
        return command;
    }

    private static void Name(Span<byte> target, string file) => Encoding.ASCII.GetBytes(file, target[..NameSize]);
}
