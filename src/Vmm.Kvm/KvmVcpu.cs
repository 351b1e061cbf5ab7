using Vmm.Interop;
using Vmm.Interop.KvmApi;
using Vmm.Memory;
using Vmm.ObjectModel.Accel;

namespace Vmm.Kvm;

/// <summary>
/// A vCPU and its thread "CPU n/KVM". The thread owns the KVM descriptor; others hand it work, which it does outside guest mode after it
/// has completed the I/O instruction that is in flight. Stopping, resuming and work are serialised by the vCPU's gate, which is never held
/// while guest accesses are dispatched.
/// </summary>
public sealed partial class KvmVcpu : IVcpu
{
    private readonly KvmAccelerator _accelerator;
    private readonly KvmVcpuFd _fd;
    private readonly KvmRun _run;
    private readonly VcpuSetup _setup;
    private readonly VcpuGate _gate = new();
    private readonly Queue<WorkItem> _work = new();
    private readonly Thread _thread;

    // Under the gate; _attention is read without it and tells the thread to look at the others.
    private int _attention = 1;
    private bool _stopRequested = true;
    private bool _stopped;
    private bool _exitRequested;
    private bool _finished;

    // Of the vCPU thread.
    private bool _ioInFlight;
    private bool _halted;
    private LookupCache _portCache;
    private LookupCache _memoryCache;
    private ulong _exits;
    private int _threadId;

    internal KvmVcpu(KvmAccelerator accelerator, KvmVcpuFd fd, VcpuSetup setup)
    {
        _accelerator = accelerator;
        _fd = fd;
        _run = fd.Run;
        _setup = setup;
        _thread = new Thread(ThreadMain, 512 * 1024) { IsBackground = true };
    }

    /// <inheritdoc/>
    public int Index => _setup.Index;

    /// <inheritdoc/>
    public uint ApicId => _setup.ApicId;

    /// <inheritdoc/>
    public int ThreadId => Volatile.Read(ref _threadId);

    /// <summary>The CPU model that the vCPU was made from.</summary>
    public ICpuModel Model => _setup.Model;

    /// <summary>Exits to user space so far.</summary>
    public ulong Exits => Volatile.Read(ref _exits);

    /// <summary>The KVM descriptor; its ioctls belong to the vCPU thread (<see cref="RunOnVcpu"/>).</summary>
    public KvmVcpuFd Fd => _fd;

    /// <inheritdoc/>
    public bool IsHalted
    {
        get
        {
            if (_accelerator.Irqchip == KernelIrqchipMode.Off)
            {
                return Volatile.Read(ref _halted);
            }

            KvmMpState state = default;
            RunOnVcpu(() => _ = _fd.GetMpState(out state));
            return state.mp_state is not (KvmUapi.KVM_MP_STATE_RUNNABLE or KvmUapi.KVM_MP_STATE_SIPI_RECEIVED);
        }
    }

    /// <summary>Dirty pages of this vCPU; null when bitmaps are used.</summary>
    internal KvmDirtyRing? DirtyRing { get; private set; }

    /// <summary>Set when the VM's clock was stopped: the guest is told before it runs on.</summary>
    internal bool TellClockStopped { get; set; }

    /// <inheritdoc/>
    public void RunOnVcpu(Action work)
    {
        if (Thread.CurrentThread == _thread)
        {
            work();
            return;
        }

        var item = new WorkItem(work);
        using (_gate.Hold())
        {
            if (_finished)
            {
                return;
            }

            _work.Enqueue(item);
            Alert();
        }

        _accelerator.ReleaseLockAnd((this, item), static s => s.Item1.WaitFor(s.item));
        item.Failure?.Throw();
    }

    /// <inheritdoc/>
    public void InjectNmi() => RunOnVcpu(InjectNmiHere);

    /// <summary>True on this vCPU's own thread.</summary>
    internal bool IsCurrent => Thread.CurrentThread == _thread;

    internal void Start()
    {
        _thread.Start();
        using (_gate.Hold())
        {
            while (_threadId == 0)
            {
                _gate.Wait();
            }
        }
    }

    internal void RequestStop()
    {
        using (_gate.Hold())
        {
            if (!_stopRequested)
            {
                _stopRequested = true;
                Alert();
            }
        }
    }

    internal void WaitStopped()
    {
        using (_gate.Hold())
        {
            while (!_stopped && !_finished)
            {
                _gate.Wait();
            }
        }
    }

