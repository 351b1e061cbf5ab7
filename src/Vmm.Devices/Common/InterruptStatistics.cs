namespace Vmm.Devices;

/// <summary>Interrupts counted per input, for <c>info irq</c>.</summary>
public sealed class InterruptStatistics(int inputs)
{
    private readonly ulong[] _counts = new ulong[inputs];

    /// <summary>Counts one more.</summary>
    public void Count(int input) => _counts[input]++;

    /// <summary>Appends the table as <c>info irq</c> prints it, zero counts left out.</summary>
    public void Describe(string typeName, Action<string> line)
    {
        line($"IRQ statistics for {typeName}:");
        for (int i = 0; i < _counts.Length; i++)
        {
            if (_counts[i] != 0)
            {
                line($"{i,2}: {_counts[i]}");
            }
        }
    }
}
