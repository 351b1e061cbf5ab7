using Vmm.Qapi;

namespace Vmm.ObjectModel.Qmp;

/// <summary>An end of a TLS connection.</summary>
[QapiEnum]
[QapiName("QCryptoTLSCredsEndpoint")]
public enum TlsEndpoint
{
    /// <summary>The end that connects.</summary>
    Client,

    /// <summary>The end that is connected to.</summary>
    Server,
}

/// <summary>Properties of all TLS credentials.</summary>
[QapiStruct]
public partial record TlsCredsProperties
{
    /// <summary>Whether the peer must prove who it is; it must by default.</summary>
    public bool? VerifyPeer { get; init; }

    /// <summary>Folder of the credentials' files.</summary>
    public string? Dir { get; init; }

    /// <summary>For which end; the client by default.</summary>
    public TlsEndpoint? Endpoint { get; init; }

    /// <summary>Algorithms and versions, as a GnuTLS priority string.</summary>
    public string? Priority { get; init; }
}

/// <summary>Properties of TLS credentials that prove nothing.</summary>
[QapiStruct]
public sealed partial record TlsCredsAnonProperties : TlsCredsProperties
{
    /// <summary>Whether the files are read; they are once the object exists, and it cannot be set.</summary>
    [QapiFeature("deprecated")]
    public bool? Loaded { get; init; }
}

/// <summary>Properties of TLS credentials with keys that both ends have.</summary>
[QapiStruct]
public sealed partial record TlsCredsPskProperties : TlsCredsProperties
{
    /// <summary>Whether the files are read; they are once the object exists, and it cannot be set.</summary>
    [QapiFeature("deprecated")]
    public bool? Loaded { get; init; }

    /// <summary>Name of a client; "qemu" by default.</summary>
    public string? Username { get; init; }
}

/// <summary>Properties of TLS credentials with X.509 certificates.</summary>
[QapiStruct]
public sealed partial record TlsCredsX509Properties : TlsCredsProperties
{
    /// <summary>Whether the files are read; they are once the object exists, and it cannot be set.</summary>
    [QapiFeature("deprecated")]
    public bool? Loaded { get; init; }

    /// <summary>Look for mistakes in the certificates before they are used; on by default.</summary>
    public bool? SanityCheck { get; init; }

    /// <summary>Secret with which the key is encrypted.</summary>
    public string? Passwordid { get; init; }
}

/// <summary>What is done with an identity.</summary>
[QapiEnum]
[QapiName("QAuthZListPolicy")]
public enum AuthorizationPolicy
{
    /// <summary>It is refused.</summary>
    Deny,

    /// <summary>It is let in.</summary>
    Allow,
}

/// <summary>How a rule is compared with an identity.</summary>
[QapiEnum]
[QapiName("QAuthZListFormat")]
public enum AuthorizationFormat
{
    /// <summary>They are equal.</summary>
    Exact,

    /// <summary>The rule is a pattern with * and ?.</summary>
    Glob,
}

/// <summary>A rule about identities.</summary>
[QapiStruct]
[QapiName("QAuthZListRule")]
public sealed partial record AuthorizationRule
{
    /// <summary>An identity, or a pattern.</summary>
    public required string Match { get; init; }

    /// <summary>What is done with identities that match.</summary>
    public required AuthorizationPolicy Policy { get; init; }

    /// <summary>How they are compared; for equality by default.</summary>
    public AuthorizationFormat? Format { get; init; }
}

/// <summary>Properties of an authz-list.</summary>
[QapiStruct]
public sealed partial record AuthZListProperties
{
    /// <summary>For identities that no rule matches; they are refused by default.</summary>
    public AuthorizationPolicy? Policy { get; init; }

    /// <summary>The rules; the first that matches counts.</summary>
    public IReadOnlyList<AuthorizationRule>? Rules { get; init; }
}

/// <summary>Properties of an authz-list-file.</summary>
[QapiStruct]
public sealed partial record AuthZListFileProperties
{
    /// <summary>The file with the properties of an authz-list as JSON.</summary>
    public required string Filename { get; init; }

    /// <summary>Read the file again when it has changed; on by default.</summary>
    public bool? Refresh { get; init; }
}

/// <summary>Properties of an authz-simple.</summary>
[QapiStruct]
public sealed partial record AuthZSimpleProperties
{
    /// <summary>The identity that is let in.</summary>
    public required string Identity { get; init; }
}
