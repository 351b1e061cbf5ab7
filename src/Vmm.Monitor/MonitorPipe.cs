using System.Buffers;
using System.IO.Pipelines;
using System.Runtime.InteropServices;

namespace Vmm.Monitor;

/// <summary>What a session needs from the transport that carries its bytes. Home: the session's loop.</summary>
public interface IMonitorTransport
{
    /// <summary>There are bytes to take from <see cref="MonitorPipe.TryReadOutput"/>.</summary>
    void OutputReady();

    /// <summary>The session reads again: <see cref="MonitorPipe.CanReceive"/> has become positive.</summary>
    void InputResumed();

    /// <summary>The oldest file descriptor that came with the bytes received last; null for none. The caller owns it.</summary>
    SafeHandle? TakeReceivedFd();
}

/// <summary>
/// The two byte streams between a transport and a session: pipes that are pumped by hand, so that a command runs inside the callback in which
/// its last byte arrives, and so that tests can drive a session without any transport. Home: the session's loop.
/// </summary>
public sealed class MonitorPipe
{
    /// <summary>Most bytes taken in before the session has looked at them.</summary>
    public const int InputWindow = 64 * 1024;

    private static readonly PipeOptions s_options = new(
        readerScheduler: PipeScheduler.Inline,
        writerScheduler: PipeScheduler.Inline,
        pauseWriterThreshold: 0,
        resumeWriterThreshold: 0,
        minimumSegmentSize: 4096,
        useSynchronizationContext: false);

    private readonly Pipe _input = new(s_options);
    private readonly Pipe _output = new(s_options);
    private int _inputPending;

    /// <summary>Bytes received that the session has not consumed.</summary>
    public int InputPending => _inputPending;

    /// <summary>Bytes written by the session that the transport has not taken.</summary>
    public long OutputPending { get; private set; }

    /// <summary>How many bytes the transport may hand over now.</summary>
    public int CanReceive => Math.Max(0, InputWindow - _inputPending);

    /// <summary>Transport side: hands over received bytes.</summary>
    public void Receive(ReadOnlySpan<byte> data)
    {
        _input.Writer.Write(data);
        _inputPending += data.Length;
        Complete(_input.Writer.FlushAsync());
    }

    /// <summary>Transport side: what the session has written, not taken until <see cref="AdvanceOutput"/>.</summary>
    public bool TryReadOutput(out ReadOnlySequence<byte> data)
    {
        if (OutputPending > 0 && _output.Reader.TryRead(out ReadResult result))
        {
            data = result.Buffer;
            return true;
        }

        data = default;
        return false;
    }

    /// <summary>Transport side: takes the first <paramref name="count"/> bytes of <paramref name="data"/>, which came from <see cref="TryReadOutput"/>.</summary>
    public void AdvanceOutput(ReadOnlySequence<byte> data, long count)
    {
        OutputPending -= count;
        _output.Reader.AdvanceTo(data.GetPosition(count));
    }

    /// <summary>Session side: received bytes, not consumed until <see cref="AdvanceInput"/>.</summary>
    internal bool TryReadInput(out ReadOnlySequence<byte> data)
    {
        if (_inputPending > 0 && _input.Reader.TryRead(out ReadResult result))
        {
            data = result.Buffer;
            return true;
        }

        data = default;
        return false;
    }

    /// <summary>Session side: consumes the first <paramref name="count"/> bytes of <paramref name="data"/>.</summary>
    internal void AdvanceInput(ReadOnlySequence<byte> data, long count)
    {
        _inputPending -= (int)count;
        _input.Reader.AdvanceTo(data.GetPosition(count));
    }

    /// <summary>Session side: appends bytes; they become visible with <see cref="FlushOutput"/>.</summary>
    internal void Write(ReadOnlySpan<byte> data)
    {
        _output.Writer.Write(data);
        OutputPending += data.Length;
    }

    /// <summary>Session side: makes written bytes visible to the transport.</summary>
    internal void FlushOutput() => Complete(_output.Writer.FlushAsync());

    /// <summary>Drops everything on the way, for a connection that ended.</summary>
    internal void Clear()
    {
        if (TryReadInput(out ReadOnlySequence<byte> input))
        {
            AdvanceInput(input, input.Length);
        }

        FlushOutput();
        if (TryReadOutput(out ReadOnlySequence<byte> output))
        {
            AdvanceOutput(output, output.Length);
        }
    }

    private static void Complete(ValueTask<FlushResult> flush)
    {
        // Without a pause threshold a flush completes at once; the result must be observed for the pipe to be reused.
        if (!flush.IsCompletedSuccessfully)
        {
            throw new InvalidOperationException("a monitor pipe blocked");
        }

        _ = flush.GetAwaiter().GetResult();
    }
}
