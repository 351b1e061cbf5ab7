using System.Buffers.Binary;
using System.Runtime.InteropServices;
using Vmm.Interop;
using Vmm.Interop.KvmApi;
using Vmm.Memory;
using Vmm.ObjectModel.Accel;

namespace Vmm.Kvm;

/// <content>The run loop: one entry into the guest, and what its exit asks for. Nothing here allocates for I/O.</content>
public sealed partial class KvmVcpu
{
    private void Step()
    {
        switch (_accelerator.Irqchip)
        {
            case KernelIrqchipMode.Off when !PrepareUserInterrupts():
                return;
            case KernelIrqchipMode.Split when Index == 0 && _accelerator.ExternalInterrupts is { } source:
                OfferExternalInterrupt(source);
                break;
        }

        _ioInFlight = false;
        int result = _fd.Enter();
        if (result == 0)
        {
            HandleExit();
            return;
        }

        if (result == -(int)Errno.EINTR || result == -(int)Errno.EAGAIN)
        {
            // The order matters: whoever sets the flag has raised attention before.
            _run.ImmediateExit = false;
            Interlocked.MemoryBarrier();
            return;
        }

        Fail($"error: kvm run failed {((Errno)(-result)).Message()}\n");
    }

    private void HandleExit()
    {
        _exits++;
        switch (_run.ExitReason)
        {
            case KvmUapi.KVM_EXIT_IO:
                HandlePortIo();
                _ioInFlight = true;
                break;
            case KvmUapi.KVM_EXIT_MMIO:
                HandleMmio();
                _ioInFlight = true;
                break;
            case KvmUapi.KVM_EXIT_IRQ_WINDOW_OPEN:
            case KvmUapi.KVM_EXIT_INTR:
                break;
            case KvmUapi.KVM_EXIT_HLT:
                Volatile.Write(ref _halted, true);
                break;
            case KvmUapi.KVM_EXIT_SHUTDOWN:
                StopHere();
                _accelerator.Events.GuestReset();
                break;
            case KvmUapi.KVM_EXIT_SYSTEM_EVENT:
                HandleSystemEvent();
                break;
            case KvmUapi.KVM_EXIT_IOAPIC_EOI:
                HandleIoapicEoi();
                break;
            case KvmUapi.KVM_EXIT_SET_TPR:
                break;
            case KvmUapi.KVM_EXIT_FAIL_ENTRY:
                Fail($"KVM: entry failed, hardware error 0x{_run.FailEntryReason:x}\n");
                break;
            case KvmUapi.KVM_EXIT_INTERNAL_ERROR:
                HandleInternalError();
                break;
            case KvmUapi.KVM_EXIT_DIRTY_RING_FULL:
                _accelerator.MachineLock.Enter();
                _accelerator.CollectDirtyRings();
                _accelerator.MachineLock.Exit();
                break;
            case KvmUapi.KVM_EXIT_NOTIFY:
                HandleNotify();
                break;
            case KvmUapi.KVM_EXIT_X86_RDMSR:
            case KvmUapi.KVM_EXIT_X86_WRMSR:
                _run.MsrError = true;
                _ioInFlight = true;
                break;
            case KvmUapi.KVM_EXIT_UNKNOWN:
                Fail($"KVM: unknown exit, hardware reason {_run.HardwareExitReason:x}\n");
                break;
            default:
                Fail($"KVM: unknown exit reason {_run.ExitReason}\n");
                break;
        }
    }

    private void HandlePortIo()
    {
        int size = _run.IoSize;
        int count = _run.IoCount;
        ulong port = _run.IoPort;
        AddressSpace ports = _accelerator.Ports;
        Span<byte> data = _run.IoData;
        bool isOut = _run.IoIsOut;
        for (int i = 0; i < count; i++)
        {
            Span<byte> element = data.Slice(i * size, size);
            if (isOut)
            {
                uint value = size switch
                {
                    1 => element[0],
                    2 => BinaryPrimitives.ReadUInt16LittleEndian(element),
                    _ => BinaryPrimitives.ReadUInt32LittleEndian(element),
                };
                ports.WriteValue(port, value, size, ref _portCache);
            }
            else
            {
                ulong value = ports.ReadValue(port, size, ref _portCache);
                switch (size)
                {
                    case 1:
                        element[0] = (byte)value;
                        break;
                    case 2:
                        BinaryPrimitives.WriteUInt16LittleEndian(element, (ushort)value);
                        break;
                    default:
                        BinaryPrimitives.WriteUInt32LittleEndian(element, (uint)value);
                        break;
                }
            }
        }
    }

