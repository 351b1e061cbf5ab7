using Vmm.Block.Backend;
using Vmm.Block.Bitmaps;
using Vmm.Block.Nbd;
using Vmm.Block.Qmp;

namespace Vmm.Block.Exports;

/// <summary>A node that NBD clients see. Home: main loop.</summary>
public sealed class NbdExport : BlockExport
{
    private const int SectorBytes = 512;

    private readonly List<NbdConnection> _connections = [];

    internal NbdExport(string id, BlockBackend backend, string name, string? description, bool isWritable, bool tellsDepth, IReadOnlyList<DirtyBitmap> bitmaps)
        : base(id, BlockExportType.Nbd, backend)
    {
        Name = name;
        Description = description;
        IsWritable = isWritable;
        TellsDepth = tellsDepth;
        Bitmaps = bitmaps;
        foreach (DirtyBitmap bitmap in bitmaps)
        {
            bitmap.IsBusy = true;
        }

        // The last sector is a whole one to clients.
        backend.AllowsWritesBeyondEnd = true;
    }

    /// <summary>The name that clients ask for.</summary>
    public string Name { get; }

    /// <summary>For people; null for none.</summary>
    public string? Description { get; }

    /// <summary>Clients may write.</summary>
    public bool IsWritable { get; }

    /// <summary>Offers the context qemu:allocation-depth.</summary>
    public bool TellsDepth { get; }

    /// <summary>Bitmaps whose contexts it offers; they are busy as long as the export lasts.</summary>
    public IReadOnlyList<DirtyBitmap> Bitmaps { get; }

    /// <summary>Bytes that clients see. The loop of the back end.</summary>
    public long Size => (Math.Max(Backend.Length, 0) + SectorBytes - 1) & ~(long)(SectorBytes - 1);

    /// <inheritdoc/>
    public override bool IsUsed => _connections.Count > 0;

    internal NbdExportFlags Flags(bool isMultiConnection) =>
        NbdExportFlags.HasFlags | NbdExportFlags.SendFlush | NbdExportFlags.SendFua | NbdExportFlags.SendCache
        | (isMultiConnection ? NbdExportFlags.CanMultiConnection : 0)
        | (IsWritable ? NbdExportFlags.SendTrim | NbdExportFlags.SendWriteZeroes | NbdExportFlags.SendFastZero : NbdExportFlags.ReadOnly);

    internal void Add(NbdConnection connection) => _connections.Add(connection);

    internal void Remove(NbdConnection connection)
    {
        _connections.Remove(connection);
        EndIfUnused();
    }

    /// <inheritdoc/>
    protected override void OnShutDown()
    {
        foreach (NbdConnection connection in _connections.ToArray())
        {
            connection.Abort();
        }
    }

    /// <inheritdoc/>
    protected override void OnEnded()
    {
        foreach (DirtyBitmap bitmap in Bitmaps)
        {
            bitmap.IsBusy = false;
        }
    }
}
