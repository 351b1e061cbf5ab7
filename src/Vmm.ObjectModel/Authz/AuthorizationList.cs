using Vmm.Interop;
using Vmm.ObjectModel.Objects;
using Vmm.ObjectModel.Qmp;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.ObjectModel.Authz;

/// <summary>Rules, of which the first that matches an identity counts. Pure.</summary>
/// <param name="Policy">For identities that no rule matches.</param>
/// <param name="Rules">The rules.</param>
public sealed record AuthorizationRules(AuthorizationPolicy Policy, IReadOnlyList<AuthorizationRule> Rules)
{
    /// <summary>Refuses all.</summary>
    public static AuthorizationRules None { get; } = new(AuthorizationPolicy.Deny, []);

    /// <summary>Whether an identity is let in.</summary>
    public bool IsAllowed(string identity)
    {
        foreach (AuthorizationRule rule in Rules)
        {
            if (rule.Format == AuthorizationFormat.Glob ? IsMatch(rule.Match, identity) : rule.Match == identity)
            {
                return rule.Policy == AuthorizationPolicy.Allow;
            }
        }

        return Policy == AuthorizationPolicy.Allow;
    }

    /// <summary>Whether a text is as a pattern says, in which * stands for any characters and ? for one. Linear in each of them.</summary>
    public static bool IsMatch(ReadOnlySpan<char> pattern, ReadOnlySpan<char> text)
    {
        int p = 0;
        int t = 0;
        int star = -1;
        int resume = 0;
        while (t < text.Length)
        {
            if (p < pattern.Length && pattern[p] == '*')
            {
                star = p++;
                resume = t;
            }
            else if (p < pattern.Length && (pattern[p] == '?' || pattern[p] == text[t]))
            {
                // A character outside the basic plane is one, though it takes two units.
                bool isPair = pattern[p] == '?' && char.IsHighSurrogate(text[t]) && t + 1 < text.Length && char.IsLowSurrogate(text[t + 1]);
                p++;
                t += isPair ? 2 : 1;
            }
            else if (star >= 0)
            {
                p = star + 1;
                t = ++resume;
            }
            else
            {
                return false;
            }
        }

        return pattern[p..].TrimStart('*').IsEmpty;
    }
}

/// <summary>Decides by rules (QOM <c>authz-list</c>). Home: main loop.</summary>
public sealed class AuthorizationList : Authorization, IUserCreatable
{
    private static readonly string[] s_policies = ["deny", "allow"];
    private static QomTypeInfo? s_typeInfo;

    private AuthorizationRules _rules = AuthorizationRules.None;

    /// <summary>Type "authz-list".</summary>
    public static new QomTypeInfo TypeInfo => s_typeInfo ??= new QomTypeInfo
    {
        Name = "authz-list",
        Parent = "authz",
        Interfaces = ["user-creatable"],
        Factory = static () => new AuthorizationList(),
        Properties = static () =>
        [
            new QomPropertyInfo(
                "policy",
                "QAuthZListPolicy",
                static o => s_policies[(int)((AuthorizationList)o)._rules.Policy],
                static (o, input) => ((AuthorizationList)o).SetPolicy(input)),
            new QomPropertyInfo(
                "rules",
                "QAuthZListRule",
                static o => QapiList.ToValue(((AuthorizationList)o)._rules.Rules, static r => r.QapiToValue()),
                static (o, input) => ((AuthorizationList)o).SetRules(input)),
        ],
    };

    /// <inheritdoc/>
    public override QomTypeInfo Type => TypeInfo;

    /// <inheritdoc/>
    public void Complete(ObjectContext context)
    {
    }

    /// <inheritdoc/>
    public override bool IsAllowed(string identity) => _rules.IsAllowed(identity);

    private void SetPolicy(PropertyInput input) => _rules = _rules with { Policy = (AuthorizationPolicy)input.ReadEnum(s_policies) };

    // The old rules are gone even when the new ones are not understood: whoever changed them did not want them any more.
    private void SetRules(PropertyInput input)
    {
        _rules = _rules with { Rules = [] };
        QapiReader reader = new(input.IsKeyval ? QapiInputMode.Keyval : QapiInputMode.Json);
        _rules = _rules with { Rules = reader.List(input.Value, input.Name, static (item, r) => AuthorizationRule.QapiRead(item, r, null)) };
    }
}

/// <summary>
/// Decides by rules in a file (QOM <c>authz-list-file</c>), which is read again when it has changed; while it cannot be read nobody is let
/// in. Home: main loop.
/// </summary>
public sealed class AuthorizationListFile : Authorization, IUserCreatable
{
    private static readonly string[] s_required = ["filename"];
    private static QomTypeInfo? s_typeInfo;

    private string? _path;
    private bool _refresh = true;
    private FileStatus _seen;
    private AuthorizationRules _rules = AuthorizationRules.None;

    /// <summary>Type "authz-list-file".</summary>
    public static new QomTypeInfo TypeInfo => s_typeInfo ??= new QomTypeInfo
    {
        Name = "authz-list-file",
        Parent = "authz",
        Interfaces = ["user-creatable"],
        Factory = static () => new AuthorizationListFile(),
        Properties = static () =>
        [
            new QomPropertyInfo(
                "filename",
                "string",
                static o => ((AuthorizationListFile)o)._path ?? "",
                static (o, input) => ((AuthorizationListFile)o)._path = input.ReadString()),
            new QomPropertyInfo(
                "refresh",
                "bool",
                static o => ((AuthorizationListFile)o)._refresh,
                static (o, input) => ((AuthorizationListFile)o)._refresh = input.ReadBool()),
        ],
    };

    /// <inheritdoc/>
    public override QomTypeInfo Type => TypeInfo;

    /// <inheritdoc/>
    public IReadOnlyList<string> RequiredProperties => s_required;

    /// <inheritdoc/>
    public void Complete(ObjectContext context)
    {
        Libc.Stat(_path!, out _seen);
        _rules = Load(_path!);
        if (_refresh && !_path!.StartsWith('/'))
        {
            throw new QapiException("Filename must be an absolute path");
        }
    }

    /// <inheritdoc/>
    public override bool IsAllowed(string identity)
    {
        if (_refresh)
        {
            Refresh();
        }

        return _rules.IsAllowed(identity);
    }

    // The file is looked at when it is needed: whoever is asked about comes rarely.
    private void Refresh()
    {
        Errno errno = Libc.Stat(_path!, out FileStatus now);
        if (errno == Errno.OK && now.st_ino == _seen.st_ino && now.st_dev == _seen.st_dev && now.st_size == _seen.st_size
            && now.st_mtim.ToNs() == _seen.st_mtim.ToNs() && now.st_ctim.ToNs() == _seen.st_ctim.ToNs())
        {
            return;
        }

        _seen = now;
        try
        {
            _rules = Load(_path!);
        }
        catch (QapiException)
        {
            _rules = AuthorizationRules.None;
        }
    }

    private static AuthorizationRules Load(string path)
    {
        byte[] text = SmallFile.Read(path, $"Unable to read '{path}'");
        if (QValue.Parse(text) is not QDict content)
        {
            throw new QapiException($"File '{path}' must contain a JSON object");
        }

        AuthZListProperties list = AuthZListProperties.QapiRead(content, new QapiReader(), null);
        return new AuthorizationRules(list.Policy ?? AuthorizationPolicy.Deny, list.Rules ?? []);
    }
}
