namespace Vmm.Devices.Serial16550;

/// <summary>A small ring of bytes with QEMU's layout: storage, index of the oldest byte, count.</summary>
internal sealed class ByteFifo(int capacity)
{
    private readonly byte[] _data = new byte[capacity];

    public int Head { get; private set; }

    public int Count { get; private set; }

    public bool IsFull => Count == _data.Length;

    public ReadOnlySpan<byte> Storage => _data;

    /// <summary>Appends; on a full ring the oldest byte gives way.</summary>
    public void PushOverwriting(byte value)
    {
        if (IsFull)
        {
            Pop();
        }

        Push(value);
    }

    /// <summary>Appends; the ring must not be full.</summary>
    public void Push(byte value)
    {
        _data[(Head + Count) % _data.Length] = value;
        Count++;
    }

    /// <summary>Takes the oldest byte; 0 when empty.</summary>
    public byte Pop()
    {
        if (Count == 0)
        {
            return 0;
        }

        byte value = _data[Head];
        Head = (Head + 1) % _data.Length;
        Count--;
        return value;
    }

    public void Clear()
    {
        Head = 0;
        Count = 0;
    }

    /// <summary>Takes over a saved ring; head and count were checked.</summary>
    public void Restore(ReadOnlySpan<byte> storage, int head, int count)
    {
        storage.CopyTo(_data);
        Head = head;
        Count = count;
    }
}
