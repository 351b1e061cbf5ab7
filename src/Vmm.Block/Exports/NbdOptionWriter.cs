using System.Buffers.Binary;
using Vmm.Block.Nbd;
using Vmm.Interop;

namespace Vmm.Block.Exports;

/// <summary>Answers to one option, as bytes to be sent. One user.</summary>
internal sealed class NbdOptionWriter : IDisposable
{
    private NativeBuffer _buffer = new(4096);
    private int _length;

    /// <summary>What was written since <see cref="Begin"/>.</summary>
    internal IoVec Written => _buffer.Vector(0, _length);

    /// <summary>Starts anew.</summary>
    internal void Begin() => _length = 0;

    /// <summary>Room for so many bytes.</summary>
    internal Span<byte> Reserve(int bytes)
    {
        if (_buffer.Length - _length < bytes)
        {
            NativeBuffer larger = new(Math.Max(2 * _buffer.Length, _length + bytes));
            _buffer.Span[.._length].CopyTo(larger.Span);
            _buffer.Dispose();
            _buffer = larger;
        }

        return _buffer.Span.Slice(_length, bytes);
    }

    /// <summary>Keeps bytes of the room.</summary>
    internal void Advance(int bytes) => _length += bytes;

    /// <summary>An answer, with a text for people if it is an error.</summary>
    internal void Reply(NbdOption option, NbdOptionReply type, string text = "")
    {
        int length = NbdWire.ByteCount(text);
        Span<byte> to = Reserve(NbdLimits.OptionReplyBytes + length);
        int at = NbdWire.WriteOptionReply(to, option, type, length);
        Advance(at + NbdWire.WriteText(to[at..], text));
    }

    /// <summary>An information that is a text.</summary>
    internal void Info(NbdOption option, NbdInfo info, string text)
    {
        int length = 2 + NbdWire.ByteCount(text);
        Span<byte> to = Reserve(NbdLimits.OptionReplyBytes + length);
        int at = NbdWire.WriteOptionReply(to, option, NbdOptionReply.Info, length);
        BinaryPrimitives.WriteUInt16BigEndian(to[at..], (ushort)info);
        NbdWire.WriteText(to[(at + 2)..], text);
        Advance(at + length);
    }

    /// <summary>A context and its number.</summary>
    internal void Context(NbdOption option, uint id, string name)
    {
        int length = 4 + NbdWire.ByteCount(name);
        Span<byte> to = Reserve(NbdLimits.OptionReplyBytes + length);
        int at = NbdWire.WriteOptionReply(to, option, NbdOptionReply.MetaContext, length);
        BinaryPrimitives.WriteUInt32BigEndian(to[at..], id);
        NbdWire.WriteText(to[(at + 4)..], name);
        Advance(at + length);
    }

    /// <inheritdoc/>
    public void Dispose() => _buffer.Dispose();
}
