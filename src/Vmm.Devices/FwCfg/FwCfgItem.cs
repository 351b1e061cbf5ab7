namespace Vmm.Devices.FwCfg;

/// <summary>Contents that are too large to be kept in memory, such as a kernel in a file.</summary>
public interface IFwCfgSource
{
    /// <summary>Size in bytes.</summary>
    uint Length { get; }

    /// <summary>Reads at <paramref name="offset"/>; the range is within the length. What the host cannot read is zeroes.</summary>
    void Read(uint offset, Span<byte> destination);
}

/// <summary>One item of the configuration: contents, and what happens when the guest selects or writes it.</summary>
internal sealed class FwCfgItem
{
    private ReadOnlyMemory<byte> _data;
    private readonly IFwCfgSource? _source;

    public FwCfgItem(ReadOnlyMemory<byte> data) => _data = data;

    public FwCfgItem(IFwCfgSource source) => _source = source;

    /// <summary>Makes the contents anew when the guest selects the item or reads the directory's size of it.</summary>
    public Func<ReadOnlyMemory<byte>>? OnSelect { get; init; }

    /// <summary>Storage of a writable item; null when it is read-only.</summary>
    public byte[]? Writable { get; init; }

    /// <summary>Told after the guest wrote (offset, length).</summary>
    public Action<uint, uint>? OnWrite { get; init; }

    public uint Length => _source?.Length ?? (uint)_data.Length;

    public void Select()
    {
        if (OnSelect is { } refresh)
        {
            _data = refresh();
        }
    }

    public void Replace(ReadOnlyMemory<byte> data) => _data = data;

    public void Read(uint offset, Span<byte> destination)
    {
        if (_source is { } source)
        {
            source.Read(offset, destination);
        }
        else
        {
            _data.Span.Slice((int)offset, destination.Length).CopyTo(destination);
        }
    }
}
