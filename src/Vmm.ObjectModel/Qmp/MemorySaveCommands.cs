using System.Globalization;
using Vmm.Interop;
using Vmm.Memory;
using Vmm.ObjectModel.Accel;
using Vmm.ObjectModel.Devices;
using Vmm.Qapi;

namespace Vmm.ObjectModel.Qmp;

/// <summary>Commands that write guest memory to files, and calculate with numbers.</summary>
public sealed class MemorySaveCommands(Func<IMachineServices?> machine)
{
    private const int ChunkBytes = 4096;

    /// <summary>Writes guest memory at a virtual address of a vCPU to a file.</summary>
    [QmpCommand("memsave", ArgsType = "val:l,size:i,filename:s,cpu:i?,cpu-index:i?", Since = "0.14")]
    public void Memsave(long val, long size, string filename, int? cpu, int? cpuIndex)
    {
        IMachineServices services = Services();
        int index = cpuIndex ?? cpu ?? 0;
        if (index < 0 || index >= services.Accelerator.Vcpus.Count)
        {
            throw QapiException.InvalidParameterValue(cpuIndex is null && cpu is not null ? "cpu" : "cpu-index", "a CPU number");
        }

        AddressSpace memory = services.Memory;
        CpuArchState state = services.Accelerator.Vcpus[index].GetState();
        Save(filename, (ulong)val, size, (address, buffer) =>
        {
            if (!PageTables.TryTranslate(state, memory, address, out ulong physical))
            {
                string where = ((ulong)val).ToString("x16", CultureInfo.InvariantCulture);
                throw new QapiException($"Invalid addr 0x{where}/size {size} specified");
            }

            memory.Read(physical, buffer);
        });
    }

    /// <summary>Writes guest memory at a physical address to a file.</summary>
    [QmpCommand("pmemsave", ArgsType = "val:l,size:i,filename:s", Since = "0.14")]
    public void Pmemsave(long val, long size, string filename)
    {
        AddressSpace memory = Services().Memory;
        Save(filename, (ulong)val, size, (address, buffer) => memory.Read(address, buffer));
    }

    /// <summary>Does nothing: monitors of this protocol have no current vCPU. Kept for old clients.</summary>
    [QmpCommand("cpu", ArgsType = "index:i", Since = "0.14")]
    public void Cpu(int index)
    {
    }

    /// <summary>Writes guest memory at a virtual address to a file.</summary>
    [HmpCommand(
        "memsave",
        ArgsType = "val:l,size:i,filename:s",
        Params = "addr size file",
        Help = "save to disk virtual memory dump starting at 'addr' of size 'size'")]
    public void HmpMemsave(HmpContext context, long val, int size, string filename) =>
        Memsave(val, size, filename, null, Math.Max(context.MonCpuIndex, 0));

    /// <summary>Writes guest memory at a physical address to a file.</summary>
    [HmpCommand(
        "pmemsave",
        ArgsType = "val:l,size:i,filename:s",
        Params = "addr size file",
        Help = "save to disk physical memory dump starting at 'addr' of size 'size'")]
    public void HmpPmemsave(HmpContext context, long val, int size, string filename) => Pmemsave(val, size, filename);

    /// <summary>Selects the vCPU that other commands of this monitor mean.</summary>
    [HmpCommand("cpu", ArgsType = "index:i", Params = "index", Help = "set the default CPU")]
    public void HmpCpu(HmpContext context, int index)
    {
        if (index < 0 || index >= (machine()?.Accelerator.Vcpus.Count ?? 0))
        {
            context.PrintLine("invalid CPU index");
            return;
        }

        context.MonCpuIndex = index;
    }

    /// <summary>Prints the BSD checksum of physical memory.</summary>
    [HmpCommand("sum", ArgsType = "start:i,size:i", Params = "addr size", Help = "compute the checksum of a memory region")]
    public void Sum(HmpContext context, int start, int size)
    {
        AddressSpace memory = Services().Memory;
        ushort sum = 0;
        Span<byte> buffer = stackalloc byte[256];
        for (uint done = 0; done < (uint)size;)
        {
            Span<byte> part = buffer[..(int)Math.Min((uint)buffer.Length, (uint)size - done)];
            memory.Read((uint)start + done, part);
            foreach (byte b in part)
            {
                sum = (ushort)(((sum >> 1) | (sum << 15)) + b);
            }

            done += (uint)part.Length;
        }

        context.PrintLine(sum.ToString("00000", CultureInfo.InvariantCulture));
    }

    /// <summary>Prints a number.</summary>
    [HmpCommand("print|p", ArgsType = "fmt:/,val:l", Params = "/fmt expr", Help = "print expression value (use $reg for CPU register access)")]
    public void Print(HmpContext context, HmpFormat fmt, long val) => context.PrintLine(fmt.Format switch
    {
        'o' => "0" + Convert.ToString(val, 8),
        'u' => ((ulong)val).ToString(CultureInfo.InvariantCulture),
        'd' => val.ToString(CultureInfo.InvariantCulture),
        'c' => Quote((char)(byte)val),
        _ => "0x" + val.ToString("x", CultureInfo.InvariantCulture),
    });

    private static string Quote(char c) => c switch
    {
        '\'' => "'\\''",
        '\\' => "'\\\\'",
        '\n' => "'\\n'",
        '\r' => "'\\r'",
        >= ' ' and <= '~' => $"'{c}'",
        _ => $"'\\x{(int)c:x2}'",
    };

    private static void Save(string filename, ulong address, long size, ReadChunk read)
    {
        Errno errno = Libc.Open(filename, Libc.O_WRONLY | Libc.O_CREAT | Libc.O_TRUNC | Libc.O_CLOEXEC, 0x1b6, out SafeFd file);
        using (file)
        {
            if (errno != Errno.OK)
            {
                throw new QapiException($"Could not open '{filename}': {errno.Message()}");
            }

            Span<byte> buffer = stackalloc byte[ChunkBytes];
            while (size > 0)
            {
                // No chunk crosses a page, since the next page may be elsewhere.
                int length = (int)Math.Min(size, ChunkBytes - (long)(address % ChunkBytes));
                Span<byte> part = buffer[..length];
                read(address, part);
                WriteAll(file, part);
                address += (ulong)length;
                size -= length;
            }
        }
    }

    private static void WriteAll(SafeFd file, ReadOnlySpan<byte> bytes)
    {
        while (!bytes.IsEmpty)
        {
            int n = Libc.Write(file.Fd, bytes);
            if (n <= 0)
            {
                throw new QapiException("An IO error has occurred");
            }

            bytes = bytes[n..];
        }
    }

    private IMachineServices Services() => machine() ?? throw QapiException.Unsupported();

    private delegate void ReadChunk(ulong address, Span<byte> buffer);
}
