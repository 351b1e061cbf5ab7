using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.ObjectModel.Authz;

/// <summary>Decides who is let in (QOM <c>authz</c>). Home: main loop.</summary>
public abstract class Authorization : QomObject
{
    private static QomTypeInfo? s_typeInfo;

    /// <summary>Type "authz".</summary>
    public static new QomTypeInfo TypeInfo => s_typeInfo ??= new QomTypeInfo { Name = "authz", Parent = "object", IsAbstract = true };

    /// <summary>Whether an operator's object lets an identity in.</summary>
    /// <param name="objects">Finds objects by their ids.</param>
    /// <param name="id">Id of the object.</param>
    /// <param name="identity">Who asks.</param>
    /// <exception cref="QapiException">There is no such object, or it decides nothing.</exception>
    public static bool IsAllowed(Func<string, QomObject?> objects, string id, string identity) => objects(id) switch
    {
        null => throw new QapiException($"Cannot find QAuthZ object ID {id}"),
        Authorization authorization => authorization.IsAllowed(identity),
        _ => throw new QapiException($"Object '{id}' is not a QAuthZ subclass"),
    };

    /// <summary>Whether an identity is let in.</summary>
    public abstract bool IsAllowed(string identity);
}

/// <summary>Lets one identity in (QOM <c>authz-simple</c>). Home: main loop.</summary>
public sealed class AuthorizationSimple : Authorization, IUserCreatable
{
    private static readonly string[] s_required = ["identity"];
    private static QomTypeInfo? s_typeInfo;

    private string? _identity;

    /// <summary>Type "authz-simple".</summary>
    public static new QomTypeInfo TypeInfo => s_typeInfo ??= new QomTypeInfo
    {
        Name = "authz-simple",
        Parent = "authz",
        Interfaces = ["user-creatable"],
        Factory = static () => new AuthorizationSimple(),
        Properties = static () =>
        [
            new QomPropertyInfo(
                "identity",
                "string",
                static o => ((AuthorizationSimple)o)._identity ?? "",
                static (o, input) => ((AuthorizationSimple)o)._identity = input.ReadString()),
        ],
    };

    /// <inheritdoc/>
    public override QomTypeInfo Type => TypeInfo;

    /// <inheritdoc/>
    public IReadOnlyList<string> RequiredProperties => s_required;

    /// <inheritdoc/>
    public void Complete(ObjectContext context)
    {
    }

    /// <inheritdoc/>
    public override bool IsAllowed(string identity) => identity == _identity;
}
