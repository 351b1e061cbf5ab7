using System.Buffers.Binary;
using Vmm.Interop;

namespace Vmm.Dump.Kdump;

/// <summary>
/// Writes a compressed dump. Each thread takes the next batch of pages, compresses it into memory of its own, and then waits for its turn to be
/// told where the batch goes: pages are in order, and memory is that of a batch for each thread, however large the guest is.
/// </summary>
internal sealed class KdumpDump
{
    private const int BatchPages = 128;
    private const int BitmapChunkBytes = 64 << 10;
    private const string WhatPages = "write page data";
    private const string WhatDescriptors = "write page desc";

    private readonly KdumpLayout _layout;
    private readonly KdumpCompression _compression;
    private readonly KdumpFile _file;
    private readonly DumpProgress _progress;
    private readonly object _turn = new();
    private readonly long _batches;
    private long _nextBatch = -1;
    private long _batchOnTurn;
    private long _dataOffset;

    private KdumpDump(KdumpLayout layout, KdumpCompression compression, KdumpFile file, DumpProgress progress)
    {
        _layout = layout;
        _compression = compression;
        _file = file;
        _progress = progress;
        _batches = (layout.Pages.Count + BatchPages - 1) / BatchPages;
    }

    /// <summary>Writes a dump. A file that can be written anywhere gets its header last, or the mark of its end.</summary>
    /// <param name="layout">What is dumped.</param>
    /// <param name="compression">How pages are compressed; the library is there.</param>
    /// <param name="file">Target.</param>
    /// <param name="progress">Counts bytes of memory.</param>
    /// <param name="threads">Threads to compress with.</param>
    internal static void Write(KdumpLayout layout, KdumpCompression compression, KdumpFile file, DumpProgress progress, int threads)
    {
        KdumpDump dump = new(layout, compression, file, progress);
        file.Start();
        if (!file.IsSeekable)
        {
            dump.WriteHeader();
        }

        file.WriteAt(KdumpLayout.SubHeaderOffset, layout.SubHeader(), "write kdump sub header");
        dump.WriteBitmaps();

        // Pages of zeroes share the first one.
        byte[] zeroes = new byte[KdumpLayout.BlockBytes];
        file.WriteAt(layout.DataOffset, zeroes, WhatPages);
        dump._dataOffset = layout.DataOffset + zeroes.Length;
        DumpThreads.Run(threads, progress, dump.CompressBatches);
        if (file.IsSeekable)
        {
            dump.WriteHeader();
        }

        file.Complete(dump._dataOffset);
    }

    private void WriteHeader() => _file.WriteAt(0, _layout.Header(), "write disk dump header");

    private void WriteBitmaps()
    {
        byte[] chunk = new byte[BitmapChunkBytes];
        for (int copy = 0; copy < 2; copy++)
        {
            for (long at = 0; at < _layout.BitmapBytes; at += chunk.Length)
            {
                Span<byte> bitmap = chunk.AsSpan(0, (int)Math.Min(chunk.Length, _layout.BitmapBytes - at));
                _layout.Pages.WriteBitmap(at, bitmap);
                _file.WriteAt(_layout.BitmapOffset + (copy * _layout.BitmapBytes) + at, bitmap, "write dump_bitmap");
            }
        }
    }

    private void CompressBatches()
    {
        using PageCompressor compressor = PageCompressor.Create(_compression)
            ?? throw new InvalidOperationException($"no library compresses {_compression}");
        using NativeBuffer descriptors = new(KdumpFile.PieceHeaderBytes + (BatchPages * KdumpLayout.DescriptorBytes));
        using NativeBuffer data = new(KdumpFile.PieceHeaderBytes + (BatchPages * KdumpLayout.BlockBytes) + PageCompressor.OutputBytes);
        byte[] scratch = new byte[KdumpLayout.BlockBytes];
        for (;;)
        {
            long batch = Interlocked.Increment(ref _nextBatch);
            if (batch >= _batches)
            {
                return;
            }

            long first = batch * BatchPages;
            int count = (int)Math.Min(BatchPages, _layout.Pages.Count - first);
            Batch made = new(descriptors.Span[..(KdumpFile.PieceHeaderBytes + (count * KdumpLayout.DescriptorBytes))], data.Span);
            for (int i = 0; i < count; i++)
            {
                made.Add(_layout.Pages.Contents(first + i, scratch), compressor, _compression);
            }

            Put(batch, made);
            _progress.Add((ulong)count * KdumpLayout.BlockBytes);
        }
    }