    private void HandleMmio()
    {
        AddressSpace memory = _accelerator.Memory;
        ulong address = _run.MmioAddress;
        int length = _run.MmioLength;
        if (length is 1 or 2 or 4 or 8)
        {
            if (_run.MmioIsWrite)
            {
                memory.WriteValue(address, _run.MmioValue, length, ref _memoryCache);
            }
            else
            {
                _run.MmioValue = memory.ReadValue(address, length, ref _memoryCache);
            }
        }
        else if (_run.MmioIsWrite)
        {
            memory.Write(address, _run.MmioData, ref _memoryCache);
        }
        else
        {
            memory.Read(address, _run.MmioData, ref _memoryCache);
        }
    }

    private void HandleSystemEvent()
    {
        switch (_run.SystemEventType)
        {
            case KvmUapi.KVM_SYSTEM_EVENT_SHUTDOWN:
                StopHere();
                _accelerator.Events.GuestShutdown();
                break;
            case KvmUapi.KVM_SYSTEM_EVENT_RESET:
                StopHere();
                _accelerator.Events.GuestReset();
                break;
            case KvmUapi.KVM_SYSTEM_EVENT_CRASH:
                _accelerator.Events.GuestPanicked();
                break;
            default:
                Fail($"KVM: unknown system event {_run.SystemEventType}\n");
                break;
        }
    }

    private void HandleIoapicEoi()
    {
        if (_accelerator.IoapicEoi is { } eoi)
        {
            byte vector = _run.EoiVector;
            _accelerator.MachineLock.Enter();
            try
            {
                eoi(vector);
            }
            finally
            {
                _accelerator.MachineLock.Exit();
            }
        }
    }

    private void HandleInternalError()
    {
        uint suberror = _run.InternalErrorSuberror;
        var text = new global::System.Text.StringBuilder();
        text.Append($"KVM internal error. Suberror: {suberror}\n");
        int index = 0;
        foreach (ulong word in _run.InternalErrorData)
        {
            text.Append($"extra data[{index++}]: 0x{word:x16}\n");
        }

        if (suberror == KvmUapi.KVM_INTERNAL_ERROR_EMULATION)
        {
            text.Append("emulation failure\n");

            // What user code does wrong is between it and the guest's kernel: the kernel got an exception, the machine goes on.
            if (_fd.GetSregs(out KvmSregs sregs) == Errno.OK && (sregs.cr0 & 1) != 0 && (sregs.cs.selector & 3) == 3)
            {
                text.Append(DumpForCrash());
                _accelerator.Events.Report(text.ToString());
                return;
            }
        }

        Fail(text.ToString());
    }

    private void HandleNotify()
    {
        bool invalid = (_run.NotifyFlags & KvmUapi.KVM_NOTIFY_CONTEXT_INVALID) != 0;
        string text = invalid
            ? "KVM: encounter a notify exit with invalid context in guest. There can be possible misbehaves in guest."
              + " Please have a look.\n"
            : "KVM: encounter a notify exit with valid context in guest. It could cause by guest's misbehaves.\n";
        if (invalid || _accelerator.Options.NotifyVmExit == NotifyVmExit.InternalError)
        {
            Fail(text);
        }
        else
        {
            _accelerator.Events.Report(text);
        }
    }

    /// <summary>The vCPU cannot go on: tell what is known and stop the machine with an internal error.</summary>
    private void Fail(string text)
    {
        StopHere();
        _accelerator.Events.Report(text + DumpForCrash());
        _accelerator.Events.InternalError();
    }

