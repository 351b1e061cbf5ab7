namespace Vmm.Machines.Qtest;

/// <summary>Cuts incoming bytes into lines that end in LF. A line beyond the limit is dropped and reported as such.</summary>
internal sealed class QtestLineBuffer(int limit)
{
    private byte[] _data = new byte[1024];
    private int _count;
    private bool _overflow;

    /// <summary>Appends bytes and calls <paramref name="line"/> for each complete line, without its LF; null for one that was too long.</summary>
    public void Append(ReadOnlySpan<byte> bytes, QtestLineHandler line)
    {
        while (!bytes.IsEmpty)
        {
            int end = bytes.IndexOf((byte)'\n');
            Store(end < 0 ? bytes : bytes[..end]);
            if (end < 0)
            {
                return;
            }

            bytes = bytes[(end + 1)..];
            int count = _count;
            bool overflow = _overflow;
            _count = 0;
            _overflow = false;
            line(_data.AsSpan(0, overflow ? 0 : count), overflow);
        }
    }

    /// <summary>Forgets an unfinished line.</summary>
    public void Clear()
    {
        _count = 0;
        _overflow = false;
    }

    private void Store(ReadOnlySpan<byte> part)
    {
        if (_overflow || _count + part.Length > limit)
        {
            _overflow = true;
            _count = 0;
            return;
        }

        if (_count + part.Length > _data.Length)
        {
            Array.Resize(ref _data, Math.Min(limit, Math.Max(_data.Length * 2, _count + part.Length)));
        }

        part.CopyTo(_data.AsSpan(_count));
        _count += part.Length;
    }
}

/// <summary>Takes a line, or the news that one was too long.</summary>
internal delegate void QtestLineHandler(ReadOnlySpan<byte> line, bool tooLong);
