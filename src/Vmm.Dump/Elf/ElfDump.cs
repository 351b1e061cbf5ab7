using Vmm.Dump.Guest;
using Vmm.Memory;

namespace Vmm.Dump.Elf;

/// <summary>Writes a core file.</summary>
internal static class ElfDump
{
    private const int ChunkBytes = 2 << 20;
    private const string WhatMemory = "save memory";
    private const string WhatHeader = "write elf header";

    /// <summary>
    /// Writes memory and headers. A file that can be written anywhere gets its headers last: as long as they lack it is no core file, whatever
    /// ends the process.
    /// </summary>
    /// <param name="file">Target.</param>
    /// <param name="headers">See <see cref="ElfHeaders.Write"/>.</param>
    /// <param name="memory">What is dumped.</param>
    /// <param name="progress">Counts bytes of memory.</param>
    /// <param name="threads">Threads to write with.</param>
    internal static void Write(DumpFile file, byte[] headers, GuestMemoryMap memory, DumpProgress progress, int threads)
    {
        if (file.IsSeekable)
        {
            file.Invalidate(ElfHeaders.IdentificationBytes, WhatHeader);
        }
        else
        {
            file.WriteAt(0, headers, WhatHeader);
        }

        ChunkList chunks = new(memory, ChunkBytes);
        DumpThreads.Run(file.IsSeekable ? threads : 1, progress, () =>
        {
            while (chunks.TryTake(out GuestMemoryRange chunk, out ulong offset))
            {
                file.WriteSparse(headers.Length + (long)offset, chunk.Span(chunk.Start, ChunkBytes), WhatMemory);
                progress.Add(chunk.Length);
            }
        });
        long end = headers.Length + (long)memory.Bytes;
        file.WriteAt(end, ElfHeaders.Names, "write section names");
        if (file.IsSeekable)
        {
            file.WriteAt(0, headers, WhatHeader);
        }

        file.Complete(end + ElfHeaders.Names.Length, WhatMemory);
    }

    // Ranges in pieces, each with its offset behind the headers. Any thread.
    private sealed class ChunkList(GuestMemoryMap memory, int chunkBytes)
    {
        private readonly Lock _gate = new();
        private int _range;
        private ulong _within;
        private ulong _offset;

        internal bool TryTake(out GuestMemoryRange chunk, out ulong offset)
        {
            lock (_gate)
            {
                offset = _offset;
                if (_range == memory.Ranges.Length)
                {
                    chunk = default;
                    return false;
                }

                GuestMemoryRange range = memory.Ranges[_range];
                ulong length = Math.Min((ulong)chunkBytes, range.Length - _within);
                chunk = new GuestMemoryRange(range.Start + _within, length, range.Block, range.BlockOffset + _within);
                _offset += length;
                _within += length;
                if (_within == range.Length)
                {
                    _range++;
                    _within = 0;
                }

                return true;
            }
        }
    }
}
