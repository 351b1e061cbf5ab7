using System.Globalization;
using Vmm.Qapi;

namespace Vmm.Dump.Qmp;

/// <summary>Dumps at the human monitor.</summary>
public sealed class DumpHmpCommands(DumpCommands dumps)
{
    /// <summary>Dumps the guest into a file.</summary>
    [HmpCommand(
        "dump-guest-memory",
        ArgsType = "paging:-p,detach:-d,windmp:-w,zlib:-z,lzo:-l,snappy:-s,raw:-R,filename:F,begin:l?,length:l?",
        Params = "[-p] [-d] [-R] [-z|-l|-s|-w] filename [begin length]",
        Help = "dump guest memory into file 'filename'.\n\t\t\t"
            + "-p: do paging to get guest's memory mapping.\n\t\t\t"
            + "-d: return immediately (do not wait for completion).\n\t\t\t"
            + "-R: with -z, -l or -s: not flattened.\n\t\t\t"
            + "-z: dump in kdump-compressed format, with zlib compression.\n\t\t\t"
            + "-l: dump in kdump-compressed format, with lzo compression.\n\t\t\t"
            + "-s: dump in kdump-compressed format, with snappy compression.\n\t\t\t"
            + "-w: dump in Windows crashdump format (can be used instead of ELF-dump converting),\n\t\t\t"
            + "    for Windows x64 guests with vmcoreinfo driver only.\n\t\t\t"
            + "begin: the starting physical address.\n\t\t\t"
            + "length: the memory size, in bytes.")]
    public ValueTask DumpGuestMemory(
        HmpContext context, bool paging, bool detach, bool windmp, bool zlib, bool lzo, bool snappy, bool raw, string filename, long? begin, long? length)
    {
        if ((windmp ? 1 : 0) + (zlib ? 1 : 0) + (lzo ? 1 : 0) + (snappy ? 1 : 0) > 1)
        {
            throw new QapiException("only one of '-z|-l|-s|-w' can be set");
        }

        DumpGuestMemoryFormat format =
            windmp && !raw ? DumpGuestMemoryFormat.WinDmp
            : zlib ? (raw ? DumpGuestMemoryFormat.KdumpRawZlib : DumpGuestMemoryFormat.KdumpZlib)
            : lzo ? (raw ? DumpGuestMemoryFormat.KdumpRawLzo : DumpGuestMemoryFormat.KdumpLzo)
            : snappy ? (raw ? DumpGuestMemoryFormat.KdumpRawSnappy : DumpGuestMemoryFormat.KdumpSnappy)
            : raw ? throw new QapiException("'-R' needs one of '-z|-l|-s'")
            : DumpGuestMemoryFormat.Elf;
        return dumps.DumpGuestMemory(paging, "file:" + filename, detach, begin, null, format, length, context.Session);
    }

    /// <summary>Shows how far the dump is that runs, or what became of the last one.</summary>
    [HmpCommand("info dump", Help = "Display the latest dump status")]
    public void InfoDump(HmpContext context)
    {
        DumpQueryResult result = dumps.QueryDump();
        context.PrintLine("Status: " + DumpStatusQapi.ToWire(result.Status));
        if (result.Status == DumpStatus.Active)
        {
            double percent = 100.0 * result.Completed / Math.Max(result.Total, 1);
            context.PrintLine(string.Create(CultureInfo.InvariantCulture, $"Finished: {percent:0.00} %"));
        }
    }
}
