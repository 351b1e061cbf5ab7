using Vmm.Monitor;

namespace Vmm.System;

/// <summary>The version of the interface and of the product.</summary>
internal static class ProductVersion
{
    /// <summary>What the greeting says.</summary>
    public static MonitorVersion Value { get; } = new(7, 2, 22, "Vmm 0.1");
}
