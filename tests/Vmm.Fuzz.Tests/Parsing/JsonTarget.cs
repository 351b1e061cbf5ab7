using System.Text;
using Vmm.Qapi;

namespace Vmm.Fuzz.Tests.Parsing;

/// <summary>The JSON parser of the monitors: however the input is split, the same values and errors; what is written reads back the same.</summary>
internal sealed class JsonTarget : FuzzTarget
{
    private const int MaxOutcome = 200;

    private readonly List<string> _whole = [];
    private readonly List<string> _split = [];

    public override string Name => "qmp-json";

    public override int Iterations => 2500;

    public override IReadOnlyList<byte[]> Dictionary { get; } = Words(
        "true", "false", "null", "{\"a\":", "[", "]", "{", "}", ":", ",", "\"", "'", "\\u0000", "\\ud800", "\\udc00", "\\uD83D\\uDE00", "\\\"",
        "1e999", "-0", "0.5", "1E+", "9223372036854775808", "18446744073709551616", "-9223372036854775809", "%", "\u00e9", "\u20ac", "\U0001F600",
        "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", "{'a':{'a':{'a':{'a':{'a':{'a':", "\u001b", "\f");

    public override long AllocationLimit(int inputLength) => 256 * 1024 + (4096L * inputLength);

    public override string Execute(ReadOnlySpan<byte> input)
    {
        _whole.Clear();
        _split.Clear();
        var parser = new JsonStreamParser();
        string outcome = Parse(parser, input, _whole);
        var bytewise = new JsonStreamParser();
        foreach (byte b in input)
        {
            Parse(bytewise, [b], _split);
        }

        RequireSame("byte by byte", parser, bytewise);
        var pieces = new JsonStreamParser();
        _split.Clear();
        for (int at = 0; at < input.Length;)
        {
            int length = Math.Min(input.Length - at, 1 + (input[at] % 13));
            Parse(pieces, input.Slice(at, length), _split);
            at += length;
        }

        RequireSame("in pieces", parser, pieces);
        return outcome;
    }

    private static string Parse(JsonStreamParser parser, ReadOnlySpan<byte> input, List<string> results)
    {
        string outcome = "";
        while (true)
        {
            JsonReadResult result = parser.Read(input, out int consumed, out QValue? value, out QapiException? error);
            Require(consumed >= 0 && consumed <= input.Length, "consumed more than there is");
            Require((value != null) == (result == JsonReadResult.Value), "a value goes with the result Value");
            Require((error != null) == (result == JsonReadResult.Error), "an error goes with the result Error");
            if (result == JsonReadResult.NeedMoreInput)
            {
                Require(consumed == input.Length, "input left over");
                return outcome;
            }

            input = input[consumed..];
            if (value != null)
            {
                string json = value.ToJson();
                results.Add(json);
                outcome = Extend(outcome, value.GetType().Name);
                RequireReadsBack(json);
            }
            else
            {
                results.Add("error " + error!.Desc);
                outcome = Extend(outcome, Shape(error.Desc));
            }
        }
    }

    private static string Extend(string outcome, string more) => outcome.Length < MaxOutcome ? outcome + more : outcome;

    private static void RequireReadsBack(string json)
    {
        // An infinite number is written in a way that is not JSON, as QEMU does it; a negative zero reads back as an integer.
        if (json.Contains("inf", StringComparison.Ordinal) || json.Contains("-0", StringComparison.Ordinal))
        {
            return;
        }

        var parser = new JsonStreamParser();
        byte[] bytes = Encoding.UTF8.GetBytes(json + "\n");
        JsonReadResult result = parser.Read(bytes, out _, out QValue? value, out QapiException? error);
        Require(result == JsonReadResult.Value, $"written JSON does not read back: {error?.Desc}: {json}");
        Require(value!.ToJson() == json, "written JSON reads back as something else: " + json);
    }

    private void RequireSame(string how, JsonStreamParser whole, JsonStreamParser split)
    {
        Require(_whole.SequenceEqual(_split), $"{how}: [{string.Join("; ", _split)}] instead of [{string.Join("; ", _whole)}]");
        Require(whole.IsIdle == split.IsIdle, $"{how}: idle {split.IsIdle} instead of {whole.IsIdle}");
    }
}
