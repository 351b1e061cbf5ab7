using Vmm.Qapi;
using Vmm.Qapi.Options;

namespace Vmm.System.CommandLine;

/// <summary>Size of guest memory.</summary>
/// <param name="SizeBytes">Memory present at start; a multiple of 8 KiB.</param>
/// <param name="MaxSizeBytes">Memory present at start and pluggable.</param>
/// <param name="Slots">Slots for pluggable memory.</param>
public sealed record MemoryConfiguration(ulong SizeBytes, ulong MaxSizeBytes, ulong Slots)
{
    private const ulong Alignment = 8192;

    /// <summary>Completes the sizes for a machine type.</summary>
    /// <param name="memory">Parameters of -m ("size", "max-size", "slots") as strings, or null.</param>
    /// <param name="defaultSizeBytes">Size when none is asked for.</param>
    /// <param name="diagnostics">Takes warnings about deprecated spellings.</param>
    /// <exception cref="QapiException">A parameter is malformed or the sizes contradict each other.</exception>
    public static MemoryConfiguration Resolve(QDict? memory, ulong defaultSizeBytes, IOptionDiagnostics diagnostics)
    {
        ulong? sizeGiven = null, maxGiven = null, slotsGiven = null;
        if (memory != null)
        {
            sizeGiven = TakeSize(memory, "size", diagnostics);
            maxGiven = TakeSize(memory, "max-size", diagnostics);
            if (Take(memory, "slots") is { } text)
            {
                slotsGiven = OptionScalars.TryParseUInt64(text, out ulong number) == ScalarStatus.Ok
                    ? number
                    : throw QapiException.InvalidParameterValue("memory.slots", "uint64");
            }

            foreach (KeyValuePair<string, QValue> member in memory)
            {
                if (member.Key is not ("size" or "max-size" or "slots"))
                {
                    throw QapiException.UnexpectedParameter("memory." + member.Key);
                }
            }
        }

        ulong wanted = sizeGiven ?? defaultSizeBytes;
        ulong size = unchecked(wanted + Alignment - 1) & ~(Alignment - 1);
        if (maxGiven is not { } max)
        {
            return slotsGiven == null
                ? new MemoryConfiguration(size, size, 0)
                : throw new QapiException("slots specified but no max-size");
        }

        if (max < size)
        {
            throw new QapiException(
                $"invalid value of maxmem: maximum memory size (0x{max:x}) must be at least the initial memory size (0x{size:x})");
        }

        if (slotsGiven > 0 && max == size)
        {
            throw new QapiException(
                $"invalid value of maxmem: memory slots were specified but maximum memory size (0x{max:x}) is equal to the initial memory"
                + $" size (0x{size:x})");
        }

        return new MemoryConfiguration(size, max, slotsGiven ?? 0);
    }

    private static string? Take(QDict memory, string name)
    {
        if (!memory.TryGetValue(name, out QValue? value))
        {
            return null;
        }

        return value is QString text ? text.Value : throw QapiException.InvalidParameterType("memory." + name, "string");
    }

    private static ulong? TakeSize(QDict memory, string name, IOptionDiagnostics diagnostics)
    {
        if (Take(memory, name) is not { } text)
        {
            return null;
        }

        ScalarStatus status = OptionScalars.TryParseSize(text, out ulong bytes, out bool hexSuffix);
        if (hexSuffix)
        {
            diagnostics.Warning(OptionErrors.HexSuffixWarning(text));
        }

        return status == ScalarStatus.Ok
            ? bytes
            : throw QapiException.InvalidParameterValue("memory." + name, "size");
    }
}
