using Vmm.Dump.Guest;
using Vmm.Dump.Kdump;
using Vmm.Interop;
using Vmm.ObjectModel.Accel;

namespace Vmm.Dump.Tests;

/// <summary>Makes dumps as the commands do, without a machine.</summary>
internal static class Dumps
{
    public static CpuArchState LongMode => new() { Efer = 0x500, Cr0 = 0x8005_0033, Cr4 = 0x20 };

    public static CpuArchState RealMode => new() { Cr0 = 0x6000_0010 };

    /// <summary>A dump into a file of its own; its bytes.</summary>
    public static byte[] ToFile(GuestMemoryMap memory, KdumpCompression? compression = null, bool isFlat = false, (long, long)? window = null,
        bool isPaging = false, int threads = 3, params CpuArchState[] cpus)
    {
        string path = Path.GetTempFileName();
        try
        {
            string? error = Write(Open(path), memory, compression, isFlat, window, isPaging, threads, cpus);
            Assert.That(error, Is.Null);
            return File.ReadAllBytes(path);
        }
        finally
        {
            File.Delete(path);
        }
    }

    /// <summary>Writes a dump; why it failed.</summary>
    public static string? Write(SafeFd target, GuestMemoryMap memory, KdumpCompression? compression = null, bool isFlat = false,
        (long Begin, long Length)? window = null, bool isPaging = false, int threads = 3, params CpuArchState[] cpus)
    {
        DumpRequest request = new() { File = target, Compression = compression, IsFlat = isFlat, Window = window, IsPaging = isPaging };
        DumpPlan plan = DumpPlan.Of(request, memory, cpus.Length == 0 ? [RealMode] : cpus, null, threads);
        string? error = plan.Write(target);
        Assert.That(plan.Progress.Completed, error is null ? Is.EqualTo(plan.Progress.Total) : Is.LessThanOrEqualTo(plan.Progress.Total));
        return error;
    }

    public static SafeFd Open(string path, int flags = 0)
    {
        Errno errno = Libc.Open(path, Libc.O_RDWR | flags, out SafeFd file);
        return errno == Errno.OK ? file : throw new IOException(errno.ToString());
    }
}
