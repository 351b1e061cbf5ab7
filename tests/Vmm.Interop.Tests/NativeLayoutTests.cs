using System.Globalization;
using System.Reflection;
using System.Runtime.InteropServices;
using System.Text;
using Vmm.Interop.KvmApi;

namespace Vmm.Interop.Tests;

/// <summary>Every constant, ioctl number, size and offset, compared with what the C compiler says of the system's headers.</summary>
public sealed class NativeLayoutTests
{
    private const string Prologue = """
        #define _GNU_SOURCE
        #include <stdio.h>
        #include <stddef.h>
        #include <errno.h>
        #include <fcntl.h>
        #include <poll.h>
        #include <sched.h>
        #include <signal.h>
        #include <termios.h>
        #include <unistd.h>
        #include <netdb.h>
        #include <netinet/in.h>
        #include <netinet/tcp.h>
        #include <sys/epoll.h>
        #include <sys/file.h>
        #include <sys/ioctl.h>
        #include <sys/mman.h>
        #include <sys/prctl.h>
        #include <sys/socket.h>
        #include <sys/stat.h>
        #include <sys/timerfd.h>
        #include <sys/wait.h>
        #include <time.h>
        #include <linux/kvm.h>
        #include <linux/mempolicy.h>
        #define V(n, x) printf("%s %lld\n", n, (long long)(x));
        int main(void) {

        """;

    private static readonly (Type Type, string CName)[] s_structs =
    [
        (typeof(KvmRegs), "kvm_regs"), (typeof(KvmSegment), "kvm_segment"), (typeof(KvmDtable), "kvm_dtable"),
        (typeof(KvmSregs), "kvm_sregs"), (typeof(KvmSregs2), "kvm_sregs2"), (typeof(KvmFpu), "kvm_fpu"),
        (typeof(KvmMsrEntry), "kvm_msr_entry"), (typeof(KvmCpuidEntry2), "kvm_cpuid_entry2"),
        (typeof(KvmLapicState), "kvm_lapic_state"), (typeof(KvmMpState), "kvm_mp_state"), (typeof(KvmVcpuEvents), "kvm_vcpu_events"),
        (typeof(KvmDebugRegs), "kvm_debugregs"), (typeof(KvmXsave), "kvm_xsave"), (typeof(KvmXcr), "kvm_xcr"),
        (typeof(KvmXcrs), "kvm_xcrs"), (typeof(KvmTranslation), "kvm_translation"), (typeof(KvmGuestDebug), "kvm_guest_debug"),
        (typeof(KvmTprAccessCtl), "kvm_tpr_access_ctl"), (typeof(KvmX86Mce), "kvm_x86_mce"),
        (typeof(KvmUserspaceMemoryRegion), "kvm_userspace_memory_region"), (typeof(KvmPicState), "kvm_pic_state"),
        (typeof(KvmIoapicState), "kvm_ioapic_state"), (typeof(KvmIrqchip), "kvm_irqchip"), (typeof(KvmPitConfig), "kvm_pit_config"),
        (typeof(KvmPitChannelState), "kvm_pit_channel_state"), (typeof(KvmPitState2), "kvm_pit_state2"),
        (typeof(KvmReinjectControl), "kvm_reinject_control"), (typeof(KvmIrqLevel), "kvm_irq_level"),
        (typeof(KvmIrqRoutingEntry), "kvm_irq_routing_entry"), (typeof(KvmIrqfd), "kvm_irqfd"), (typeof(KvmIoeventfd), "kvm_ioeventfd"),
        (typeof(KvmEnableCap), "kvm_enable_cap"), (typeof(KvmMsi), "kvm_msi"), (typeof(KvmClockData), "kvm_clock_data"),
        (typeof(KvmDirtyLog), "kvm_dirty_log"), (typeof(KvmClearDirtyLog), "kvm_clear_dirty_log"),
        (typeof(KvmCreateDevice), "kvm_create_device"), (typeof(KvmDeviceAttr), "kvm_device_attr"), (typeof(KvmDirtyGfn), "kvm_dirty_gfn"),
        (typeof(KvmStatsHeader), "kvm_stats_header"), (typeof(FileStatus), "stat"), (typeof(PollFd), "pollfd"),
        (typeof(EpollEvent), "epoll_event"), (typeof(Termios), "termios"), (typeof(WinSize), "winsize"), (typeof(UCred), "ucred"),
        (typeof(FLock), "flock"), (typeof(MsgHdr), "msghdr"), (typeof(CMsgHdr), "cmsghdr"), (typeof(AddrInfo), "addrinfo"),
        (typeof(TimeSpec), "timespec"), (typeof(SigAction), "sigaction"),
    ];

