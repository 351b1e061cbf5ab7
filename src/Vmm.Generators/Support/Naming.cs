using System.Collections.Generic;
using System.Text;

namespace Vmm.Generators;

/// <summary>Names between C# and the wire.</summary>
internal static class Naming
{
    public static string Kebab(string name)
    {
        var result = new StringBuilder();
        for (int i = 0; i < name.Length; i++)
        {
            char c = name[i];
            if (char.IsUpper(c) && i > 0
                && (!char.IsUpper(name[i - 1]) || (i + 1 < name.Length && char.IsLower(name[i + 1]))))
            {
                result.Append('-');
            }

            result.Append(char.ToLowerInvariant(c));
        }

        return result.ToString();
    }

    public static string Camel(string name) => char.ToLowerInvariant(name[0]) + name.Substring(1);

    public static string Pascal(string wireName)
    {
        var result = new StringBuilder();
        bool upper = true;
        foreach (char c in wireName)
        {
            if (!char.IsLetterOrDigit(c))
            {
                upper = true;
                continue;
            }

            result.Append(upper ? char.ToUpperInvariant(c) : c);
            upper = false;
        }

        return result.Length > 0 && char.IsDigit(result[0]) ? "_" + result : result.ToString();
    }

    public static string Literal(string text) => Microsoft.CodeAnalysis.CSharp.SymbolDisplay.FormatLiteral(text, quote: true);

    /// <summary>The bucket by which members are ordered on the wire; the same function as Vmm.Qapi.WireOrder.</summary>
    public static int Bucket(string name)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(name);
        uint hash = 0x238F13AFu * (uint)bytes.Length;
        for (int i = 0; i < bytes.Length; i++)
        {
            hash += (uint)bytes[i] << (i * 5 % 24);
        }

        return (int)(((1103515243u * hash) + 12345u) & 511);
    }

    /// <summary>Positions of the names in wire order: by bucket, within one the last first.</summary>
    public static List<int> WireOrder(IReadOnlyList<string> names)
    {
        var order = new List<int>();
        for (int i = 0; i < names.Count; i++)
        {
            order.Add(i);
        }

        order.Sort((a, b) =>
        {
            int byBucket = Bucket(names[a]).CompareTo(Bucket(names[b]));
            return byBucket != 0 ? byBucket : b.CompareTo(a);
        });
        return order;
    }
}
