using Vmm.Interop;
using Vmm.Interop.Tls;
using Vmm.ObjectModel.Objects;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.ObjectModel.Tls;

/// <summary>
/// By what an end of TLS connections is known, and what it asks of the other end (QOM <c>tls-creds</c>). The files are read when the object is
/// made, and with it GnuTLS is loaded. Home: main loop; sessions may be on any loop.
/// </summary>
public abstract class TlsCredentials : QomObject
{
    private static readonly string[] s_endpoints = ["client", "server"];
    private static QomTypeInfo? s_typeInfo;

    /// <summary>Type "tls-creds".</summary>
    public static new QomTypeInfo TypeInfo => s_typeInfo ??= new QomTypeInfo
    {
        Name = "tls-creds",
        Parent = "object",
        IsAbstract = true,
        Properties = static () =>
        [
            new QomPropertyInfo(
                "verify-peer",
                "bool",
                static o => ((TlsCredentials)o).VerifyPeer,
                static (o, input) => ((TlsCredentials)o).VerifyPeer = input.ReadBool()),
            new QomPropertyInfo(
                "dir",
                "string",
                static o => ((TlsCredentials)o).Folder ?? "",
                static (o, input) => ((TlsCredentials)o).Folder = input.ReadString()),
            new QomPropertyInfo(
                "endpoint",
                "QCryptoTLSCredsEndpoint",
                static o => s_endpoints[((TlsCredentials)o).IsServer ? 1 : 0],
                static (o, input) => ((TlsCredentials)o).IsServer = input.ReadEnum(s_endpoints) == 1),
            new QomPropertyInfo(
                "priority",
                "string",
                static o => ((TlsCredentials)o).Priority ?? "",
                static (o, input) => ((TlsCredentials)o).Priority = input.ReadString()),
        ],
    };

    /// <summary>For the end that is connected to.</summary>
    public bool IsServer { get; private set; }

    /// <summary>The peer must prove who it is.</summary>
    public bool VerifyPeer { get; private set; } = true;

    /// <summary>Algorithms and versions; null for the library's normal ones.</summary>
    public string? Priority { get; private set; }

    /// <summary>Folder of the files; null when none was given.</summary>
    protected string? Folder { get; private set; }

    /// <summary>The library's credentials; null before completion.</summary>
    internal GnuTlsCredentials? Native { get; private protected set; }

    /// <summary>What is added to <see cref="Priority"/> so that this kind of credentials can be used at all.</summary>
    internal virtual string PriorityAddition => "";

    /// <summary>A property that says whether the files are read.</summary>
    protected static QomPropertyInfo LoadedProperty => new("loaded", "bool", static o => ((TlsCredentials)o).Native is not null, RefuseLoaded);

    /// <summary>Finds an operator's credentials.</summary>
    /// <param name="objects">Finds objects by their ids.</param>
    /// <param name="id">The id.</param>
    /// <param name="isServer">The end for which they are needed.</param>
    /// <exception cref="QapiException">There are none, or they are for the other end.</exception>
    public static TlsCredentials Find(Func<string, QomObject?> objects, string id, bool isServer) => objects(id) switch
    {
        null => throw new QapiException($"No TLS credentials with id '{id}'"),
        TlsCredentials { Native: not null } credentials => credentials.IsServer == isServer
            ? credentials
            : throw new QapiException($"Expected TLS credentials for a {(isServer ? "server" : "client")} endpoint"),
        _ => throw new QapiException($"Object with id '{id}' is not TLS credentials"),
    };

    /// <summary>Makes empty credentials of the library.</summary>
    private protected GnuTlsCredentials Allocate(GnuTlsCredentialsKind kind, string quote = "")
    {
        if (!GnuTls.IsAvailable)
        {
            throw new QapiException("TLS credentials support requires GNUTLS");
        }

        int result = GnuTlsCredentials.Create(kind, IsServer, out GnuTlsCredentials credentials);
        return result >= 0 ? credentials : throw new QapiException($"Cannot allocate credentials: {quote}{GnuTls.ErrorText(result)}{quote}");
    }

    /// <summary>Path of a file in the folder; null when it may be missing and is.</summary>
    /// <exception cref="QapiException">It is missing.</exception>
    private protected string? PathOf(string name, bool isRequired)
    {
        string folder = Folder ?? throw new QapiException("Missing 'dir' property value");
        string path = $"{folder}/{name}";
        Errno errno = Libc.Stat(path, out _);
        return errno switch
        {
            Errno.OK => path,
            Errno.ENOENT when !isRequired => null,
            _ => throw new QapiException($"Unable to access credentials {path}: {errno.Message()}"),
        };
    }

