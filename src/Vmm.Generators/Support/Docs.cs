using System.Linq;
using System.Text.RegularExpressions;
using Microsoft.CodeAnalysis;

namespace Vmm.Generators;

/// <summary>
/// Doc comments read from the syntax: the compiler does not parse them when no documentation file is asked for.
/// </summary>
internal static class Docs
{
    public static string Summary(SyntaxNode node)
    {
        string[] lines = node.GetLeadingTrivia().ToFullString().Split('\n')
            .Select(line => line.Trim())
            .Where(line => line.StartsWith("///"))
            .Select(line => line.Substring(3).Trim())
            .ToArray();
        string text = string.Join(" ", lines);
        int start = text.IndexOf("<summary>");
        int end = text.IndexOf("</summary>");
        if (start < 0 || end < start)
        {
            return "";
        }

        text = text.Substring(start + 9, end - start - 9);
        text = Regex.Replace(text, "<(?:see|paramref|c|typeparamref)[^>]*?\"(?:[A-Z]:)?([^\"]*)\"\\s*/>", "$1");
        text = Regex.Replace(text, "<[^>]+>", "");
        text = text.Replace("&lt;", "<").Replace("&gt;", ">").Replace("&amp;", "&");
        return Regex.Replace(text, "\\s+", " ").Trim();
    }
}
