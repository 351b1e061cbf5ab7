using Vmm.Qapi.Options;

namespace Vmm.System.CommandLine;

/// <summary>The flat options of a command line by group; groups come to be when they are first used.</summary>
internal sealed class OptionLists
{
    private readonly List<OptsList> _lists = [];

    /// <summary>The options of a group that exists.</summary>
    public OptsList Get(string group) => Find(group) ?? throw new InvalidOperationException(group);

    /// <summary>The options of a group; null when there is no such group.</summary>
    public OptsList? Find(string group)
    {
        OptsList? list = Peek(group);
        if (list == null && OptionGroups.Create(group) is { } description)
        {
            list = new OptsList(description);
            _lists.Add(list);
        }

        return list;
    }

    /// <summary>The options of a group that has been used; else null.</summary>
    public OptsList? Peek(string group)
    {
        foreach (OptsList list in _lists)
        {
            if (list.Group.Name == group)
            {
                return list;
            }
        }

        return null;
    }
}
