using Vmm.Dump.Kdump;
using Vmm.EventLoop;
using Vmm.Interop;
using Vmm.ObjectModel.Run;
using Vmm.ObjectModel.Sockets;
using Vmm.Qapi;
using Vmm.Qapi.Types;

namespace Vmm.Dump.Qmp;

/// <summary>Commands that dump the guest.</summary>
/// <param name="dumper">Makes dumps.</param>
/// <param name="run">Run state of the machine.</param>
/// <param name="workers">Where files are opened that may keep the opener waiting.</param>
public sealed class DumpCommands(GuestDumper dumper, RunControl run, WorkerPool workers)
{
    private const string FilePrefix = "file:";
    private const string FdPrefix = "fd:";

    // Only the owner reads what is the memory of a guest.
    private const int FileMode = 0x100;

    /// <summary>Writes the guest's memory and processors to a file for a debugger.</summary>
    /// <param name="paging">Core files: list memory as the guest's page tables map it.</param>
    /// <param name="protocol"><c>file:</c> and a name, or <c>fd:</c> and the name of a descriptor that was passed.</param>
    /// <param name="detach">Answer at once and go on in the background.</param>
    /// <param name="begin">Core files: first guest-physical address.</param>
    /// <param name="end">Core files: first guest-physical address not to dump, as the interface's first version had it.</param>
    /// <param name="format">Format; a core file by default.</param>
    /// <param name="length">Core files: bytes of guest-physical addresses.</param>
    /// <param name="session">The monitor, which has the descriptors.</param>
    [QmpCommand("dump-guest-memory", ArgsType = "paging:b,protocol:s,detach:b?,begin:i?,end:i?,format:s?,length:i?", Since = "1.2")]
    public async ValueTask DumpGuestMemory(
        bool paging, string protocol, bool? detach, long? begin, long? end, DumpGuestMemoryFormat? format, long? length, IMonitorSession session)
    {
        if (run.State == RunState.Inmigrate)
        {
            throw new QapiException("Dump not allowed during incoming migration.");
        }

        ThrowIfBusy();
        DumpGuestMemoryFormat wanted = format ?? DumpGuestMemoryFormat.Elf;
        if (wanted != DumpGuestMemoryFormat.Elf && (paging || begin is not null || length is not null || end is not null))
        {
            throw new QapiException("kdump-compressed format doesn't support paging or filter");
        }

        if (end is not null && length is null)
        {
            length = begin is { } from ? end - from : null;
        }
        else if (end is not null)
        {
            throw new QapiException("Parameters 'end' and 'length' cannot be used together");
        }

        if (begin is null != length is null)
        {
            throw QapiException.MissingParameter(begin is null ? "begin" : "length");
        }

        KdumpCompression? compression = CompressionOf(wanted);
        if (compression is { } library && !PageCompressor.IsAvailable(library))
        {
            throw new QapiException($"{DumpGuestMemoryFormatQapi.ToWire(wanted)} is not available now");
        }

        SafeFd file = await Open(protocol, session).ConfigureAwait(true);
        Task dump;
        try
        {
            // Opening may have taken its time.
            ThrowIfBusy();
            bool isFlat = wanted is not (DumpGuestMemoryFormat.KdumpRawZlib or DumpGuestMemoryFormat.KdumpRawLzo or DumpGuestMemoryFormat.KdumpRawSnappy);
            if (!isFlat && Libc.LSeek(file.Fd, 0, Libc.SEEK_CUR) < 0)
            {
                throw new QapiException("kdump-raw formats require a seekable file");
            }

            dump = await dumper.Start(new DumpRequest
            {
                File = file,
                IsPaging = paging,
                Window = begin is { } first && length is { } bytes ? (first, bytes) : null,
                IsWindows = wanted == DumpGuestMemoryFormat.WinDmp,
                Compression = compression,
                IsFlat = isFlat,
            }).ConfigureAwait(true);
        }
        catch
        {
            file.Dispose();
            throw;
        }

        if (detach != true)
        {
            await dump.ConfigureAwait(true);
        }
    }

    /// <summary>Tells how far the dump is that runs, or what became of the last one.</summary>
    [QmpCommand("query-dump", Since = "2.6")]
    public DumpQueryResult QueryDump() => dumper.Query();

    /// <summary>Tells which formats there are: those whose libraries the system has.</summary>
    [QmpCommand("query-dump-guest-memory-capability", Since = "2.0")]
    public DumpGuestMemoryCapability QueryDumpGuestMemoryCapability() => new()
    {
        Formats = [.. Enum.GetValues<DumpGuestMemoryFormat>().Where(static f => CompressionOf(f) is not { } c || PageCompressor.IsAvailable(c))],
    };

    private static KdumpCompression? CompressionOf(DumpGuestMemoryFormat format) => format switch
    {
        DumpGuestMemoryFormat.KdumpZlib or DumpGuestMemoryFormat.KdumpRawZlib => KdumpCompression.Zlib,
        DumpGuestMemoryFormat.KdumpLzo or DumpGuestMemoryFormat.KdumpRawLzo => KdumpCompression.Lzo,
        DumpGuestMemoryFormat.KdumpSnappy or DumpGuestMemoryFormat.KdumpRawSnappy => KdumpCompression.Snappy,
        _ => null,
    };

    private void ThrowIfBusy()
    {
        if (dumper.IsActive)
        {
            throw new QapiException(GuestDumper.BusyText);
        }
    }

    private async ValueTask<SafeFd> Open(string protocol, IMonitorSession session)
    {
        if (protocol.StartsWith(FdPrefix, StringComparison.Ordinal))
        {
            return SocketEndpoints.FindFd(session, protocol[FdPrefix.Length..]);
        }

        if (!protocol.StartsWith(FilePrefix, StringComparison.Ordinal))
        {
            throw QapiException.InvalidParameter("protocol");
        }

        string name = protocol[FilePrefix.Length..];

        // A FIFO keeps its opener waiting for a reader.
        return Libc.Stat(name, out FileStatus status) == Errno.OK && status.IsFifo
            ? await workers.RunAsync(() => Open(name)).ConfigureAwait(true)
            : Open(name);
    }

    private static SafeFd Open(string name)
    {
        Errno errno = Libc.Open(name, Libc.O_WRONLY | Libc.O_CREAT | Libc.O_TRUNC | Libc.O_CLOEXEC, FileMode, out SafeFd file);
        return errno == Errno.OK ? file : throw new QapiException($"Could not open '{name}': {errno.Message()}");
    }
}