    private static Dictionary<string, long>? s_native;

    [Test]
    public void Constants_are_those_of_the_headers()
    {
        Dictionary<string, long> native = NativeValues();
        List<string> wrong = [];
        int compared = 0;
        foreach ((string name, long value) in Constants())
        {
            if (native.TryGetValue("const." + name, out long expected))
            {
                compared++;
                if (expected != value)
                {
                    wrong.Add($"{name} is {value}, the header says {expected}");
                }
            }
        }

        Assert.That(wrong, Is.Empty);
        Assert.That(compared, Is.GreaterThan(500));
    }

    [Test]
    public void Structures_have_the_sizes_and_offsets_of_the_headers()
    {
        Dictionary<string, long> native = NativeValues();
        List<string> wrong = [];
        foreach ((Type type, string cName) in s_structs)
        {
            long size = SizeOf(type);
            if (native["size." + cName] != size)
            {
                wrong.Add($"sizeof {cName} is {native["size." + cName]}, ours {size}");
            }

            foreach ((string field, string _) in Fields(type))
            {
                long offset = Marshal.OffsetOf(type, field);
                if (native[$"offset.{cName}.{field}"] != offset)
                {
                    wrong.Add($"offset of {cName}.{field} is {native[$"offset.{cName}.{field}"]}, ours {offset}");
                }
            }
        }

        Assert.That(wrong, Is.Empty);
    }

    [Test]
    public void Kvm_run_accessors_read_where_the_header_says()
    {
        Dictionary<string, long> native = NativeValues();
        Assert.Multiple(() =>
        {
            Assert.That(native["run.size"], Is.EqualTo(KvmRun.MinimumSize));
            Assert.That(native["run.request_interrupt_window"], Is.EqualTo(0));
            Assert.That(native["run.immediate_exit"], Is.EqualTo(1));
            Assert.That(native["run.exit_reason"], Is.EqualTo(8));
            Assert.That(native["run.ready_for_interrupt_injection"], Is.EqualTo(12));
            Assert.That(native["run.if_flag"], Is.EqualTo(13));
            Assert.That(native["run.flags"], Is.EqualTo(14));
            Assert.That(native["run.cr8"], Is.EqualTo(16));
            Assert.That(native["run.apic_base"], Is.EqualTo(24));
            Assert.That(native["run.io.direction"], Is.EqualTo(32));
            Assert.That(native["run.io.size"], Is.EqualTo(33));
            Assert.That(native["run.io.port"], Is.EqualTo(34));
            Assert.That(native["run.io.count"], Is.EqualTo(36));
            Assert.That(native["run.io.data_offset"], Is.EqualTo(40));
            Assert.That(native["run.mmio.phys_addr"], Is.EqualTo(32));
            Assert.That(native["run.mmio.data"], Is.EqualTo(40));
            Assert.That(native["run.mmio.len"], Is.EqualTo(48));
            Assert.That(native["run.mmio.is_write"], Is.EqualTo(52));
            Assert.That(native["run.fail_entry.cpu"], Is.EqualTo(40));
            Assert.That(native["run.hypercall.args"], Is.EqualTo(40));
            Assert.That(native["run.hypercall.ret"], Is.EqualTo(88));
            Assert.That(native["run.tpr_access.is_write"], Is.EqualTo(40));
            Assert.That(native["run.internal.ndata"], Is.EqualTo(36));
            Assert.That(native["run.internal.data"], Is.EqualTo(40));
            Assert.That(native["run.system_event.type"], Is.EqualTo(32));
            Assert.That(native["run.system_event.data"], Is.EqualTo(40));
            Assert.That(native["run.msr.reason"], Is.EqualTo(40));
            Assert.That(native["run.msr.index"], Is.EqualTo(44));
            Assert.That(native["run.msr.data"], Is.EqualTo(48));
            Assert.That(native["run.debug.arch.pc"], Is.EqualTo(40));
            Assert.That(native["run.debug.arch.dr7"], Is.EqualTo(56));
        });
    }

    private static IEnumerable<(string Name, long Value)> Constants()
    {
        foreach (Type type in (Type[])[typeof(Libc), typeof(KvmUapi), typeof(KvmIoctl)])
        {
            foreach (FieldInfo field in type.GetFields(BindingFlags.Static | BindingFlags.Public | BindingFlags.NonPublic))
            {
                if (field.IsLiteral && field.Name.Contains('_', StringComparison.Ordinal))
                {
                    yield return (field.Name, Convert.ToInt64(field.GetRawConstantValue(), CultureInfo.InvariantCulture));
                }
            }
        }

        foreach (Errno errno in Enum.GetValues<Errno>())
        {
            if (errno != Errno.OK)
            {
                yield return (errno.Name()!, (long)errno);
            }
        }
    }

