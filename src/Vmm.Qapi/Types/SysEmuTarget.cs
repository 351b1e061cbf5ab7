namespace Vmm.Qapi.Types;

/// <summary>Targets that a program of this kind can be built for, as far as this one can meet them.</summary>
[QapiEnum]
public enum SysEmuTarget
{
    /// <summary>64-bit ARM.</summary>
    [QapiName("aarch64")] Aarch64,

    /// <summary>32-bit x86.</summary>
    [QapiName("i386")] I386,

    /// <summary>64-bit x86.</summary>
    [QapiName("x86_64")] X8664,
}
