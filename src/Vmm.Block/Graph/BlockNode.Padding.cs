using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;

namespace Vmm.Block.Graph;

/// <content>Requests that do not keep to the node's alignment: reads of whole blocks, and read-modify-write.</content>
public sealed partial class BlockNode
{
    private NativeBuffer? _freePadding;

    /// <summary>The node has been closed.</summary>
    internal void FreeBuffers()
    {
        _freePadding?.Dispose();
        _freePadding = null;
        _freeCopy?.Dispose();
        _freeCopy = null;
    }

    private async IoTask<int> ReadPaddedAsync(TrackedRequest request, long offset, IoVectors data, BlockRequestFlags flags)
    {
        await _tracked.WaitAsync(request);
        int align = _limits.RequestAlignment;
        long start = offset & ~(long)(align - 1);
        int head = (int)(offset - start);
        int tail = (int)(AlignUp(offset + data.Size) - offset - data.Size);
        NativeBuffer padding = TakePadding();
        IoVectors whole = IoVectors.Rent();
        whole.Add(padding, 0, head);
        whole.AddSlice(data, 0, data.Size);
        whole.Add(padding, align, tail);
        int result = await ReadAlignedAsync(start, whole, flags);
        whole.Return();
        GivePadding(padding);
        return result;
    }

    private async IoTask<int> WritePaddedAsync(TrackedRequest request, long offset, IoVectors data, BlockRequestFlags flags)
    {
        // Nobody else may write the blocks between our read and our write.
        _tracked.MakeSerialising(request, _limits.RequestAlignment);
        await _tracked.WaitAsync(request);
        int align = _limits.RequestAlignment;
        long end = offset + data.Size;
        long start = offset & ~(long)(align - 1);
        int head = (int)(offset - start);
        int tail = (int)(AlignUp(end) - end);
        NativeBuffer padding = TakePadding();
        int result = 0;
        if (head > 0)
        {
            await DebugAsync(BlkdebugEvent.PwritevRmwHead);
            result = await ReadBlockAsync(padding, 0, start);
            await DebugAsync(BlkdebugEvent.PwritevRmwAfterHead);
        }

        if (result >= 0 && tail > 0)
        {
            await DebugAsync(BlkdebugEvent.PwritevRmwTail);
            result = await ReadBlockAsync(padding, align, AlignUp(end) - align);
            await DebugAsync(BlkdebugEvent.PwritevRmwAfterTail);
        }

        if (result >= 0)
        {
            IoVectors whole = IoVectors.Rent();
            whole.Add(padding, 0, head);
            whole.AddSlice(data, 0, data.Size);
            whole.Add(padding, 2 * align - tail, tail);
            result = await WriteAlignedAsync(start, whole, flags);
            whole.Return();
        }

        GivePadding(padding);
        return result;
    }

    private async IoTask<int> ZeroPaddedAsync(TrackedRequest request, long offset, long bytes, BlockRequestFlags flags)
    {
        _tracked.MakeSerialising(request, _limits.RequestAlignment);
        await _tracked.WaitAsync(request);
        int align = _limits.RequestAlignment;
        long end = offset + bytes;
        long wholeStart = AlignUp(offset);
        long wholeEnd = end & ~(long)(align - 1);
        int result = 0;
        if (wholeStart > wholeEnd)
        {
            return await ZeroPartAsync(offset, (int)bytes);
        }

        if (offset < wholeStart)
        {
            result = await ZeroPartAsync(offset, (int)(wholeStart - offset));
        }

        if (result >= 0 && wholeStart < wholeEnd)
        {
            result = await ZeroAlignedAsync(wholeStart, wholeEnd - wholeStart, flags);
        }

        if (result >= 0 && wholeEnd < end)
        {
            result = await ZeroPartAsync(wholeEnd, (int)(end - wholeEnd));
        }

        if (result >= 0 && (flags & BlockRequestFlags.Fua) != 0)
        {
            result = await FlushAsync();
        }

        return result;
    }

    /// <summary>Zeroes a part of one block.</summary>
    private async IoTask<int> ZeroPartAsync(long offset, int bytes)
    {
        long start = offset & ~(long)(_limits.RequestAlignment - 1);
        NativeBuffer padding = TakePadding();
        int result = await ReadBlockAsync(padding, 0, start);
        if (result >= 0)
        {
            padding.Span.Slice((int)(offset - start), bytes).Clear();
            IoVectors block = IoVectors.Rent(padding.Vector(0, _limits.RequestAlignment));
            result = await WriteAlignedAsync(start, block, BlockRequestFlags.None);
            block.Return();
        }

        GivePadding(padding);
        return result;
    }

    private async IoTask<int> ReadBlockAsync(NativeBuffer padding, int position, long offset)
    {
        IoVectors block = IoVectors.Rent(padding.Vector(position, _limits.RequestAlignment));
        int result = await ReadAlignedAsync(offset, block, BlockRequestFlags.None);
        block.Return();
        return result;
    }

    private NativeBuffer TakePadding()
    {
        NativeBuffer? padding = _freePadding;
        _freePadding = null;
        int needed = 2 * _limits.RequestAlignment;
        return padding is not null && padding.Length >= needed ? padding : new NativeBuffer(needed, Math.Max(_limits.RequestAlignment, 4096));
    }

    private void GivePadding(NativeBuffer padding)
    {
        if (_freePadding is null)
        {
            _freePadding = padding;
        }
        else
        {
            padding.Dispose();
        }
    }
}