    private string DumpForCrash()
    {
        CpuArchState state = ReadState();
        AddressSpace memory = _accelerator.Memory;
        var text = new global::System.Text.StringBuilder();
        CpuDump.WriteRegisters(text, state, fpu: false);
        CpuDump.WriteCode(text, state, at => ReadCode(state, memory, at));
        return text.ToString();
    }

    private static int ReadCode(CpuArchState state, AddressSpace memory, ulong linear)
    {
        // Addresses do not wrap at 4 GiB here: what lies behind the reset vector is shown as missing.
        ulong physical = linear;
        Span<byte> one = stackalloc byte[1];
        bool there = PageTables.ModeOf(state) == PageTables.Mode.None || PageTables.TryTranslate(state, memory, linear, out physical);
        return there && memory.Read(physical, one) == MemTxResult.Ok ? one[0] : -1;
    }

    /// <summary>
    /// With the local APIC in the kernel and the 8259s here: hands over a vector when LINT0 takes one, and asks to be told when it does. The
    /// kernel itself waits in HLT.
    /// </summary>
    private void OfferExternalInterrupt(IExternalInterrupts source)
    {
        if (source.IsPending && _run.ReadyForInterruptInjection && _run.IfFlag)
        {
            _accelerator.MachineLock.Enter();
            try
            {
                if (source.IsPending)
                {
                    _ = _fd.Interrupt(source.Acknowledge());
                }
            }
            finally
            {
                _accelerator.MachineLock.Exit();
            }
        }

        _run.RequestInterruptWindow = source.IsPending;
    }

    /// <summary>
    /// Without controllers in the kernel: waits while the guest is halted, and injects what the machine's controller has. False to look at
    /// requests first.
    /// </summary>
    private bool PrepareUserInterrupts()
    {
        IExternalInterrupts? source = Index == 0 ? _accelerator.ExternalInterrupts : null;
        bool pending = source?.IsPending == true;
        if (Volatile.Read(ref _halted))
        {
            using (_gate.Hold())
            {
                while (!pending && Volatile.Read(ref _attention) == 0)
                {
                    _gate.Wait();
                    pending = source?.IsPending == true;
                }
            }

            if (!pending)
            {
                return false;
            }
        }

        _run.RequestInterruptWindow = false;
        if (!pending)
        {
            return true;
        }

        if (_run.ReadyForInterruptInjection && _run.IfFlag)
        {
            Volatile.Write(ref _halted, false);
            _accelerator.MachineLock.Enter();
            byte vector;
            try
            {
                if (!source!.IsPending)
                {
                    return true;
                }

                vector = source.Acknowledge();
            }
            finally
            {
                _accelerator.MachineLock.Exit();
            }

            _ = _fd.Interrupt(vector);
            pending = source.IsPending;
        }
        else if (Volatile.Read(ref _halted))
        {
            // Halted with interrupts off: only an NMI or a reset ends that.
            using (_gate.Hold())
            {
                if (Volatile.Read(ref _attention) == 0)
                {
                    _gate.Wait();
                }
            }

            return false;
        }

        _run.RequestInterruptWindow = pending;
        return true;
    }

    private void InjectNmiHere()
    {
        if (_accelerator.Irqchip == KernelIrqchipMode.Off)
        {
            Volatile.Write(ref _halted, false);
            _ = _fd.Nmi();
            return;
        }

        // As the wire to LINT1 would: the local APIC decides whether it becomes an NMI.
        if (_fd.GetLapic(out KvmLapicState lapic) != Errno.OK)
        {
            return;
        }

        ReadOnlySpan<byte> registers = lapic;
        uint lint1 = MemoryMarshal.Read<uint>(registers[0x360..]);
        const uint maskedBit = 1 << 16;
        const uint deliveryModeMask = 7 << 8;
        const uint deliveryNmi = 4 << 8;
        if ((lint1 & maskedBit) == 0 && (lint1 & deliveryModeMask) == deliveryNmi)
        {
            _ = _fd.Nmi();
        }
    }
}
