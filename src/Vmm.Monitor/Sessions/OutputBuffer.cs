namespace Vmm.Monitor;

/// <summary>Output of one monitor that its channel has not taken yet.</summary>
internal sealed class OutputBuffer(IMonitorChannel channel)
{
    private const int KeepCapacity = 32 * 1024;
    private byte[] _bytes = [];
    private int _start;
    private int _end;
    private bool _waiting;

    /// <summary>Bytes that wait for the other side to read.</summary>
    public int Pending => _end - _start;

    public void Append(ReadOnlySpan<byte> data)
    {
        if (_bytes.Length - _end < data.Length)
        {
            int pending = Pending;
            byte[] target = _bytes.Length >= pending + data.Length ? _bytes : new byte[Math.Max(1024, 2 * (pending + data.Length))];
            _bytes.AsSpan(_start, pending).CopyTo(target);
            _bytes = target;
            _start = 0;
            _end = pending;
        }

        data.CopyTo(_bytes.AsSpan(_end));
        _end += data.Length;
    }

    /// <summary>Hands out what the channel takes and asks to be called for the rest.</summary>
    public void Flush()
    {
        while (Pending > 0)
        {
            int written = channel.Write(_bytes.AsSpan(_start, Pending));
            if (written <= 0)
            {
                if (!_waiting)
                {
                    _waiting = true;
                    channel.RequestWritable();
                }

                return;
            }

            _start += written;
        }

        Clear();
    }

    public void OnWritable()
    {
        _waiting = false;
        Flush();
    }

    public void Clear()
    {
        _start = 0;
        _end = 0;
        if (_bytes.Length > KeepCapacity)
        {
            _bytes = [];
        }
    }
}
