using Vmm.ObjectModel.Qmp;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.Block.Throttling;

/// <summary>A throttle group that an operator makes (QOM <c>throttle-group</c>). Home: main loop.</summary>
public sealed class ThrottleGroupObject : QomObject, IUserCreatable
{
    private readonly ThrottleGroups _groups;
    private readonly QomTypeInfo _type;
    private ThrottleConfig _pending = new();
    private ThrottleGroup? _group;

    private ThrottleGroupObject(ThrottleGroups groups, QomTypeInfo type)
    {
        _groups = groups;
        _type = type;
    }

    /// <inheritdoc/>
    public override QomTypeInfo Type => _type;

    /// <summary>Its group; null before completion.</summary>
    public ThrottleGroup? Group => _group;

    /// <inheritdoc/>
    public bool CanBeDeleted => _group is null || _group.Count == 0;

    private ThrottleConfig Current => _group?.Config ?? _pending;

    /// <summary>Adds the type to a registry.</summary>
    public static void Register(QomTypeRegistry registry, ThrottleGroups groups)
    {
        QomTypeInfo? type = null;
        type = new QomTypeInfo
        {
            Name = "throttle-group",
            Parent = "object",
            Interfaces = ["user-creatable"],
            Factory = () => new ThrottleGroupObject(groups, type!),
            Properties = MakeProperties,
        };
        registry.Add(type);
    }

    /// <inheritdoc/>
    public void Complete(ObjectContext context)
    {
        _pending.Validate();
        _group = _groups.Add(Name!);
        _group.Configure(_pending);
    }

    /// <inheritdoc/>
    protected override void OnUnparent()
    {
        if (_group is not null)
        {
            _groups.Release(_group);
            _group = null;
        }
    }

    private static QomPropertyInfo[] MakeProperties()
    {
        List<QomPropertyInfo> properties =
        [
            new QomPropertyInfo(
                "limits",
                "ThrottleLimits",
                static o => ThrottleWire.ToLimits(((ThrottleGroupObject)o).Current).QapiToValue(),
                static (o, input) => ((ThrottleGroupObject)o).SetLimits(input)),
        ];
        foreach (ThrottleWire.Member member in ThrottleWire.Members)
        {
            properties.Add(new QomPropertyInfo(
                "x-" + member.Name,
                "int",
                o => member.Get(((ThrottleGroupObject)o).Current),
                (o, input) => ((ThrottleGroupObject)o).SetOne(member, input)));
        }

        return [.. properties];
    }

    private void SetLimits(PropertyInput input)
    {
        ThrottleLimits limits = ThrottleLimits.QapiRead(
            input.Value, new QapiReader(input.IsKeyval ? QapiInputMode.Keyval : QapiInputMode.Json), input.Name);
        ThrottleConfig config = ThrottleWire.Merge(Current, limits);
        config.Validate();
        Apply(config);
    }

    private void SetOne(ThrottleWire.Member member, PropertyInput input)
    {
        if (_group is not null)
        {
            throw new QapiException("Property cannot be set after initialization");
        }

        long value = input.ReadInt64();
        if (value < 0)
        {
            throw new QapiException("Property values cannot be negative");
        }

        if (member.Name.EndsWith("-length", StringComparison.Ordinal) && value > uint.MaxValue)
        {
            throw new QapiException($"{input.Name} value must be in therange [0, {uint.MaxValue}]");
        }

        _pending = member.Set(_pending, value);
    }

    private void Apply(ThrottleConfig config)
    {
        if (_group is null)
        {
            _pending = config;
        }
        else
        {
            _group.Configure(config);
        }
    }
}
