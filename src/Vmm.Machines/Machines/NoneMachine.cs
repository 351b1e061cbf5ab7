using Vmm.ObjectModel.Qom;

namespace Vmm.Machines;

/// <summary>The empty machine: nothing to run, everything to ask. Management layers probe with it.</summary>
[QomType("none-machine")]
public sealed partial class NoneMachine : Machine
{
    /// <inheritdoc/>
    public override MachineType MachineType => MachineType.Find("none")!;

    /// <inheritdoc/>
    protected override void BuildBoard()
    {
        if (Parameters.RamBackend is not null)
        {
            SystemMemory.AddSubregion(0, RamRegion);
        }
    }
}
