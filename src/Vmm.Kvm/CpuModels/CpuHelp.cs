using System.Text;

namespace Vmm.Kvm.CpuModels;

/// <summary>The list of CPU models and features for people.</summary>
public static class CpuHelp
{
    private const int LineWidth = 75;

    /// <summary>Text of <c>-cpu help</c>.</summary>
    public static string Text()
    {
        var names = new List<(string Name, string? Versioned)>();
        CpuModelTable.ForEach((name, versioned) => names.Add((name, versioned)));
        names.Sort(static (a, b) => string.CompareOrdinal(a.Name, b.Name));
        var text = new StringBuilder("Available CPUs:\n");
        foreach ((string name, string? versioned) in names)
        {
            string description = versioned is null ? CpuModelTable.Find(name)!.ModelId + NoteOf(name)
                : versioned == name + "-v1" ? "(alias configured by machine type)"
                : $"(alias of {versioned})";
            text.Append($"x86 {name,-20}  {description}\n");
        }

        text.Append("x86 base                  base CPU model type with no features enabled\n");
        text.Append("x86 host                  processor with all supported host features \n");
        text.Append("x86 max                   Enables all features supported by the accelerator in the current host\n");
        text.Append("\nRecognized CPUID flags:\n");
        AppendFeatures(text);
        return text.Append('\n').ToString();
    }

    private static void AppendFeatures(StringBuilder text)
    {
        var features = new List<string>();
        for (int w = 0; w < CpuFeatureWords.Count; w++)
        {
            if (CpuFeatureWords.IsSettable((FeatureWord)w))
            {
                features.AddRange(CpuFeatureWords.Words[w].Names.OfType<string>());
            }
        }

        features.Sort(string.CompareOrdinal);
        var line = new StringBuilder(" ");
        foreach (string feature in features)
        {
            if (line.Length + 1 + feature.Length > LineWidth)
            {
                text.Append(line).Append('\n');
                line.Clear().Append(' ');
            }

            line.Append(' ').Append(feature);
        }

        text.Append(line).Append('\n');
    }

    // What a version has that the brand string does not tell.
    private static string NoteOf(string name) => name switch
    {
        "Cascadelake-Server-v2" => " [ARCH_CAPABILITIES]",
        "Cascadelake-Server-v3" => " [ARCH_CAPABILITIES, no TSX]",
        "Cascadelake-Server-v4" => " [ARCH_CAPABILITIES, EPT switching, no TSX]",
        "Cascadelake-Server-v5" => " [ARCH_CAPABILITIES, EPT switching, XSAVES, no TSX]",
        "Cooperlake-v2" => " [XSAVES]",
        "Denverton-v2" => " [no MPX, no MONITOR]",
        "Denverton-v3" => " [XSAVES, no MPX, no MONITOR]",
        "Dhyana-v2" => " [XSAVES]",
        "Icelake-Server-v2" => " [no TSX]",
        "Icelake-Server-v5" => " [XSAVES]",
        "Icelake-Server-v6" => " [5-level EPT]",
        "Skylake-Client-v4" => " [IBRS, XSAVES, no TSX]",
        "Skylake-Server-v4" => " [IBRS, EPT switching, no TSX]",
        "Skylake-Server-v5" => " [IBRS, XSAVES, EPT switching, no TSX]",
        "Snowridge-v3" => " [XSAVES, no MPX]",
        "Snowridge-v4" => " [no split lock detect, no core-capability]",
        _ => "",
    };
}
