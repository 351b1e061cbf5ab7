using Vmm.EventLoop;
using Vmm.Qapi;

namespace Vmm.Block.Throttling;

/// <summary>
/// The throttle groups of the process by name: those that are objects, and those that exist while a drive names them. Main loop.
/// </summary>
public sealed class ThrottleGroups(Clocks clocks)
{
    private readonly Dictionary<string, Entry> _groups = new(StringComparer.Ordinal);

    /// <summary>The group of that name; null when there is none.</summary>
    public ThrottleGroup? Find(string name) => _groups.TryGetValue(name, out Entry? entry) ? entry.Group : null;

    /// <summary>Enters the group of an object.</summary>
    /// <exception cref="QapiException">The name is taken.</exception>
    public ThrottleGroup Add(string name)
    {
        if (_groups.ContainsKey(name))
        {
            throw new QapiException("A group with this name already exists");
        }

        Entry entry = new(new ThrottleGroup(name, clocks)) { Users = 1 };
        _groups.Add(name, entry);
        return entry.Group;
    }

    /// <summary>The group of that name, made when there is none. Ends with <see cref="Release"/>.</summary>
    public ThrottleGroup Take(string name)
    {
        if (!_groups.TryGetValue(name, out Entry? entry))
        {
            entry = new Entry(new ThrottleGroup(name, clocks));
            _groups.Add(name, entry);
        }

        entry.Users++;
        return entry.Group;
    }

    /// <summary>Ends a use; a group without users goes.</summary>
    public void Release(ThrottleGroup group)
    {
        if (--_groups[group.Name].Users == 0)
        {
            _groups.Remove(group.Name);
        }
    }

    private sealed class Entry(ThrottleGroup group)
    {
        public ThrottleGroup Group { get; } = group;

        public int Users { get; set; }
    }
}
