using Vmm.Qapi;

namespace Vmm.Machines;

/// <summary>A switch that the machine may set by itself.</summary>
[QapiEnum]
public enum OnOffAuto
{
    /// <summary>The machine decides.</summary>
    Auto,

    /// <summary>On.</summary>
    On,

    /// <summary>Off.</summary>
    Off,
}