    /// <summary>Sets a server's Diffie-Hellman parameters: those of a file, or well-known ones.</summary>
    private protected static void SetDhParameters(GnuTlsCredentials credentials, string? path)
    {
        if (path is null)
        {
            int known = credentials.KnownDhParameters();
            if (known < 0)
            {
                throw new QapiException("Unable to initialize DH parameters: " + GnuTls.ErrorText(known));
            }

            return;
        }

        int result = credentials.DhParameters(SmallFile.Read(path, $"Unable to load DH parameters from {path}"));
        if (result < 0)
        {
            throw new QapiException($"Unable to load DH parameters from {path}: {GnuTls.ErrorText(result)}");
        }
    }

    private static void RefuseLoaded(QomObject credentials, PropertyInput input)
    {
        input.ReadBool();
        throw new QapiException($"Property '{credentials.Type.Name}.loaded' is not writable");
    }
}

/// <summary>TLS credentials that prove nothing: what is sent is secret, but to whom is not known (QOM <c>tls-creds-anon</c>).</summary>
public sealed class TlsCredentialsAnon : TlsCredentials, IUserCreatable
{
    private static QomTypeInfo? s_typeInfo;

    /// <summary>Type "tls-creds-anon".</summary>
    public static new QomTypeInfo TypeInfo => s_typeInfo ??= new QomTypeInfo
    {
        Name = "tls-creds-anon",
        Parent = "tls-creds",
        Interfaces = ["user-creatable"],
        Factory = static () => new TlsCredentialsAnon(),
        Properties = static () => [LoadedProperty],
    };

    /// <inheritdoc/>
    public override QomTypeInfo Type => TypeInfo;

    /// <inheritdoc/>
    internal override string PriorityAddition => ":+ANON-DH";

    /// <inheritdoc/>
    public void Complete(ObjectContext context)
    {
        GnuTlsCredentials credentials = Allocate(GnuTlsCredentialsKind.Anonymous);
        if (IsServer)
        {
            SetDhParameters(credentials, Folder is null ? null : PathOf("dh-params.pem", isRequired: false));
        }

        Native = credentials;
    }
}

/// <summary>TLS credentials with keys that both ends have (QOM <c>tls-creds-psk</c>).</summary>
public sealed class TlsCredentialsPsk : TlsCredentials, IUserCreatable
{
    private const string KeyFile = "keys.psk";

    private static QomTypeInfo? s_typeInfo;

    private string? _user;

    /// <summary>Type "tls-creds-psk".</summary>
    public static new QomTypeInfo TypeInfo => s_typeInfo ??= new QomTypeInfo
    {
        Name = "tls-creds-psk",
        Parent = "tls-creds",
        Interfaces = ["user-creatable"],
        Factory = static () => new TlsCredentialsPsk(),
        Properties = static () =>
        [
            LoadedProperty,
            new QomPropertyInfo(
                "username",
                "string",
                static o => ((TlsCredentialsPsk)o)._user ?? "",
                static (o, input) => ((TlsCredentialsPsk)o)._user = input.ReadString()),
        ],
    };

    /// <inheritdoc/>
    public override QomTypeInfo Type => TypeInfo;

    /// <inheritdoc/>
    internal override string PriorityAddition => ":+ECDHE-PSK:+DHE-PSK:+PSK";

    /// <inheritdoc/>
    public void Complete(ObjectContext context)
    {
        if (Folder is null)
        {
            throw new QapiException("Missing 'dir' property value");
        }

        if (IsServer && _user is not null)
        {
            throw new QapiException("username should not be set when endpoint=server");
        }

        GnuTlsCredentials credentials = Allocate(GnuTlsCredentialsKind.Psk);
        string? dh = IsServer ? PathOf("dh-params.pem", isRequired: false) : null;
        string keys = PathOf(KeyFile, isRequired: true)!;
        if (IsServer)
        {
            int result = credentials.PskFile(keys);
            if (result < 0)
            {
                throw new QapiException("Cannot set PSK server credentials: " + GnuTls.ErrorText(result));
            }

            SetDhParameters(credentials, dh);
        }
        else
        {
            string user = _user ?? "qemu";
            int result = credentials.PskClient(user, FindKey(keys, user));
            if (result < 0)
            {
                throw new QapiException("Cannot set PSK client credentials: " + GnuTls.ErrorText(result));
            }
        }

        Native = credentials;
    }

    // Lines of a name, a colon and a key in hexadecimal digits.
    private static ReadOnlySpan<byte> FindKey(string path, string user)
    {
        ReadOnlySpan<byte> text = SmallFile.Read(path, $"Cannot read PSK file {path}");
        ReadOnlySpan<byte> name = System.Text.Encoding.UTF8.GetBytes(user + ":");
        while (!text.IsEmpty)
        {
            int end = text.IndexOf((byte)'\n');
            ReadOnlySpan<byte> line = end < 0 ? text : text[..end];
            text = end < 0 ? default : text[(end + 1)..];
            if (line.StartsWith(name))
            {
                return line[name.Length..].TrimEnd((byte)'\r');
            }
        }

        throw new QapiException($"Username {user} not found in PSK file {path}");
    }
}
