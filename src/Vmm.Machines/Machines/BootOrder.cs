using Vmm.Qapi;

namespace Vmm.Machines;

/// <summary>Lists of boot devices as letters.</summary>
public static class BootOrder
{
    /// <summary>Checks boot device letters: a to p, each once.</summary>
    /// <exception cref="QapiException">A letter is out of range or repeats.</exception>
    public static void Check(string devices)
    {
        int seen = 0;
        foreach (char c in devices)
        {
            if (c is < 'a' or > 'p')
            {
                throw new QapiException($"Invalid boot device '{c}'");
            }

            int bit = 1 << (c - 'a');
            if ((seen & bit) != 0)
            {
                throw new QapiException($"Boot device '{c}' was given twice");
            }

            seen |= bit;
        }
    }
}
