using System.Globalization;
using Vmm.EventLoop;
using Vmm.Interop;
using Vmm.Memory;
using Vmm.ObjectModel.Accel;
using Vmm.ObjectModel.Devices;
using Vmm.Qapi;

namespace Vmm.ObjectModel.Qmp;

/// <summary>Commands that write guest memory to files, and calculate with numbers.</summary>
/// <param name="machine">The machine; null while there is none.</param>
/// <param name="workers">Where files are written that may keep the writer waiting.</param>
public sealed class MemorySaveCommands(Func<IMachineServices?> machine, WorkerPool workers)
{
    private const int ChunkBytes = 4096;

    /// <summary>Writes guest memory at a virtual address of a vCPU to a file.</summary>
    [QmpCommand("memsave", ArgsType = "val:l,size:i,filename:s,cpu:i?,cpu-index:i?", Since = "0.14")]
    public ValueTask Memsave(long val, long size, string filename, int? cpu, int? cpuIndex)
    {
        IMachineServices services = Services();
        int index = cpuIndex ?? cpu ?? 0;
        if (index < 0 || index >= services.Accelerator.Vcpus.Count)
        {
            throw QapiException.InvalidParameterValue(cpuIndex is null && cpu is not null ? "cpu" : "cpu-index", "a CPU number");
        }

        AddressSpace memory = services.Memory;
        CpuArchState state = services.Accelerator.Vcpus[index].GetState();
        return Save(filename, (ulong)val, size, (address, buffer) =>
        {
            if (!PageTables.TryTranslate(state, memory, address, out ulong physical) || memory.Read(physical, buffer) != MemTxResult.Ok)
            {
                string where = ((ulong)val).ToString("x16", CultureInfo.InvariantCulture);
                throw new QapiException($"Invalid addr 0x{where}/size {size} specified");
            }
        });
    }

    /// <summary>Writes guest memory at a physical address to a file.</summary>
    [QmpCommand("pmemsave", ArgsType = "val:l,size:i,filename:s", Since = "0.14")]
    public ValueTask Pmemsave(long val, long size, string filename)
    {
        AddressSpace memory = Services().Memory;
        return Save(filename, (ulong)val, size, (address, buffer) => memory.Read(address, buffer));
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
    public ValueTask HmpMemsave(HmpContext context, long val, int size, string filename) =>
        Memsave(val, size, filename, null, Math.Max(context.MonCpuIndex, 0));

    /// <summary>Writes guest memory at a physical address to a file.</summary>
    [HmpCommand(
        "pmemsave",
        ArgsType = "val:l,size:i,filename:s",
        Params = "addr size file",
        Help = "save to disk physical memory dump starting at 'addr' of size 'size'")]
    public ValueTask HmpPmemsave(HmpContext context, long val, int size, string filename) => Pmemsave(val, size, filename);

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
        'o' or 'x' when val == 0 => "0",
        'o' => "0" + Convert.ToString(val, 8),
        'u' => ((ulong)val).ToString(CultureInfo.InvariantCulture),
        'x' => val == 0 ? "0" : "0x" + val.ToString("x", CultureInfo.InvariantCulture),
        'c' => Quote((char)(byte)val),
        _ => val.ToString(CultureInfo.InvariantCulture),
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

    private ValueTask Save(string filename, ulong address, long size, ReadChunk read)
    {
        if (size < 0)
        {
            throw QapiException.InvalidParameterValue("size", "a number of bytes");
        }

        if (Libc.Stat(filename, out FileStatus status) == Errno.OK && status.IsFifo)
        {
            return SaveToFifo(filename, address, size, read);
        }

        using SafeFd file = Open(filename);
        byte[] buffer = new byte[ChunkBytes];
        while (size > 0)
        {
            int length = Next(address, size);
            read(address, buffer.AsSpan(0, length));
            WriteAll(file, buffer.AsSpan(0, length));
            address += (ulong)length;
            size -= length;
        }

        return ValueTask.CompletedTask;
    }

    // Whoever is to read at the other end may let us wait; out-of-band commands and the guest must not wait with us.
    private async ValueTask SaveToFifo(string filename, ulong address, long size, ReadChunk read)
    {
        EventLoop.EventLoop loop = Services().MainLoop;
        using SafeFd file = await workers.RunAsync(() => Open(filename)).ConfigureAwait(true);
        await loop.SwitchTo();
        byte[] buffer = new byte[ChunkBytes];
        while (size > 0)
        {
            int length = Next(address, size);
            read(address, buffer.AsSpan(0, length));
            await workers.RunAsync(() => WriteAll(file, buffer.AsSpan(0, length))).ConfigureAwait(true);
            await loop.SwitchTo();
            address += (ulong)length;
            size -= length;
        }
    }

    // No chunk crosses a page, since the next page may be elsewhere.
    private static int Next(ulong address, long size) => (int)Math.Min(size, ChunkBytes - (long)(address % ChunkBytes));

    private static SafeFd Open(string filename)
    {
        Errno errno = Libc.Open(filename, Libc.O_WRONLY | Libc.O_CREAT | Libc.O_TRUNC | Libc.O_CLOEXEC, 0x1b6, out SafeFd file);
        return errno == Errno.OK ? file : throw new QapiException($"Could not open '{filename}': {errno.Message()}");
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
