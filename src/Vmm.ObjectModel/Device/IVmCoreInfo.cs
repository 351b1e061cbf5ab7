namespace Vmm.ObjectModel.Devices;

/// <summary>Where a guest's kernel has left what a debugger needs to know of it.</summary>
/// <param name="Format">Form of the information: 1 for an ELF note (also where a Windows driver has a header for crash dumps in it).</param>
/// <param name="Address">Guest-physical address.</param>
/// <param name="Length">Bytes, as the guest says.</param>
public readonly record struct VmCoreInfoNote(ushort Format, ulong Address, uint Length);

/// <summary>A device through which a guest tells where that information is (QOM <c>vmcoreinfo</c>).</summary>
public interface IVmCoreInfo
{
    /// <summary>What the guest has told since the last reset; null for nothing. Main loop.</summary>
    VmCoreInfoNote? Note { get; }
}
