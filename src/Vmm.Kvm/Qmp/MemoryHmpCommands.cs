using System.Buffers.Binary;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using Vmm.Kvm.CpuModels;
using Vmm.Memory;
using Vmm.ObjectModel.Accel;
using Vmm.Qapi;

namespace Vmm.Kvm.Qmp;

/// <summary>The terminal commands about guest memory.</summary>
/// <param name="commands">CPUs and the machine.</param>
/// <param name="cpus">Which CPU is current.</param>
/// <param name="spaces">Address spaces to list, in order.</param>
/// <param name="describeOwner">Text for the owner of a region, e.g. <c> owner:{dev id=x}</c>.</param>
public sealed class MemoryHmpCommands(
    CpuCommands commands, CpuHmpCommands cpus, Func<IReadOnlyList<AddressSpace>> spaces, Func<object?, string> describeOwner)
{
    private const string PageMap = "/proc/self/pagemap";
    private const ulong PageBytes = 4096;

    private delegate bool ReadMemory(ulong address, Span<byte> bytes);

    /// <summary>Dumps memory at virtual addresses of the current CPU.</summary>
    [HmpCommand("x", ArgsType = "fmt:/,addr:l", Params = "/fmt addr", Help = "virtual memory dump starting at 'addr'")]
    public void X(HmpContext context, HmpFormat fmt, long addr)
    {
        if (cpus.Current(context) is not { } cpu || commands.Machine is not { } machine)
        {
            context.PrintLine("Can not dump without CPU");
            return;
        }

        CpuArchState state = cpu.Vcpu!.GetState();
        AddressSpace memory = machine.Memory;
        Dump(context, fmt, (ulong)addr, state, (address, bytes) =>
        {
            for (int done = 0; done < bytes.Length;)
            {
                if (!PageTables.TryTranslate(state, memory, address + (uint)done, out ulong physical))
                {
                    return false;
                }

                int run = Math.Min(bytes.Length - done, 4096 - (int)(physical & 0xfff));
                _ = memory.Read(physical, bytes.Slice(done, run));
                done += run;
            }

            return true;
        });
    }

    /// <summary>Dumps memory at physical addresses.</summary>
    [HmpCommand("xp", ArgsType = "fmt:/,addr:l", Params = "/fmt addr", Help = "physical memory dump starting at 'addr'")]
    public void Xp(HmpContext context, HmpFormat fmt, long addr)
    {
        if (commands.Machine is not { } machine)
        {
            context.PrintLine("Can not dump without CPU");
            return;
        }

        AddressSpace memory = machine.Memory;
        CpuArchState? state = fmt.Format == 'i' ? cpus.Current(context)?.Vcpu!.GetState() : null;
        Dump(context, fmt, (ulong)addr, state, (address, bytes) => memory.Read(address, bytes) == MemTxResult.Ok || fmt.Format != 'i');
    }

    /// <summary>Translates a virtual address of the current CPU.</summary>
    [HmpCommand(
        "gva2gpa",
        ArgsType = "addr:l",
        Params = "addr",
        Help = "print the guest physical address corresponding to a guest virtual address")]
    public void Gva2Gpa(HmpContext context, long addr)
    {
        if (cpus.Current(context) is not { } cpu || commands.Machine is not { } machine)
        {
            context.PrintLine("No cpu");
        }
        else if (PageTables.TryTranslate(cpu.Vcpu!.GetState(), machine.Memory, (ulong)addr, out ulong physical))
        {
            context.PrintLine(physical == 0 ? "gpa: 0" : $"gpa: 0x{physical:x}");
        }
        else
        {
            context.PrintLine("Unmapped");
        }
    }

    /// <summary>Shows where guest memory is in this process.</summary>
    [HmpCommand(
        "gpa2hva",
        ArgsType = "addr:l",
        Params = "addr",
        Help = "print the host virtual address corresponding to a guest physical address")]
    public void Gpa2Hva(HmpContext context, long addr)
    {
        if (FindHost(context, addr, out string? name) is { } host)
        {
            context.PrintLine($"Host virtual address for 0x{addr:x} ({name}) is 0x{host:x}");
        }
    }

    /// <summary>Shows where guest memory is in the host's.</summary>
    [HmpCommand(
        "gpa2hpa",
        ArgsType = "addr:l",
        Params = "addr",
        Help = "print the host physical address corresponding to a guest physical address")]
    public void Gpa2Hpa(HmpContext context, long addr)
    {
        if (FindHost(context, addr, out string? name) is not { } host)
        {
            return;
        }

        // A page that was never touched, or is shared since a fork, has no place of its own before it is written.
        if (commands.Machine!.Memory.View.Find((ulong)addr) is { Block: { } block } range)
        {
            ulong offset = (range.BlockOffset + ((ulong)addr - range.Start)) & ~3UL;
            Interlocked.Or(ref MemoryMarshal.Cast<byte, int>(block.Span(offset, sizeof(int)))[0], 0);
        }

        try
        {
            // One entry of 8 bytes for each page: bit 63 present, bits 0 to 54 the frame (the kernel's documentation of pagemap).
            Span<byte> entry = stackalloc byte[8];
            using var map = new FileStream(PageMap, FileMode.Open, FileAccess.Read, FileShare.ReadWrite, bufferSize: 0);
            map.Position = (long)((ulong)host / PageBytes * 8);
            map.ReadExactly(entry);
            ulong bits = BinaryPrimitives.ReadUInt64LittleEndian(entry);
            ulong physical = ((bits & ((1UL << 55) - 1)) * PageBytes) + ((ulong)host % PageBytes);
            context.PrintLine((bits >> 63) == 0
                ? "Page not present"
                : $"Host physical address for 0x{addr:x} ({name}) is 0x{physical:x}");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            context.PrintLine($"Cannot open {PageMap}");
        }
    }

    /// <summary>Shows the memory regions.</summary>
    [HmpCommand(
        "info mtree",
        ArgsType = "flatview:-f,owner:-o,disabled:-D",
        Params = "[-f][-o][-D]",
        Help = "show memory tree (-f: dump flat view for address spaces;-o: dump region owners/parents;-D: dump disabled regions)")]
    public void InfoMtree(HmpContext context, bool flatview, bool owner, bool disabled)
    {
        var text = new StringBuilder();
        var options = new MtreeOptions(disabled, owner ? describeOwner : null);
        if (flatview)
        {
            var kvm = commands.Machine?.Accelerator as KvmAccelerator;
            MtreePrinter.WriteFlat(text, spaces(), options, " KVM", (space, range) => kvm?.IsMapped(space, range) == true);
        }
        else
        {
            MtreePrinter.WriteTree(text, spaces(), options);
        }

        context.Print(text.ToString());
    }

    private nint? FindHost(HmpContext context, long addr, out string? name)
    {
        FlatRange? range = commands.Machine?.Memory.View.Find((ulong)addr);
        name = range?.Region.Name;
        if (range is null)
        {
            context.PrintLine($"No memory is mapped at address 0x{addr:x}");
        }
        else if (range.Block is null || !range.ReadsDirectly)
        {
            context.PrintLine($"Memory at address 0x{addr:x} is not RAM");
        }
        else
        {
            return range.HostAddress + (nint)((ulong)addr - range.Start);
        }

        return null;
    }

    private static void Dump(HmpContext context, HmpFormat format, ulong address, CpuArchState? state, ReadMemory read)
    {
        var text = new StringBuilder();
        if (format.Format == 'i')
        {
            int bits = state is null ? 32 : state.Is64BitCode ? 64 : state.Segments[1].Db ? 32 : 16;
            Disassembly.Write(text, address, format.Count, bits, (at, bytes) => read(at, bytes));
        }
        else
        {
            DumpUnits(text, format, address, read);
        }

        context.Print(text.ToString());
    }

    private static void DumpUnits(StringBuilder text, HmpFormat format, ulong address, ReadMemory read)
    {
        // Characters are bytes whatever the size is; it says how much memory is meant.
        int itemSize = format.Size is 1 or 2 or 4 or 8 ? format.Size : 4;
        int size = format.Format == 'c' ? 1 : itemSize;
        int lineSize = itemSize == 1 ? 8 : 16;
        Span<byte> line = stackalloc byte[16];
        for (long left = (long)format.Count * itemSize; left > 0;)
        {
            int length = (int)Math.Min(left, lineSize);
            text.Append(CultureInfo.InvariantCulture, $"{address:x16}:");
            if (!read(address, line[..length]))
            {
                text.Append(" Cannot access memory\n");
                return;
            }

            for (int i = 0; i < length; i += size)
            {
                text.Append(' ');
                AppendUnit(text, format.Format, size, line[i..]);
            }

            text.Append('\n');
            address += (uint)length;
            left -= length;
        }
    }

    private static void AppendUnit(StringBuilder text, char format, int size, ReadOnlySpan<byte> bytes)
    {
        ulong value = size switch
        {
            1 => bytes[0],
            2 => BinaryPrimitives.ReadUInt16LittleEndian(bytes),
            4 => BinaryPrimitives.ReadUInt32LittleEndian(bytes),
            _ => BinaryPrimitives.ReadUInt64LittleEndian(bytes),
        };
        int bits = size * 8;
        switch (format)
        {
            case 'o':
                text.Append((value == 0 ? "0" : "0" + Convert.ToString((long)value, 8)).PadLeft((bits + 2) / 3));
                break;
            case 'u':
                text.Append(value.ToString(CultureInfo.InvariantCulture).PadLeft(((bits * 10) + 32) / 33));
                break;
            case 'd':
                text.Append(((long)value).ToString(CultureInfo.InvariantCulture).PadLeft(((bits * 10) + 32) / 33));
                break;
            case 'c':
                AppendChar(text, (byte)value);
                break;
            default:
                text.Append("0x").Append(value.ToString("x" + (size * 2), CultureInfo.InvariantCulture));
                break;
        }
    }

    private static void AppendChar(StringBuilder text, byte value)
    {
        text.Append('\'');
        text.Append(value switch
        {
            (byte)'\'' => "\\'",
            (byte)'\\' => "\\\\",
            (byte)'\n' => "\\n",
            (byte)'\r' => "\\r",
            >= 32 and <= 126 => ((char)value).ToString(),
            _ => $"\\x{value:x2}",
        });
        text.Append('\'');
    }
}
