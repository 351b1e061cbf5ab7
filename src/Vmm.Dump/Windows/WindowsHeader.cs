using System.Buffers.Binary;
using System.Text;
using Vmm.Dump.Guest;
using Vmm.Qapi;

namespace Vmm.Dump.Windows;

/// <summary>
/// The header of a full crash dump of 64-bit Windows (DUMP_HEADER64 of the Windows SDK), which the guest's driver has prepared: the places of
/// the kernel's own data and the runs of memory. What only the moment of the dump tells is filled in from the kernel's debugger block.
/// </summary>
internal sealed class WindowsHeader
{
    /// <summary>Bytes of the header.</summary>
    internal const int Bytes = 0x2000;

    private const int DirectoryTableBaseAt = 0x10;
    private const int PfnDatabaseAt = 0x18;
    private const int ProcessorsAt = 0x34;
    private const int BugcheckAt = 0x38;
    private const int BugcheckParameter1At = 0x40;
    private const int BugcheckBytes = 40;
    private const int DebuggerBlockAt = 0x80;
    private const int RunCountAt = 0x88;
    private const int UnusedAt = 0x8c;
    private const int RunsAt = 0x98;
    private const int MaxRuns = 43;
    private const int RunBytes = 16;
    private const int SpaceAt = 0xfa0;
    private const int PageBits = 12;
    private const uint LiveSystemDump = 0x161;

    // Places in the kernel's debugger block (KDDEBUGGER_DATA64).
    private const ulong OwnerTagAt = 0x10;
    private const ulong KiBugcheckDataAt = 0x88;
    private const ulong MmPfnDatabaseAt = 0xc0;
    private const ulong KiProcessorBlockAt = 0x218;
    private const ulong OffsetPrcbContextAt = 0x338;

    private readonly byte[] _bytes;

    private WindowsHeader(byte[] bytes) => _bytes = bytes;

    /// <summary>The header as it goes to the file.</summary>
    internal ReadOnlySpan<byte> Contents => _bytes;

    /// <summary>Page tables of the kernel.</summary>
    internal ulong DirectoryTableBase => ReadU64(DirectoryTableBaseAt);

    /// <summary>Processors that the guest knows.</summary>
    internal uint Processors => BinaryPrimitives.ReadUInt32LittleEndian(_bytes.AsSpan(ProcessorsAt));

    /// <summary>Takes the header out of the guest's note.</summary>
    /// <exception cref="QapiException">There is none.</exception>
    internal static WindowsHeader From(VmCoreInfo? info)
    {
        if (info is null || info.Descriptor.Length != Bytes)
        {
            throw new QapiException("win-dump: invalid vmcoreinfo note size");
        }

        WindowsHeader header = new(info.Descriptor.ToArray());
        ReadOnlySpan<byte> signature = header._bytes.AsSpan(0, 4);
        if (!signature.SequenceEqual("PAGE"u8))
        {
            throw new QapiException($"win-dump: invalid header, expected 'PAGE', got '{Text(signature)}'");
        }

        ReadOnlySpan<byte> valid = header._bytes.AsSpan(4, 4);
        return valid.SequenceEqual("DU64"u8) ? header : throw new QapiException($"win-dump: invalid header, expected 'DU64', got '{Text(valid)}'");
    }

    /// <summary>The runs of memory that the guest lists.</summary>
    /// <exception cref="QapiException">Too many, or of addresses that have no memory.</exception>
    internal GuestMemoryMap[] Runs(GuestMemoryMap memory)
    {
        uint count = BinaryPrimitives.ReadUInt32LittleEndian(_bytes.AsSpan(RunCountAt));
        if (count > MaxRuns)
        {
            throw new QapiException($"win-dump: invalid number of memory runs: {count}");
        }

        var runs = new GuestMemoryMap[count];
        for (int i = 0; i < runs.Length; i++)
        {
            ulong first = ReadU64(RunsAt + (i * RunBytes));
            ulong pages = ReadU64(RunsAt + (i * RunBytes) + sizeof(ulong));
            ulong start = first << PageBits;
            ulong length = pages << PageBits;
            bool isAddress = first >> (64 - PageBits) == 0 && pages >> (64 - PageBits) == 0;
            runs[i] = memory.Window(start, length);
            if (!isAddress || runs[i].Bytes != length)
            {
                throw new QapiException($"win-dump: failed to map physical range 0x{start:x16}-0x{start + length - 1:x16}");
            }
        }

        return runs;
    }

