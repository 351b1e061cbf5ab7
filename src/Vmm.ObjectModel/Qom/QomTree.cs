using Vmm.ObjectModel.Devices;
using Vmm.Qapi;

namespace Vmm.ObjectModel.Qom;

/// <summary>
/// The composition tree of all objects and the access to their properties by name. Home: the main loop under the machine lock.
/// </summary>
public sealed class QomTree
{
    /// <summary>An empty tree whose objects have types of <paramref name="types"/>.</summary>
    public QomTree(QomTypeRegistry types)
    {
        Types = types;
        Root = new Container { IsTreeRoot = true };
    }

    /// <summary>The types of the program.</summary>
    public QomTypeRegistry Types { get; }

    /// <summary>Root of the tree, <c>/</c>.</summary>
    public QomObject Root { get; }

    /// <summary><c>/objects</c>: what -object and object-add made.</summary>
    public QomObject Objects => GetContainer("/objects");

    /// <summary><c>/chardevs</c>; made when first used.</summary>
    public QomObject Chardevs => GetContainer("/chardevs");

    /// <summary><c>/machine</c>; null before there is one.</summary>
    public QomObject? Machine { get; private set; }

    /// <summary><c>/machine/peripheral</c>: devices with an id.</summary>
    public QomObject Peripheral => GetContainer("/machine/peripheral");

    /// <summary><c>/machine/peripheral-anon</c>: devices without an id that the user made.</summary>
    public QomObject PeripheralAnon => GetContainer("/machine/peripheral-anon");

    /// <summary><c>/machine/unattached</c>: devices that the machine made and put nowhere else.</summary>
    public QomObject Unattached => GetContainer("/machine/unattached");

    /// <summary>Puts the machine object at <c>/machine</c>, with its containers below it.</summary>
    public void SetMachine(QomObject machine)
    {
        Machine = machine;
        Root.AddChild("machine", machine);
        GetContainer("/machine/peripheral");
        GetContainer("/machine/peripheral-anon");
        GetContainer("/machine/unattached");
    }

    /// <summary>The object at an absolute path; containers are made where nothing is.</summary>
    public QomObject GetContainer(string absolutePath)
    {
        QomObject at = Root;
        foreach (string part in absolutePath.Split('/', StringSplitOptions.RemoveEmptyEntries))
        {
            QomObject? child = at.FindChild(part);
            if (child is null)
            {
                child = new Container();
                at.AddChild(part, child);
            }

            at = child;
        }

        return at;
    }

    /// <summary>
    /// Finds an object by absolute path, or by a partial path that fits the end of exactly one object's path.
    /// </summary>
    /// <param name="path">Absolute when it starts with a slash.</param>
    /// <param name="typeName">Objects of other types are passed over; null for any.</param>
    /// <param name="ambiguous">True when several objects fit; the result is then null.</param>
    public QomObject? Resolve(string path, string? typeName, out bool ambiguous)
    {
        ambiguous = false;
        string[] parts = path.Split('/', StringSplitOptions.RemoveEmptyEntries);
        return path.StartsWith('/') ? ResolveFrom(Root, parts, typeName) : ResolvePartial(Root, parts, typeName, ref ambiguous);
    }

    /// <summary>As <see cref="Resolve(string, string?, out bool)"/> for any type; null for none and for ambiguous paths.</summary>
    public QomObject? Resolve(string path) => Resolve(path, null, out _);

    /// <summary>Finds an object for an operator.</summary>
    /// <exception cref="QapiException">DeviceNotFound "Device 'X' not found".</exception>
    public QomObject ResolveOrThrow(string path) => Resolve(path, null, out _) ?? throw QapiException.DeviceNotFound(path);

    /// <summary>Resolves the value of a link property.</summary>
    /// <exception cref="QapiException">Nothing there, several objects there, or one of another type.</exception>
    public QomObject ResolveLink(string property, string path, string typeName)
    {
        QomObject? target = Resolve(path, typeName, out bool ambiguous);
        if (ambiguous)
        {
            throw new QapiException($"Path '{path}' does not uniquely identify an object");
        }

        if (target is not null)
        {
            return target;
        }

        throw Resolve(path, null, out ambiguous) is not null || ambiguous
            ? QapiException.InvalidParameterType(property, typeName)
            : QapiException.DeviceNotFound(path);
    }

    /// <summary>True when the object is a <paramref name="typeName"/>.</summary>
    public bool IsA(QomObject obj, string typeName) => Types.IsA(obj.Type, typeName);

    /// <summary>Finds a property of an object; null for none.</summary>
    public QomPropertyInfo? FindProperty(QomObject obj, string name) => Types.FindProperty(obj.Type, name) ?? obj.FindDynamic(name);

    /// <summary>All properties of an object in the order in which clients see them listed.</summary>
    public List<QomPropertyInfo> ListProperties(QomObject obj)
    {
        List<QomPropertyInfo> result = Types.ListProperties(obj.Type);
        obj.AppendDynamic(result);
        return result;
    }

    /// <summary>Reads a property.</summary>
    /// <exception cref="QapiException">"Property 'T.P' not found" or "Property 'T.P' is not readable".</exception>
    public QValue GetProperty(QomObject obj, string name)
    {
        QomPropertyInfo property = FindProperty(obj, name) ?? throw NotFound(obj, name);
        return property.Get is { } get ? get(obj) : throw new QapiException($"Property '{obj.Type.Name}.{name}' is not readable");
    }

    /// <summary>Assigns a property.</summary>
    /// <param name="obj">The object.</param>
    /// <param name="name">Property name.</param>
    /// <param name="value">Typed JSON; or a string in the other modes.</param>
    /// <param name="mode">How scalars arrive.</param>
    /// <exception cref="QapiException">No such property, not writable, not now, or the value does not fit.</exception>
    public void SetProperty(QomObject obj, string name, QValue value, QapiInputMode mode = QapiInputMode.Json)
    {
        QomPropertyInfo property = FindProperty(obj, name) ?? throw NotFound(obj, name);
        if (property.Set is not { } set)
        {
            throw new QapiException($"Property '{obj.Type.Name}.{name}' is not writable");
        }

        if (obj is Device { IsRealized: true } device && property is { IsDeviceProperty: true, SettableAfterRealize: false })
        {
            string which = device.Id is { } id ? $"device '{id}'" : "anonymous device";
            throw new QapiException($"Attempt to set property '{name}' on {which} (type '{device.Type.Name}') after it was realized");
        }

        set(obj, new PropertyInput(name, value, mode, this));
    }

    private static QapiException NotFound(QomObject obj, string name) => new($"Property '{obj.Type.Name}.{name}' not found");

    private QomObject? ResolveFrom(QomObject from, ReadOnlySpan<string> parts, string? typeName)
    {
        QomObject? at = from;
        foreach (string part in parts)
        {
            QomPropertyInfo? property = FindProperty(at, part);
            at = property?.Target?.Invoke(at);
            if (at is null)
            {
                return null;
            }
        }

        return typeName is null || IsA(at, typeName) ? at : null;
    }

    private QomObject? ResolvePartial(QomObject parent, string[] parts, string? typeName, ref bool ambiguous)
    {
        QomObject? found = ResolveFrom(parent, parts, typeName);
        foreach (QomObject child in parent.Children)
        {
            QomObject? below = ResolvePartial(child, parts, typeName, ref ambiguous);
            if (ambiguous)
            {
                return null;
            }

            if (below is not null)
            {
                if (found is not null)
                {
                    ambiguous = true;
                    return null;
                }

                found = below;
            }
        }

        return found;
    }
}