    internal void Resume()
    {
        using (_gate.Hold())
        {
            _stopRequested = false;
            _gate.NotifyAll();
        }
    }

    internal void RequestExit()
    {
        using (_gate.Hold())
        {
            _exitRequested = true;
            Alert();
        }
    }

    /// <summary>Waits for the thread to end. The descriptor stays open.</summary>
    internal void Join()
    {
        using (_gate.Hold())
        {
            while (!_finished)
            {
                _gate.Wait();
            }
        }

        _thread.Join();
        DirtyRing?.Dispose();
    }

    /// <summary>Makes a vCPU look at its external interrupt line (no 8259 in the kernel), also out of HLT. Any thread.</summary>
    internal void KickForInterrupt()
    {
        if (IsCurrent)
        {
            // It looks before it enters the guest again.
            return;
        }

        using (_gate.Hold())
        {
            Alert();
        }
    }

    /// <summary>Under the gate: makes the thread look at its requests, wherever it is.</summary>
    private void Alert()
    {
        Volatile.Write(ref _attention, 1);
        _gate.NotifyAll();
        if (!_stopped && _threadId != 0 && Thread.CurrentThread != _thread)
        {
            _ = _run.RequestImmediateExit(_threadId);
        }
    }

    private void WaitFor(WorkItem item)
    {
        using (_gate.Hold())
        {
            while (!item.Done)
            {
                _gate.Wait();
            }
        }
    }

    private void ThreadMain()
    {
        Threads.SetDebugName($"CPU {Index}/KVM");
        _ = Signals.Unblock([Signals.Kick]);
        using (_gate.Hold())
        {
            Volatile.Write(ref _threadId, Threads.Gettid());
            _gate.NotifyAll();
        }

        try
        {
            while (Volatile.Read(ref _attention) == 0 || HandleRequests())
            {
                Step();
            }
        }
        catch (Exception e)
        {
            Environment.FailFast($"CPU {Index}/KVM: {e}", e);
        }
    }

    /// <summary>Does what others asked for; false when the thread is to end.</summary>
    private bool HandleRequests()
    {
        CompleteIo();
        using (_gate.Hold())
        {
            while (true)
            {
                if (_work.TryDequeue(out WorkItem? item))
                {
                    Run(item);
                }
                else if (_exitRequested)
                {
                    _finished = true;
                    _stopped = true;
                    _gate.NotifyAll();
                    return false;
                }
                else if (_stopRequested)
                {
                    if (!_stopped)
                    {
                        _stopped = true;
                        _gate.NotifyAll();
                    }

                    _gate.Wait();
                }
                else
                {
                    break;
                }
            }

            // Kicks are sent under the gate: what they were for is done, and a later one is not lost here.
            _stopped = false;
            _run.ImmediateExit = false;
            Volatile.Write(ref _attention, 0);
        }

        if (TellClockStopped)
        {
            TellClockStopped = false;
            _ = _fd.KvmclockCtrl();
        }

        return true;
    }

    private void Run(WorkItem item)
    {
        _gate.Exit();
        try
        {
            item.Work();
        }
        catch (Exception e)
        {
            item.Failure = global::System.Runtime.ExceptionServices.ExceptionDispatchInfo.Capture(e);
        }
        finally
        {
            _gate.Enter();
            item.Done = true;
            _gate.NotifyAll();
        }
    }

    /// <summary>
    /// Lets the kernel finish the instruction whose I/O we did: registers are right only then. The guest does not execute anything else.
    /// </summary>
    private void CompleteIo()
    {
        while (_ioInFlight)
        {
            _run.ImmediateExit = true;
            _ioInFlight = false;
            int result = _fd.Enter();
            if (result == 0)
            {
                HandleExit();
            }
        }

        _run.ImmediateExit = false;
    }

    /// <summary>Stops this vCPU from its own thread, until run control resumes the machine.</summary>
    internal void StopHere()
    {
        using (_gate.Hold())
        {
            _stopRequested = true;
            Volatile.Write(ref _attention, 1);
        }
    }

    private sealed class WorkItem(Action work)
    {
        public Action Work { get; } = work;

        public bool Done { get; set; }

        public global::System.Runtime.ExceptionServices.ExceptionDispatchInfo? Failure { get; set; }
    }
}