    private void Put(long batch, Batch made)
    {
        long descriptorsAt;
        long dataAt;
        lock (_turn)
        {
            while (_batchOnTurn != batch)
            {
                _progress.ThrowIfCancelled();
                Monitor.Wait(_turn, 100);
            }

            made.Settle(_layout.DataOffset, _dataOffset);
            descriptorsAt = _file.Place(_layout.DescriptorOffset + (batch * BatchPages * KdumpLayout.DescriptorBytes), made.Descriptors);
            dataAt = made.HasData ? _file.Place(_dataOffset, made.Data) : 0;
            _dataOffset += made.DataBytes;
            if (!_file.IsSeekable)
            {
                Write(descriptorsAt, dataAt, made);
            }

            _batchOnTurn++;
            Monitor.PulseAll(_turn);
        }

        if (_file.IsSeekable)
        {
            Write(descriptorsAt, dataAt, made);
        }
    }

    private void Write(long descriptorsAt, long dataAt, Batch made)
    {
        _file.Write(descriptorsAt, made.Descriptors, WhatDescriptors);
        if (made.HasData)
        {
            _file.Write(dataAt, made.Data, WhatPages);
        }
    }

    // Descriptors and data of some pages in a row, each with room for the header of a piece in front. Offsets count from the first byte of the
    // data until the place of that is known; -1 is the page of zeroes.
    private ref struct Batch(Span<byte> descriptors, Span<byte> data)
    {
        private readonly Span<byte> _data = data;
        private int _descriptorEnd = KdumpFile.PieceHeaderBytes;
        private int _dataEnd = KdumpFile.PieceHeaderBytes;

        internal readonly Span<byte> Descriptors { get; } = descriptors;

        internal readonly Span<byte> Data => _data[.._dataEnd];

        internal readonly int DataBytes => _dataEnd - KdumpFile.PieceHeaderBytes;

        internal readonly bool HasData => DataBytes > 0;

        internal void Add(ReadOnlySpan<byte> page, PageCompressor compressor, KdumpCompression compression)
        {
            if (page.IndexOfAnyExcept((byte)0) < 0)
            {
                Describe(-1, page.Length, 0);
                return;
            }

            int length = compressor.Compress(page, _data[_dataEnd..]);
            uint flags = length > 0 ? (uint)compression : 0;
            if (length == 0)
            {
                length = page.Length;
                page.CopyTo(_data[_dataEnd..]);
            }

            Describe(DataBytes, length, flags);
            _dataEnd += length;
        }

        internal readonly void Settle(long zeroesAt, long dataAt)
        {
            for (int at = KdumpFile.PieceHeaderBytes; at < Descriptors.Length; at += KdumpLayout.DescriptorBytes)
            {
                long offset = BinaryPrimitives.ReadInt64LittleEndian(Descriptors[at..]);
                BinaryPrimitives.WriteInt64LittleEndian(Descriptors[at..], offset < 0 ? zeroesAt : dataAt + offset);
            }
        }

        private void Describe(long offset, int length, uint flags)
        {
            Span<byte> descriptor = Descriptors.Slice(_descriptorEnd, KdumpLayout.DescriptorBytes);
            BinaryPrimitives.WriteInt64LittleEndian(descriptor, offset);
            BinaryPrimitives.WriteInt32LittleEndian(descriptor[8..], length);
            BinaryPrimitives.WriteUInt32LittleEndian(descriptor[12..], flags);
            BinaryPrimitives.WriteInt64LittleEndian(descriptor[16..], 0);
            _descriptorEnd += KdumpLayout.DescriptorBytes;
        }
    }
}
