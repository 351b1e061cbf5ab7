using Vmm.Block.Graph;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;

namespace Vmm.Block.Backend;

/// <summary>The back ends of the process: those with names (-drive), and those that devices have for themselves. Main loop.</summary>
public sealed class BlockBackends : IBlockBackends
{
    private readonly BlockGraph _graph;
    private readonly List<BlockBackend> _all = [];

    /// <summary>None.</summary>
    public BlockBackends(BlockGraph graph)
    {
        _graph = graph;
        graph.FindBackend = Find;
    }

    /// <summary>All, oldest first.</summary>
    public IReadOnlyList<BlockBackend> All => _all;

    /// <summary>Does the host's part of errors; see <see cref="BlockBackend.ErrorSink"/>.</summary>
    public Action<BlockBackend, bool, BlockErrorAction, int>? ErrorSink { get; set; }

    /// <summary>The back end of that name; null when there is none.</summary>
    public BlockBackend? Find(string name) => name.Length == 0 ? null : _all.Find(b => b.Name == name);

    /// <summary>The back end of the device with that id or path; null when there is none.</summary>
    public BlockBackend? FindByDevice(string qdev) => _all.Find(b => b.Device?.QdevName == qdev);

    /// <summary>The back end that a command names: by its own name, or by the id or path of its device.</summary>
    /// <exception cref="QapiException">Both or none is given, or there is none.</exception>
    public BlockBackend Resolve(string? device, string? id)
    {
        if (device is null == id is null)
        {
            throw new QapiException("Need exactly one of 'device' and 'id'");
        }

        string name = (device ?? id)!;
        return (device is not null ? Find(device) : FindByDevice(name))
            ?? throw new QapiException(QapiErrorClass.DeviceNotFound, $"Device '{name}' not found");
    }

    /// <summary>A back end without medium.</summary>
    public BlockBackend Add(string name, bool isDrive = false)
    {
        BlockBackend backend = new(_graph, name) { ErrorSink = ErrorSink, IsDrive = isDrive };
        _all.Add(backend);
        return backend;
    }

    /// <summary>Forgets a back end; its medium goes out and is closed when nobody else uses it.</summary>
    public void Remove(BlockBackend backend)
    {
        _all.Remove(backend);
        if (backend.Remove() is { } node)
        {
            _graph.CloseIfUnusedAsync(node).Forget();
        }
    }

    /// <inheritdoc/>
    public IBlockBackend? Take(string name)
    {
        if (Find(name) is { } named)
        {
            return named;
        }

        if (_graph.Find(name) is not { } node)
        {
            return null;
        }

        BlockBackend backend = Add("");
        try
        {
            backend.Insert(node);
        }
        catch (QapiException)
        {
            _all.Remove(backend);
            throw;
        }

        return backend;
    }

    /// <inheritdoc/>
    public void Return(IBlockBackend backend)
    {
        if (backend is BlockBackend { Name.Length: 0 } own)
        {
            Remove(own);
        }
    }
}
