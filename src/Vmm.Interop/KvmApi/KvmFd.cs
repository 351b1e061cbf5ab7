using System.Runtime.InteropServices;

namespace Vmm.Interop.KvmApi;

/// <summary>What the three kinds of KVM descriptors have in common.</summary>
public abstract unsafe class KvmFd : SafeFd
{
    private protected KvmFd(int fd)
        : base(fd)
    {
    }

    /// <summary>ioctl with an integer argument: the result, or -errno.</summary>
    internal int Ioctl(uint request, nint argument = 0) => Native.Check(Native.ioctl(Fd, request, argument));

    /// <summary>ioctl that fills a structure.</summary>
    internal Errno Get<T>(uint request, out T value)
        where T : unmanaged
    {
        value = default;
        fixed (T* p = &value)
        {
            return Native.CheckErrno(Native.ioctl(Fd, request, (nint)p));
        }
    }

    /// <summary>ioctl that reads a structure.</summary>
    internal Errno Set<T>(uint request, in T value)
        where T : unmanaged
    {
        fixed (T* p = &value)
        {
            return Native.CheckErrno(Native.ioctl(Fd, request, (nint)p));
        }
    }

    /// <summary>ioctl that reads and fills a structure.</summary>
    internal Errno Exchange<T>(uint request, ref T value)
        where T : unmanaged
    {
        fixed (T* p = &value)
        {
            return Native.CheckErrno(Native.ioctl(Fd, request, (nint)p));
        }
    }

    /// <summary>KVM_ENABLE_CAP.</summary>
    private protected Errno EnableCapCore(int capability, ReadOnlySpan<ulong> arguments)
    {
        KvmEnableCap value = new() { cap = (uint)capability };
        arguments.CopyTo(value.args);
        return Set(KvmIoctl.KVM_ENABLE_CAP, value);
    }

    /// <summary>KVM_GET_STATS_FD, read into the tables it describes.</summary>
    private protected Errno OpenStatsCore(out KvmStats? stats)
    {
        int fd = Ioctl(KvmIoctl.KVM_GET_STATS_FD);
        stats = null;
        return fd < 0 ? ErrnoText.FromResult(fd) : KvmStats.Open(new SafeFd(fd), out stats);
    }

    /// <summary>A 16-byte-or-smaller header and an array behind it, as KVM's variable-length structures are.</summary>
    private protected static void* AllocList(int headerSize, int elementSize, int count) =>
        NativeMemory.AllocZeroed((nuint)(headerSize + (long)elementSize * count));
}

/// <summary>/dev/kvm. Usable from any thread.</summary>
public sealed unsafe class KvmSystem : KvmFd
{
    private const int MaxCpuidEntries = 4096;
    private const int MaxMsrs = 65536;

    private KvmSystem(int fd)
        : base(fd)
    {
    }

    /// <summary>Opens /dev/kvm (or another path). ENOENT, EACCES, ENODEV.</summary>
    public static Errno Open(out KvmSystem? kvm, string path = "/dev/kvm")
    {
        Errno errno = Libc.Open(path, Libc.O_RDWR, out SafeFd file);
        kvm = errno == Errno.OK ? new KvmSystem(file.Detach()) : null;
        return errno;
    }

    /// <summary>Takes ownership of an open /dev/kvm.</summary>
    public static KvmSystem FromFd(SafeFd file) => new(file.Detach());

    /// <summary>KVM_GET_API_VERSION: 12, or -errno.</summary>
    public int ApiVersion() => Ioctl(KvmIoctl.KVM_GET_API_VERSION);

    /// <summary>KVM_CHECK_EXTENSION: 0 when absent, else 1 or a value that depends on the capability.</summary>
    public int CheckExtension(int capability) => Math.Max(0, Ioctl(KvmIoctl.KVM_CHECK_EXTENSION, capability));

    /// <summary>KVM_GET_VCPU_MMAP_SIZE: bytes, or -errno.</summary>
    public int VcpuMmapSize() => Ioctl(KvmIoctl.KVM_GET_VCPU_MMAP_SIZE);

    /// <summary>KVM_CREATE_VM (type 0 on x86). EINTR is retried.</summary>
    public Errno CreateVm(int type, out KvmVmFd? vm)
    {
        int fd;
        do
        {
            fd = Ioctl(KvmIoctl.KVM_CREATE_VM, type);
        }
        while (fd == -(int)Errno.EINTR);

        vm = fd < 0 ? null : new KvmVmFd(fd, VcpuMmapSize());
        return ErrnoText.FromResult(fd);
    }

    /// <summary>KVM_GET_SUPPORTED_CPUID: what host and KVM can offer a guest.</summary>
    public Errno GetSupportedCpuid(out KvmCpuidEntry2[] entries) => GetCpuid(KvmIoctl.KVM_GET_SUPPORTED_CPUID, out entries);

    /// <summary>KVM_GET_EMULATED_CPUID: features KVM emulates although the host lacks them.</summary>
    public Errno GetEmulatedCpuid(out KvmCpuidEntry2[] entries) => GetCpuid(KvmIoctl.KVM_GET_EMULATED_CPUID, out entries);

    /// <summary>KVM_GET_MSR_INDEX_LIST: MSRs to save and restore.</summary>
    public Errno GetMsrIndexList(out uint[] indices) => GetMsrList(KvmIoctl.KVM_GET_MSR_INDEX_LIST, out indices);

    /// <summary>KVM_GET_MSR_FEATURE_INDEX_LIST: MSRs that describe host features.</summary>
    public Errno GetMsrFeatureIndexList(out uint[] indices) => GetMsrList(KvmIoctl.KVM_GET_MSR_FEATURE_INDEX_LIST, out indices);

    /// <summary>Reads feature MSRs into the entries' data: the number read (it stops at the first unknown index), or -errno.</summary>
    public int GetFeatureMsrs(Span<KvmMsrEntry> entries) => KvmVcpuFd.TransferMsrs(this, KvmIoctl.KVM_GET_MSRS, entries, copyBack: true);

    /// <summary>KVM_X86_GET_MCE_CAP_SUPPORTED.</summary>
    public Errno GetMceCapabilities(out ulong capabilities) => Get(KvmIoctl.KVM_X86_GET_MCE_CAP_SUPPORTED, out capabilities);

    private Errno GetCpuid(uint request, out KvmCpuidEntry2[] entries)
    {
        for (int room = 128; ; room *= 2)
        {
            uint* list = (uint*)AllocList(8, sizeof(KvmCpuidEntry2), room);
            list[0] = (uint)room;
            Errno errno = Native.CheckErrno(Native.ioctl(Fd, request, (nint)list));
            entries = errno == Errno.OK ? new ReadOnlySpan<KvmCpuidEntry2>(list + 2, (int)Math.Min(list[0], (uint)room)).ToArray() : [];
            NativeMemory.Free(list);
            if (errno != Errno.E2BIG || room >= MaxCpuidEntries)
            {
                return errno;
            }
        }
    }

    private Errno GetMsrList(uint request, out uint[] indices)
    {
        uint wanted = 0;
        while (true)
        {
            uint* list = (uint*)AllocList(4, 4, (int)wanted);
            list[0] = wanted;
            Errno errno = Native.CheckErrno(Native.ioctl(Fd, request, (nint)list));
            uint reported = list[0];
            indices = errno == Errno.OK ? new ReadOnlySpan<uint>(list + 1, (int)Math.Min(reported, wanted)).ToArray() : [];
            NativeMemory.Free(list);
            if (errno != Errno.E2BIG || reported <= wanted || reported > MaxMsrs)
            {
                return errno;
            }

            wanted = reported;
        }
    }
}
