using Vmm.Qapi;

namespace Vmm.Block.Options;

/// <summary>A file on a web server. The server must serve ranges.</summary>
[QapiStruct]
public partial record BlockdevOptionsCurlBase
{
    /// <summary>Address, in full.</summary>
    public required string Url { get; init; }

    /// <summary>Bytes that are read behind what was asked for, a multiple of 512; 256 KiB by default.</summary>
    public long? Readahead { get; init; }

    /// <summary>Seconds that a request may take, up to 10000; 5 by default, 0 for any number.</summary>
    public long? Timeout { get; init; }

    /// <summary>User that the server asks for.</summary>
    public string? Username { get; init; }

    /// <summary>Id of a secret object with the user's password.</summary>
    public string? PasswordSecret { get; init; }

    /// <summary>User that the proxy asks for.</summary>
    public string? ProxyUsername { get; init; }

    /// <summary>Id of a secret object with that user's password.</summary>
    public string? ProxyPasswordSecret { get; init; }
}

/// <summary>A file on a web server.</summary>
[QapiStruct]
public partial record BlockdevOptionsCurlHttp : BlockdevOptionsCurlBase
{
    /// <summary>Cookies, as they are sent: "name=value; ...".</summary>
    public string? Cookie { get; init; }

    /// <summary>Id of a secret object with them.</summary>
    public string? CookieSecret { get; init; }
}

/// <summary>A file on a web server, over TLS.</summary>
[QapiStruct]
public sealed partial record BlockdevOptionsCurlHttps : BlockdevOptionsCurlHttp
{
    /// <summary>The server's certificate is checked, by default.</summary>
    public bool? Sslverify { get; init; }
}
