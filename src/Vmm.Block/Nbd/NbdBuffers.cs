using System.Numerics;
using Vmm.Interop;

namespace Vmm.Block.Nbd;

/// <summary>Memory for payloads, by powers of two, kept for the next request up to a limit. One loop.</summary>
internal sealed class NbdBuffers
{
    private const int MinShift = 12;
    private const int MaxShift = 25;
    private const long MaxKeptBytes = 8 << 20;

    private readonly Stack<NativeBuffer>[] _free = new Stack<NativeBuffer>[MaxShift - MinShift + 1];
    private long _kept;

    /// <summary>Memory of at least so many bytes, up to 32 MiB.</summary>
    internal NativeBuffer Rent(int length)
    {
        int shift = Shift(length);
        Stack<NativeBuffer>? stack = _free[shift - MinShift];
        if (stack is not null && stack.TryPop(out NativeBuffer? buffer))
        {
            _kept -= buffer.Length;
            return buffer;
        }

        return new NativeBuffer(1 << shift);
    }

    /// <summary>Gives memory back.</summary>
    internal void Return(NativeBuffer buffer)
    {
        if (_kept + buffer.Length > MaxKeptBytes)
        {
            buffer.Dispose();
            return;
        }

        _kept += buffer.Length;
        int index = Shift(buffer.Length) - MinShift;
        (_free[index] ??= new Stack<NativeBuffer>()).Push(buffer);
    }

    /// <summary>Frees what is kept.</summary>
    internal void Clear()
    {
        foreach (Stack<NativeBuffer>? stack in _free)
        {
            while (stack is not null && stack.TryPop(out NativeBuffer? buffer))
            {
                buffer.Dispose();
            }
        }

        _kept = 0;
    }

    private static int Shift(int length) => Math.Max(MinShift, BitOperations.Log2((uint)Math.Max(length - 1, 1)) + 1);
}
