namespace Vmm.ObjectModel.VmState;

/// <summary>A section of the migration stream and the object whose state it carries.</summary>
/// <param name="Name">Section name; for a device on a bus with addresses "path/name".</param>
/// <param name="InstanceId">Number that tells sections of the same name apart.</param>
/// <param name="Target">Saves and loads.</param>
public sealed record VmStateSection(string Name, uint InstanceId, IVmStateful Target);

/// <summary>
/// The parts of the machine that have state to migrate, in the order in which they were added, which is the order of the stream.
/// Home: main loop.
/// </summary>
public sealed class VmStateRegistry
{
    private readonly List<VmStateSection> _sections = [];
    private readonly List<string> _blockers = [];

    /// <summary>Sections in stream order.</summary>
    public IReadOnlyList<VmStateSection> Sections => _sections;

    /// <summary>Reasons why the machine cannot be migrated; empty when it can.</summary>
    public IReadOnlyList<string> Blockers => _blockers;

    /// <summary>Adds a section.</summary>
    /// <param name="target">Saves and loads.</param>
    /// <param name="instanceId">Number among sections of that name; null for the next free one.</param>
    /// <param name="devicePath">Path on a bus with addresses, which is put before the name; null for none.</param>
    public VmStateSection Add(IVmStateful target, uint? instanceId = null, string? devicePath = null)
    {
        string name = devicePath is null ? target.VmStateName : $"{devicePath}/{target.VmStateName}";
        uint id = instanceId ?? NextInstance(name);
        if (Find(name, id) is not null)
        {
            throw new InvalidOperationException($"migration section registered twice: {name} {id}");
        }

        var section = new VmStateSection(name, id, target);
        _sections.Add(section);
        return section;
    }

    /// <summary>Removes the sections of an object.</summary>
    public void Remove(IVmStateful target) => _sections.RemoveAll(s => ReferenceEquals(s.Target, target));

    /// <summary>Finds a section of an incoming stream; null when this machine has none such.</summary>
    public VmStateSection? Find(string name, uint instanceId)
    {
        foreach (VmStateSection section in _sections)
        {
            if (section.InstanceId == instanceId && section.Name == name)
            {
                return section;
            }
        }

        return null;
    }

    /// <summary>Adds a reason against migration; dispose the result to take it back.</summary>
    public IDisposable AddBlocker(string reason)
    {
        _blockers.Add(reason);
        return new Blocker(this, reason);
    }

    private uint NextInstance(string name)
    {
        uint next = 0;
        foreach (VmStateSection section in _sections)
        {
            if (section.Name == name && section.InstanceId >= next)
            {
                next = section.InstanceId + 1;
            }
        }

        return next;
    }

    private sealed class Blocker(VmStateRegistry owner, string reason) : IDisposable
    {
        private bool _gone;

        public void Dispose()
        {
            if (!_gone)
            {
                _gone = true;
                owner._blockers.Remove(reason);
            }
        }
    }
}
