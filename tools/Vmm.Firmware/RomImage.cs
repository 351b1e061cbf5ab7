using System.Text;
using Iced.Intel;

namespace Vmm.Firmware;

/// <summary>A 64 KiB ROM under construction. Pieces are placed by their offset; what runs from RAM is assembled for the copy's address.</summary>
internal sealed class RomImage
{
    public const int Size = 0x10000;

    /// <summary>Physical address of the ROM, which ends at 4 GiB.</summary>
    public const uint RomBase = 0xffff0000;

    /// <summary>Physical address of the RAM copy: the low 16 bits of an address are the same in both.</summary>
    public const uint RamBase = 0x40000;

    private readonly byte[] _bytes = new byte[Size];
    private readonly bool[] _taken = new bool[Size];
    private readonly Dictionary<string, uint> _texts = [];
    private int _textEnd;

    /// <param name="textStart">Offset at which texts are collected.</param>
    public RomImage(int textStart)
    {
        _textEnd = textStart;
    }

    public byte[] ToArray() => _bytes;

    public void Code(int bitness, int offset, uint runsAt, Action<Assembler> emit)
    {
        var assembler = new Assembler(bitness);
        emit(assembler);
        using var stream = new MemoryStream();
        assembler.Assemble(new StreamCodeWriter(stream), runsAt + (uint)offset);
        Bytes(offset, stream.ToArray());
    }

    public void Bytes(int offset, ReadOnlySpan<byte> bytes)
    {
        for (var i = 0; i < bytes.Length; i++)
        {
            if (_taken[offset + i])
            {
                throw new InvalidOperationException($"pieces overlap at 0x{offset + i:x}");
            }

            _taken[offset + i] = true;
            _bytes[offset + i] = bytes[i];
        }
    }

    /// <summary>Places a text with its terminating zero and returns the address of its RAM copy; line feeds become CR LF.</summary>
    public uint Text(string text)
    {
        if (!_texts.TryGetValue(text, out var address))
        {
            var bytes = Encoding.ASCII.GetBytes(text.Replace("\n", "\r\n") + "\0");
            Bytes(_textEnd, bytes);
            address = RamBase + (uint)_textEnd;
            _textEnd += bytes.Length;
            _texts.Add(text, address);
        }

        return address;
    }
}
