using System.Buffers.Binary;

namespace Vmm.Dump.Kdump;

/// <summary>
/// A compressed dump as it is written: at its offsets, or flattened for targets that only take bytes in order, where each piece carries its
/// offset and size. Pieces are placed by one thread at a time and may be written by several.
/// </summary>
/// <param name="file">Target.</param>
/// <param name="isFlat">Flattened.</param>
internal sealed class KdumpFile(DumpFile file, bool isFlat)
{
    /// <summary>Bytes before each piece of a flattened dump.</summary>
    internal const int PieceHeaderBytes = 16;

    private const int StartBytes = 4096;
    private const string WhatStart = "write start flat header";

    private long _position;

    /// <summary>Pieces may be written in any order once they are placed.</summary>
    internal bool IsSeekable => file.IsSeekable;

    /// <summary>Begins a dump. What a file begins with once it is complete comes last.</summary>
    internal void Start()
    {
        file.Invalidate(StartBytes, WhatStart);
        if (isFlat)
        {
            _position = StartBytes;
            if (!file.IsSeekable)
            {
                WriteStart();
            }
        }
    }

    /// <summary>Says where the next piece goes.</summary>
    /// <param name="offset">Offset in the dump.</param>
    /// <param name="piece">Room for the header of a flattened piece, and the piece.</param>
    /// <returns>Where to write it in the file.</returns>
    internal long Place(long offset, Span<byte> piece)
    {
        if (!isFlat)
        {
            return offset;
        }

        BinaryPrimitives.WriteInt64BigEndian(piece, offset);
        BinaryPrimitives.WriteInt64BigEndian(piece[8..], piece.Length - PieceHeaderBytes);
        long position = _position;
        _position += piece.Length;
        return position;
    }

    /// <summary>Writes a piece that was placed.</summary>
    internal void Write(long position, ReadOnlySpan<byte> piece, string what)
    {
        if (isFlat)
        {
            file.WriteAt(position, piece, what);
        }
        else
        {
            file.WriteSparse(position, piece[PieceHeaderBytes..], what);
        }
    }

    /// <summary>Places and writes a piece.</summary>
    internal void WriteAt(long offset, ReadOnlySpan<byte> contents, string what)
    {
        byte[] piece = new byte[PieceHeaderBytes + contents.Length];
        contents.CopyTo(piece.AsSpan(PieceHeaderBytes));
        Write(Place(offset, piece), piece, what);
    }

    /// <summary>Ends the dump.</summary>
    /// <param name="length">Bytes of the dump, not of the file.</param>
    internal void Complete(long length)
    {
        const string What = "write end flat header";
        if (isFlat)
        {
            Span<byte> end = stackalloc byte[PieceHeaderBytes];
            end.Fill(0xff);
            file.WriteAt(_position, end, What);
        }

        file.Complete(isFlat ? _position + PieceHeaderBytes : length, What);
        if (isFlat && file.IsSeekable)
        {
            WriteStart();
        }
    }

    // Type 1, version 1.
    private void WriteStart()
    {
        byte[] start = new byte[StartBytes];
        "makedumpfile"u8.CopyTo(start);
        BinaryPrimitives.WriteInt64BigEndian(start.AsSpan(16), 1);
        BinaryPrimitives.WriteInt64BigEndian(start.AsSpan(24), 1);
        file.WriteAt(0, start, WhatStart);
    }
}
