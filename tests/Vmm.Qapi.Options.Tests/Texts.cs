using FsCheck;
using FsCheck.Fluent;

namespace Vmm.Qapi.Options.Tests;

/// <summary>Random texts for properties.</summary>
internal static class Texts
{
    /// <summary>Texts made of some characters, so that most of them have structure.</summary>
    public static Arbitrary<string> Of(string characters) =>
        Gen.Elements(characters.ToCharArray()).ArrayOf().Select(chars => new string(chars)).ToArbitrary();
}
