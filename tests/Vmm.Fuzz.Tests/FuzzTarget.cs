using System.Text;

namespace Vmm.Fuzz.Tests;

/// <summary>Code that reads foreign bytes, and what must hold whatever they are.</summary>
public abstract class FuzzTarget
{
    /// <summary>Name on the command line and of the folder with the seeds.</summary>
    public abstract string Name { get; }

    /// <summary>Inputs are cut to this many bytes.</summary>
    public virtual int MaxLength => 4096;

    /// <summary>Executions in the test run; about a second.</summary>
    public abstract int Iterations { get; }

    /// <summary>Byte strings that mean something to the target.</summary>
    public virtual IReadOnlyList<byte[]> Dictionary => [];

    /// <summary>Most bytes that an execution may allocate for an input of that length.</summary>
    public abstract long AllocationLimit(int inputLength);

    /// <summary>
    /// Executes one input. Catches the errors that the code documents; anything else that escapes, and a violated invariant, is a finding.
    /// </summary>
    /// <returns>A short name of what happened: an input that makes something new happen is mutated further.</returns>
    public abstract string Execute(ReadOnlySpan<byte> input);

    /// <inheritdoc/>
    public sealed override string ToString() => Name;

    /// <summary>Reports a violated invariant.</summary>
    protected static void Require(bool condition, string what)
    {
        if (!condition)
        {
            throw new FuzzFindingException(what);
        }
    }

    /// <summary>An error text without the parts that repeat the input.</summary>
    protected static string Shape(string text)
    {
        var shape = new StringBuilder();
        bool quoted = false;
        foreach (char c in text.AsSpan(0, Math.Min(text.Length, 100)))
        {
            if (c is '\'' or '"')
            {
                quoted = !quoted;
            }
            else if (!quoted && !char.IsAsciiDigit(c))
            {
                shape.Append(c);
            }
        }

        return shape.ToString();
    }

    /// <summary>A dictionary of texts.</summary>
    protected static IReadOnlyList<byte[]> Words(params string[] words) => [.. words.Select(Encoding.UTF8.GetBytes)];
}

/// <summary>An invariant of a target does not hold.</summary>
public sealed class FuzzFindingException(string what) : Exception(what);
