using Vmm.Memory;

namespace Vmm.ObjectModel.Accel;

/// <summary>
/// All guest RAM of the process (machine RAM, ROMs, video memory), each block with its place in one flat number space, as migration and
/// monitors name it. Home: main loop.
/// </summary>
public sealed class RamList
{
    // Dirty bitmaps of neighbouring blocks must not share a word: 64 pages.
    private const ulong Alignment = 64 * 4096;

    private readonly List<(RamBlock Block, ulong Offset)> _blocks = [];

    /// <summary>Blocks with their offsets, the largest first; among equals in order of addition.</summary>
    public IReadOnlyList<(RamBlock Block, ulong Offset)> Blocks => _blocks;

    /// <summary>Adds a block at the offset of the smallest gap that it fits into.</summary>
    public void Add(RamBlock block)
    {
        int at = 0;
        while (at < _blocks.Count && _blocks[at].Block.Size >= block.Size)
        {
            at++;
        }

        _blocks.Insert(at, (block, FindGap(block.Size)));
    }

    /// <summary>Removes a block.</summary>
    public void Remove(RamBlock block) => _blocks.RemoveAll(b => ReferenceEquals(b.Block, block));

    /// <summary>Finds a block by its migration id; null for none.</summary>
    public RamBlock? Find(string idString)
    {
        foreach ((RamBlock block, _) in _blocks)
        {
            if (block.IdString == idString)
            {
                return block;
            }
        }

        return null;
    }

    private ulong FindGap(ulong size)
    {
        ulong best = 0;
        ulong smallest = ulong.MaxValue;
        Consider(0);
        foreach ((RamBlock block, ulong offset) in _blocks)
        {
            Consider((offset + block.Size + Alignment - 1) / Alignment * Alignment);
        }

        return best;

        void Consider(ulong candidate)
        {
            ulong next = ulong.MaxValue;
            foreach ((RamBlock block, ulong offset) in _blocks)
            {
                if (offset + block.Size > candidate)
                {
                    next = Math.Min(next, Math.Max(offset, candidate));
                }
            }

            ulong gap = next - candidate;
            if (gap >= size && gap < smallest)
            {
                smallest = gap;
                best = candidate;
            }
        }
    }
}
