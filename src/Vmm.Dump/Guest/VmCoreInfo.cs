using System.Buffers.Binary;
using System.Buffers.Text;
using Vmm.ObjectModel.Devices;

namespace Vmm.Dump.Guest;

/// <summary>
/// The note that a guest's kernel has left for debuggers (QEMU docs/specs/vmcoreinfo), as read from its memory: an ELF note, with lines of text in
/// it, or with the header of a Windows crash dump.
/// </summary>
internal sealed class VmCoreInfo
{
    private const ushort FormatElf = 1;
    private const int MaxBytes = 1 << 20;
    private const int HeaderBytes = 12;

    private VmCoreInfo(byte[] note, int descriptorOffset, int descriptorLength)
    {
        Note = note;
        DescriptorOffset = descriptorOffset;
        Descriptor = note.AsMemory(descriptorOffset, descriptorLength);
    }

    /// <summary>The whole note, its parts padded to four bytes.</summary>
    internal byte[] Note { get; }

    /// <summary>Where its contents are.</summary>
    internal int DescriptorOffset { get; }

    /// <summary>Its contents.</summary>
    internal ReadOnlyMemory<byte> Descriptor { get; }

    /// <summary>
    /// Reads the note; null when there is none, or none that makes sense: the dump then goes without. A hostile guest's sizes cost at most 1 MiB.
    /// </summary>
    internal static VmCoreInfo? Read(VmCoreInfoNote? place, GuestMemoryMap memory)
    {
        if (place is not { Format: FormatElf, Length: >= HeaderBytes and <= MaxBytes } note)
        {
            return null;
        }

        byte[] bytes = new byte[note.Length];
        memory.Read(note.Address, bytes);
        uint name = BinaryPrimitives.ReadUInt32LittleEndian(bytes);
        uint descriptor = BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(4));
        if (name > MaxBytes || descriptor > MaxBytes)
        {
            return null;
        }

        int at = HeaderBytes + (((int)name + 3) & ~3);
        int end = at + (((int)descriptor + 3) & ~3);
        return end <= bytes.Length ? new VmCoreInfo(bytes[..end], at, (int)descriptor) : null;
    }

    /// <summary>The number of a line such as <c>NUMBER(phys_base)=16777216</c>; null when there is no such line.</summary>
    /// <param name="key">All before the number.</param>
    internal long? Number(ReadOnlySpan<byte> key)
    {
        ReadOnlySpan<byte> text = Descriptor.Span;
        foreach (Range range in text.Split((byte)'\n'))
        {
            ReadOnlySpan<byte> line = text[range];
            if (line.StartsWith(key) && Utf8Parser.TryParse(line[key.Length..], out long number, out int length) && length == line.Length - key.Length)
            {
                return number;
            }
        }

        return null;
    }
}