    private static IEnumerable<(string Field, string CField)> Fields(Type type)
    {
        foreach (FieldInfo field in type.GetFields(BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic))
        {
            if (field.Name[0] == '_' || type == typeof(KvmLapicState) || type == typeof(KvmXsave))
            {
                continue;
            }

            string cField = field.Name;
            if (type == typeof(KvmVcpuEvents))
            {
                foreach (string group in (string[])["exception", "interrupt", "nmi", "smi", "triple_fault"])
                {
                    bool isTail = cField is "exception_has_payload" or "exception_payload";
                    if (cField.StartsWith(group + "_", StringComparison.Ordinal) && !isTail)
                    {
                        cField = group + "." + cField[(group.Length + 1)..];
                        break;
                    }
                }
            }
            else if (type == typeof(KvmIrqRoutingEntry))
            {
                cField = cField is "irqchip" or "pin" ? "u.irqchip." + cField
                    : cField.StartsWith("msi_", StringComparison.Ordinal) ? "u.msi." + cField[4..] : cField;
            }
            else if (type == typeof(KvmIrqchip) && cField != "chip_id")
            {
                cField = "chip." + cField;
            }
            else if (type == typeof(KvmGuestDebug) && cField == "debugreg")
            {
                cField = "arch.debugreg";
            }
            else if (type == typeof(SigAction) && cField == "sa_handler")
            {
                cField = "__sigaction_handler";
            }

            yield return (field.Name, cField);
        }
    }

    private static long SizeOf(Type type) =>
        (int)typeof(System.Runtime.CompilerServices.Unsafe).GetMethod("SizeOf")!.MakeGenericMethod(type).Invoke(null, null)!;

    private static Dictionary<string, long> NativeValues()
    {
        if (s_native is not null)
        {
            return s_native;
        }

        if (Libc.Access("/usr/bin/gcc", Libc.X_OK) != Errno.OK || Libc.Access("/usr/include/linux/kvm.h", Libc.R_OK) != Errno.OK)
        {
            Assert.Ignore("needs gcc and the kernel's headers to compare with");
        }

        StringBuilder source = new(Prologue);
        foreach ((string name, long _) in Constants())
        {
            source.Append(CultureInfo.InvariantCulture, $"#ifdef {name}\nV(\"const.{name}\", {name})\n#endif\n");
        }

        foreach ((Type type, string cName) in s_structs)
        {
            source.Append(CultureInfo.InvariantCulture, $"V(\"size.{cName}\", sizeof(struct {cName}))\n");
            foreach ((string field, string cField) in Fields(type))
            {
                source.Append(CultureInfo.InvariantCulture, $"V(\"offset.{cName}.{field}\", offsetof(struct {cName}, {cField}))\n");
            }
        }

        source.Append("V(\"run.size\", sizeof(struct kvm_run))\n");
        foreach (string field in (string[])[
            "request_interrupt_window", "immediate_exit", "exit_reason", "ready_for_interrupt_injection", "if_flag", "flags", "cr8",
            "apic_base", "io.direction", "io.size", "io.port", "io.count", "io.data_offset", "mmio.phys_addr", "mmio.data", "mmio.len",
            "mmio.is_write", "fail_entry.cpu", "hypercall.args", "hypercall.ret", "tpr_access.is_write", "internal.ndata",
            "internal.data", "system_event.type", "system_event.data", "msr.reason", "msr.index", "msr.data", "debug.arch.pc",
            "debug.arch.dr7"])
        {
            source.Append(CultureInfo.InvariantCulture, $"V(\"run.{field}\", offsetof(struct kvm_run, {field}))\n");
        }

        source.Append("return 0; }\n");
        string directory = Directory.CreateTempSubdirectory("vmm-layout-").FullName;
        try
        {
            string c = Path.Combine(directory, "layout.c");
            string exe = Path.Combine(directory, "layout");
            File.WriteAllText(c, source.ToString());
            Assert.That(TestProcess.Run("/usr/bin/gcc", ["gcc", "-w", "-O0", "-o", exe, c]).Status, Is.EqualTo(0));
            (int? status, string output) = TestProcess.Run(exe, [exe]);
            Assert.That(status, Is.EqualTo(0));
            Dictionary<string, long> values = [];
            foreach (string line in output.Split('\n', StringSplitOptions.RemoveEmptyEntries))
            {
                int blank = line.LastIndexOf(' ');
                values[line[..blank]] = long.Parse(line[(blank + 1)..], CultureInfo.InvariantCulture);
            }

            return s_native = values;
        }
        finally
        {
            Directory.Delete(directory, recursive: true);
        }
    }
}
