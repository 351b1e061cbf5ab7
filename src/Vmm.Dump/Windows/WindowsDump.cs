using Vmm.Dump.Guest;
using Vmm.Interop;
using Vmm.ObjectModel.Accel;
using Vmm.Qapi;

namespace Vmm.Dump.Windows;

/// <summary>
/// A full crash dump of 64-bit Windows: the header, then the runs of memory that it lists. The kernel's copies of registers are those of the
/// moment in the dump; the guest's own memory stays as it is.
/// </summary>
internal sealed class WindowsDump
{
    private const int ChunkBytes = 1 << 20;
    private const string What = "save memory";

    private readonly WindowsHeader _header;
    private readonly GuestMemoryMap[] _runs;
    private readonly List<(ulong Physical, ReadOnlyMemory<byte> Bytes)> _registers = [];

    private WindowsDump(WindowsHeader header, GuestMemoryMap[] runs)
    {
        _header = header;
        _runs = runs;
    }

    /// <summary>Bytes of the dump.</summary>
    internal ulong Bytes
    {
        get
        {
            ulong bytes = WindowsHeader.Bytes;
            foreach (GuestMemoryMap run in _runs)
            {
                bytes += run.Bytes;
            }

            return bytes;
        }
    }

    /// <summary>Plans the dump of a guest whose driver has left a header.</summary>
    /// <exception cref="QapiException">It has not, or the header leads nowhere.</exception>
    internal static WindowsDump Of(VmCoreInfo? info, GuestMemoryMap memory, CpuArchState[] cpus)
    {
        WindowsHeader header = WindowsHeader.From(info);
        WindowsDump dump = new(header, header.Runs(memory));

        // The kernel's data are mapped by its own tables, not by those of the process that happens to run.
        ulong ownTables = cpus[0].Cr3;
        cpus[0].Cr3 = header.DirectoryTableBase;
        LinearMemory kernel = new(memory, cpus[0]);
        header.Complete(kernel, dump.Bytes - WindowsHeader.Bytes);
        ulong[] contexts = header.Contexts(kernel, cpus.Length);
        for (int i = 0; i < contexts.Length; i++)
        {
            dump.AddRegisters(kernel, memory, contexts[i], i, WindowsContext.Write(cpus[i]));
        }

        cpus[0].Cr3 = ownTables;
        return dump;
    }

    /// <summary>Writes the dump; a file that can be written anywhere gets its header last.</summary>
    internal void Write(DumpFile file, DumpProgress progress)
    {
        if (file.IsSeekable)
        {
            file.Invalidate(WindowsHeader.Bytes, What);
        }
        else
        {
            file.WriteAt(0, _header.Contents, What);
        }

        long at = WindowsHeader.Bytes;
        using NativeBuffer copy = new(ChunkBytes);
        foreach (GuestMemoryMap run in _runs)
        {
            foreach (GuestMemoryRange range in run.Ranges.ToArray())
            {
                for (ulong done = 0; done < range.Length; done += ChunkBytes)
                {
                    ReadOnlySpan<byte> bytes = Patch(range.Start + done, range.Span(range.Start + done, ChunkBytes), copy.Span);
                    file.WriteSparse(at, bytes, What);
                    at += bytes.Length;
                    progress.Add((ulong)bytes.Length);
                }
            }
        }

        if (file.IsSeekable)
        {
            file.WriteAt(0, _header.Contents, What);
        }

        progress.Add(WindowsHeader.Bytes);
        file.Complete(at, What);
    }

    private void AddRegisters(LinearMemory kernel, GuestMemoryMap memory, ulong context, int cpu, ReadOnlyMemory<byte> registers)
    {
        foreach ((ulong physical, int length) in kernel.Locate(context, registers.Length))
        {
            if (!memory.TryGetSpan(physical, length, out _))
            {
                break;
            }

            _registers.Add((physical, registers[..length]));
            registers = registers[length..];
        }

        if (!registers.IsEmpty)
        {
            throw new QapiException($"win-dump: failed to save CPU #{cpu} context");
        }
    }

    // Memory itself, or a copy with the registers in it.
    private ReadOnlySpan<byte> Patch(ulong start, ReadOnlySpan<byte> bytes, Span<byte> copy)
    {
        ulong end = start + (ulong)bytes.Length;
        bool isCopied = false;
        foreach ((ulong physical, ReadOnlyMemory<byte> registers) in _registers)
        {
            ulong from = Math.Max(physical, start);
            ulong to = Math.Min(physical + (ulong)registers.Length, end);
            if (from >= to)
            {
                continue;
            }

            if (!isCopied)
            {
                bytes.CopyTo(copy);
                isCopied = true;
            }

            registers.Span[(int)(from - physical)..(int)(to - physical)].CopyTo(copy[(int)(from - start)..]);
        }

        return isCopied ? copy[..bytes.Length] : bytes;
    }
}