    /// <summary>Finds the debugger block, and fills in what it knows.</summary>
    /// <exception cref="QapiException">It is not where the header says, nor where a crash leaves its address.</exception>
    internal void Complete(LinearMemory kernel, ulong memoryBytes)
    {
        ulong block = ReadU64(DebuggerBlockAt);
        Span<byte> tag = stackalloc byte[4];
        ReadTag(kernel, block, tag);
        if (!tag.SequenceEqual("KDBG"u8))
        {
            block = ReadU64(BugcheckParameter1At);
            ReadTag(kernel, block, tag);
            if (!tag.SequenceEqual("KDBG"u8))
            {
                throw new QapiException($"win-dump: invalid KDBG OwnerTag, expected 'KDBG', got '{Text(tag)}'");
            }
        }

        WriteU64(DebuggerBlockAt, block);
        if (kernel.TryReadU64(block + MmPfnDatabaseAt, out ulong database))
        {
            WriteU64(PfnDatabaseAt, database);
        }

        Span<byte> bugcheck = _bytes.AsSpan(BugcheckAt, BugcheckBytes);
        Span<byte> saved = stackalloc byte[BugcheckBytes];
        if (kernel.TryReadU64(block + KiBugcheckDataAt, out ulong data) && kernel.TryRead(data, saved))
        {
            saved.CopyTo(bugcheck);

            // A guest that has not crashed is dumped alive.
            if (BinaryPrimitives.ReadUInt32LittleEndian(bugcheck) == 0)
            {
                BinaryPrimitives.WriteUInt32LittleEndian(bugcheck, LiveSystemDump);
            }
        }

        BinaryPrimitives.WriteUInt32LittleEndian(_bytes.AsSpan(UnusedAt), 0);
        WriteU64(SpaceAt, Bytes + memoryBytes);
    }

    /// <summary>Where the kernel keeps the registers of each processor that it and we know.</summary>
    /// <exception cref="QapiException">The kernel's data do not lead there.</exception>
    internal ulong[] Contexts(LinearMemory kernel, int cpus)
    {
        ulong block = ReadU64(DebuggerBlockAt);
        if (!kernel.TryReadU64(block + KiProcessorBlockAt, out ulong processors))
        {
            throw new QapiException("win-dump: failed to read KiProcessorBlock");
        }

        Span<byte> offset = stackalloc byte[sizeof(ushort)];
        if (!kernel.TryRead(block + OffsetPrcbContextAt, offset))
        {
            throw new QapiException("win-dump: failed to read OffsetPrcbContext");
        }

        ulong[] contexts = new ulong[Math.Min((uint)cpus, Processors)];
        for (int i = 0; i < contexts.Length; i++)
        {
            if (!kernel.TryReadU64(processors + ((ulong)i * sizeof(ulong)), out ulong control))
            {
                throw new QapiException($"win-dump: failed to read CPU #{i} PRCB location");
            }

            if (!kernel.TryReadU64(control + BinaryPrimitives.ReadUInt16LittleEndian(offset), out contexts[i]))
            {
                throw new QapiException($"win-dump: failed to read CPU #{i} ContextFrame location");
            }
        }

        return contexts;
    }

    private static void ReadTag(LinearMemory kernel, ulong block, Span<byte> tag)
    {
        if (!kernel.TryRead(block + OwnerTagAt, tag))
        {
            throw new QapiException("win-dump: failed to read OwnerTag");
        }
    }

    // As a C string of at most that length.
    private static string Text(ReadOnlySpan<byte> bytes)
    {
        int end = bytes.IndexOf((byte)0);
        return Encoding.Latin1.GetString(end < 0 ? bytes : bytes[..end]);
    }

    private ulong ReadU64(int at) => BinaryPrimitives.ReadUInt64LittleEndian(_bytes.AsSpan(at));

    private void WriteU64(int at, ulong value) => BinaryPrimitives.WriteUInt64LittleEndian(_bytes.AsSpan(at), value);
}
