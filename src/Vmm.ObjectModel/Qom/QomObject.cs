using Vmm.Qapi;

namespace Vmm.ObjectModel.Qom;

/// <summary>
/// A node of the object tree. Its type's properties come from <see cref="QomTypeInfo"/>; children, links and per-object
/// properties are added at run time. Home: the main loop under the machine lock.
/// </summary>
[QomType("object", Parent = "")]
public abstract partial class QomObject
{
    private WireOrderedTable<QomPropertyInfo>? _dynamic;
    private List<QomObject>? _children;

    // Below _firstFree all indices of that stem are taken: who has hundreds of pins does not try all names for each.
    private string _stem = "";
    private int _firstFree;

    /// <summary>Type of this object.</summary>
    public abstract QomTypeInfo Type { get; }

    /// <summary>Name below the parent; null when not in the tree.</summary>
    public string? Name { get; private set; }

    /// <summary>Parent in the composition tree; null for the root or an orphan.</summary>
    public QomObject? Parent { get; private set; }

    /// <summary>Children in order of addition.</summary>
    public IReadOnlyList<QomObject> Children => (IReadOnlyList<QomObject>?)_children ?? [];

    /// <summary>Absolute path such as <c>/machine/peripheral/disk0</c>; null for an orphan.</summary>
    public string? CanonicalPath
    {
        get
        {
            if (Parent is null)
            {
                return IsTreeRoot ? "/" : null;
            }

            string? above = Parent.CanonicalPath;
            return above is null ? null : above == "/" ? "/" + Name : above + "/" + Name;
        }
    }

    internal bool IsTreeRoot { get; init; }

    /// <summary>
    /// Puts <paramref name="child"/> below this object. A name ending in <c>[*]</c> gets the first free index.
    /// </summary>
    /// <exception cref="QapiException">"attempt to add duplicate property 'X' to object (type 'Y')".</exception>
    public void AddChild(string name, QomObject child)
    {
        if (child.Parent is not null)
        {
            throw new InvalidOperationException($"object is in the tree already: {child.CanonicalPath}");
        }

        if (name.EndsWith("[*]", StringComparison.Ordinal))
        {
            ReadOnlySpan<char> stem = name.AsSpan(0, name.Length - 3);
            if (!stem.SequenceEqual(_stem))
            {
                (_stem, _firstFree) = (stem.ToString(), 0);
            }

            do
            {
                name = $"{_stem}[{_firstFree++}]";
            }
            while (FindDynamic(name) is not null);
        }

        AddProperty(new QomPropertyInfo(
            name,
            $"child<{child.Type.Name}>",
            _ => new QString(child.CanonicalPath ?? ""),
            null)
        {
            Target = _ => child,
        });
        child.Parent = this;
        child.Name = name;
        (_children ??= []).Add(child);
    }

    /// <summary>Takes this object out of the tree, its children first.</summary>
    public void Unparent()
    {
        if (Parent is not { } parent)
        {
            return;
        }

        OnUnparent();
        for (int i = Children.Count - 1; i >= 0; i--)
        {
            Children[i].Unparent();
        }

        parent._children!.Remove(this);
        parent._dynamic!.Remove(Name!);
        parent._firstFree = 0;
        Parent = null;
        Name = null;
    }

    /// <summary>Child of that name; null for none.</summary>
    public QomObject? FindChild(string name)
    {
        QomPropertyInfo? property = FindDynamic(name);
        return property is { IsChild: true } ? property.Target!(this) : null;
    }

    /// <summary>Children in the order in which clients see them listed.</summary>
    public List<QomObject> ChildrenInWireOrder()
    {
        var result = new List<QomObject>(Children.Count);
        for (int i = -1; _dynamic is not null && _dynamic.MoveNext(ref i, out QomPropertyInfo? property);)
        {
            if (property.IsChild)
            {
                result.Add(property.Target!(this)!);
            }
        }

        return result;
    }

    /// <summary>Adds a property to this object alone.</summary>
    /// <exception cref="QapiException">"attempt to add duplicate property 'X' to object (type 'Y')".</exception>
    public void AddProperty(QomPropertyInfo property)
    {
        if (!(_dynamic ??= new()).TryAdd(property.Name, property))
        {
            throw new QapiException($"attempt to add duplicate property '{property.Name}' to object (type '{Type.Name}')");
        }
    }

    /// <summary>Removes a per-object property that is not a child.</summary>
    public void RemoveProperty(string name) => _dynamic?.Remove(name);

    /// <summary>Per-object property of that name; null for none.</summary>
    public QomPropertyInfo? FindDynamic(string name) =>
        _dynamic is not null && _dynamic.TryGetValue(name, out QomPropertyInfo? property) ? property : null;

    /// <summary>Appends the per-object properties in the order in which clients see them listed.</summary>
    internal void AppendDynamic(List<QomPropertyInfo> result)
    {
        if (_dynamic is not null)
        {
            QomTypeRegistry.AppendReversed(_dynamic, result);
        }
    }

    /// <summary>Called before the object leaves the tree: release what it holds.</summary>
    protected virtual void OnUnparent()
    {
    }
}

/// <summary>An object that -object and object-add can make: it gets its properties, then <see cref="Complete"/>.</summary>
public interface IUserCreatable
{
    /// <summary>Properties without which the object cannot be made.</summary>
    IReadOnlyList<string> RequiredProperties => [];

    /// <summary>All properties are set: acquire resources, or throw a <see cref="QapiException"/> and hold nothing.</summary>
    void Complete(ObjectContext context);

    /// <summary>False while something uses the object: object-del then answers "object 'X' is in use, can not be deleted".</summary>
    bool CanBeDeleted => true;
}
