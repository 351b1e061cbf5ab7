using System.Runtime.InteropServices;

namespace Vmm.Interop;

/// <summary>The library below the runtime's TLS streams. Without it the runtime ends the process at the first of them, so one asks first.</summary>
public static class OpenSslLibrary
{
    // The versions that the runtime looks for and that are still met.
    private static readonly string[] s_names = ["libssl.so.3", "libssl.so.1.1"];

    private static readonly Lazy<bool> s_isAvailable = new(static () => Array.Exists(s_names, static name => NativeLibrary.TryLoad(name, out _)));

    /// <summary>The library is there. Any thread.</summary>
    public static bool IsAvailable => s_isAvailable.Value;
}
