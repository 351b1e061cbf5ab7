using Vmm.Memory;

namespace Vmm.Devices;

/// <summary>
/// Byte registers on an 8-bit bus, as old PC chips have them: a word is two of them, nobody answers to a double word. Map it with
/// <see cref="Access"/>.
/// </summary>
internal sealed class BytePorts(int count, Func<int, byte> read, Action<int, byte> write) : IIoHandler
{
    private const ulong Nothing = 0xff;

    /// <summary>Accesses reach the handler as the guest makes them.</summary>
    public static IoConstraints Access => new(1, 4, 1, 4, Unaligned: true);

    /// <inheritdoc/>
    public ulong Read(ulong offset, int size) => size switch
    {
        1 => ReadByte(offset),
        2 => ReadByte(offset) | (ReadByte(offset + 1) << 8),
        _ => ulong.MaxValue,
    };

    /// <inheritdoc/>
    public void Write(ulong offset, ulong value, int size)
    {
        for (int i = 0; size <= 2 && i < size && offset + (uint)i < (uint)count; i++)
        {
            write((int)offset + i, (byte)(value >> (i * 8)));
        }
    }

    private ulong ReadByte(ulong offset) => offset < (uint)count ? read((int)offset) : Nothing;
}
