using Vmm.Interop;
using Vmm.ObjectModel.Accel;

namespace Vmm.Machines.Qtest;

/// <summary>A vCPU that holds register state and never executes. Its thread sleeps, and runs what is asked of it.</summary>
internal sealed class QtestVcpu : IVcpu, IDisposable
{
    private const int StackSize = 64 * 1024;

    private readonly object _gate = new();
    private readonly Thread _thread;
    private CpuArchState _state = new();
    private Action? _work;
    private bool _stop;
    private int _threadId;

    public QtestVcpu(VcpuSetup setup)
    {
        Index = setup.Index;
        ApicId = setup.ApicId;
        Reset();
        _thread = new Thread(Run, StackSize) { IsBackground = true };
        lock (_gate)
        {
            _thread.Start();
            while (_threadId == 0)
            {
                Monitor.Wait(_gate);
            }
        }
    }

    public int Index { get; }

    public uint ApicId { get; }

    public int ThreadId => _threadId;

    public bool IsHalted => Index != 0;

    public CpuArchState GetState() => _state;

    public void SetState(CpuArchState state) => _state = state;

    public void InjectNmi()
    {
        // Nothing executes that could take it.
    }

    public void RunOnVcpu(Action work)
    {
        lock (_gate)
        {
            _work = work;
            Monitor.PulseAll(_gate);
            while (_work is not null)
            {
                Monitor.Wait(_gate);
            }
        }
    }

    /// <summary>Register state after RESET# (Intel SDM vol. 3, table 9-1).</summary>
    public void Reset()
    {
        const byte Data = 3;
        const byte Code = 11;
        const byte Ldt = 2;
        const byte BusyTss = 11;
        var state = new CpuArchState { Rip = 0xfff0, Rflags = 2, Cr0 = 0x60000010, ApicBase = 0xfee00800 | (Index == 0 ? 0x100u : 0) };
        for (int i = 0; i < state.Segments.Length; i++)
        {
            state.Segments[i] = new SegmentState(0, 0, 0xffff, Data, true, 0, false, true, false, false);
        }

        state.Segments[1] = new SegmentState(0xf000, 0xffff0000, 0xffff, Code, true, 0, false, true, false, false);
        state.Ldt = new SegmentState(0, 0, 0xffff, Ldt, true, 0, false, false, false, false);
        state.Tr = new SegmentState(0, 0, 0xffff, BusyTss, true, 0, false, false, false, false);
        state.Gdt = (0, 0xffff);
        state.Idt = (0, 0xffff);
        state.Dr[6] = 0xffff0ff0;
        state.Dr[7] = 0x400;
        _state = state;
    }

    public void Dispose()
    {
        lock (_gate)
        {
            _stop = true;
            Monitor.PulseAll(_gate);
        }

        _thread.Join();
    }

    private void Run()
    {
        Threads.SetDebugName($"CPU {Index}/DUMMY");
        lock (_gate)
        {
            _threadId = Threads.Gettid();
            Monitor.PulseAll(_gate);
            while (!_stop)
            {
                if (_work is { } work)
                {
                    work();
                    _work = null;
                    Monitor.PulseAll(_gate);
                }

                Monitor.Wait(_gate);
            }
        }
    }
}
