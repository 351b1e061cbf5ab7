using Vmm.Qapi;

namespace Vmm.ObjectModel.Qmp;

/// <summary>What has connections that can be cut.</summary>
[QapiEnum]
public enum YankInstanceType
{
    /// <summary>A node of the block layer.</summary>
    BlockNode,

    /// <summary>A character device.</summary>
    Chardev,

    /// <summary>The migration.</summary>
    Migration,
}

/// <summary>Names a node of the block layer.</summary>
[QapiStruct]
public sealed partial record YankInstanceBlockNode
{
    /// <summary>Name of the node.</summary>
    public required string NodeName { get; init; }
}

/// <summary>Names a character device.</summary>
[QapiStruct]
public sealed partial record YankInstanceChardev
{
    /// <summary>Id of the device.</summary>
    public required string Id { get; init; }
}

/// <summary>Something with connections that can be cut.</summary>
[QapiUnion(Discriminator = "type")]
public sealed partial record YankInstance
{
    /// <summary>What it is.</summary>
    public required YankInstanceType Type { get; init; }

    /// <summary>A node of the block layer.</summary>
    [QapiBranch("block-node")]
    public YankInstanceBlockNode? BlockNode { get; init; }

    /// <summary>A character device.</summary>
    [QapiBranch("chardev")]
    public YankInstanceChardev? Chardev { get; init; }

    /// <summary>A character device of that id.</summary>
    public static YankInstance OfChardev(string id) =>
        new() { Type = YankInstanceType.Chardev, Chardev = new YankInstanceChardev { Id = id } };
}

/// <summary>
/// Everything whose connections can be cut when the other side hangs. Home: the main loop.
/// </summary>
public sealed class YankRegistry
{
    private readonly List<(YankInstance Instance, Action Cut)> _entries = [];

    /// <summary>The instances in order of addition.</summary>
    public IEnumerable<YankInstance> Instances
    {
        get
        {
            foreach ((YankInstance instance, _) in _entries)
            {
                yield return instance;
            }
        }
    }

    /// <summary>Adds an instance.</summary>
    /// <param name="instance">Its name; each at most once.</param>
    /// <param name="cut">Shuts its connections down without waiting for anything; what follows is as if the other side had gone.</param>
    public void Add(YankInstance instance, Action cut) => _entries.Add((instance, cut));

    /// <summary>Takes an instance away.</summary>
    public void Remove(YankInstance instance) => _entries.RemoveAll(e => e.Instance == instance);

    /// <summary>Cuts the connections of all given instances, or of none when one of them does not exist.</summary>
    /// <exception cref="QapiException">Instance not found.</exception>
    public void Yank(IReadOnlyList<YankInstance> instances)
    {
        foreach (YankInstance instance in instances)
        {
            if (!_entries.Exists(e => e.Instance == instance))
            {
                throw new QapiException(QapiErrorClass.DeviceNotFound, "Instance not found");
            }
        }

        foreach (YankInstance instance in instances)
        {
            foreach ((YankInstance known, Action cut) in _entries.ToArray())
            {
                if (known == instance)
                {
                    cut();
                }
            }
        }
    }
}

/// <summary>Commands that get a program out of hanging connections.</summary>
public sealed class YankCommands(YankRegistry registry)
{
    /// <summary>Cuts the connections of the given instances.</summary>
    [QmpCommand("yank", ArgsType = "instances:q", AllowOob = true, Since = "6.0")]
    public void Yank(List<YankInstance> instances) => registry.Yank(instances);

    /// <summary>Lists what has connections that can be cut.</summary>
    [QmpCommand("query-yank", AllowOob = true, Since = "6.0")]
    public List<YankInstance> QueryYank() => [.. registry.Instances];
}
