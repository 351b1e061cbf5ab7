using System.Text;
using FsCheck;
using FsCheck.Fluent;
using Vmm.Qapi;

namespace Vmm.Qapi.Tests;

/// <summary>The expectations were recorded from a QEMU 7.2 that was fed the same bytes.</summary>
public sealed class JsonStreamParserTests
{
    private static readonly (string Input, string[] Output)[] s_conversations =
    [
        ("1 ", ["1"]),
        ("\"abc\"", ["\"abc\""]),
        ("foo ", ["!invalid keyword 'foo'"]),
        ("}", ["!expecting value"]),
        (",:", ["!expecting value", "!expecting value"]),
        ("{\"a\" 1}", ["!missing : in object pair"]),
        ("{\"a\":1,}", ["!expecting value"]),
        ("{\"a\":1 \"b\":2}", ["!expected separator in dict"]),
        ("{1:2}", ["!key is not a string in object"]),
        ("{{\"a\":1}:2}", ["!key is not a string in object"]),
        ("{null:1}", ["!key is not a string in object"]),
        ("{[1 2]:2}", ["!expected separator in list"]),
        ("[1 2]", ["!expected separator in list"]),
        ("[1,]", ["!expecting value"]),
        ("[,1]", ["!expecting value"]),
        ("{\"a\"]", ["!missing : in object pair"]),
        ("[1}", ["!expected separator in list"]),
        ("{]", ["!expecting value"]),
        ("{\"a\":[}", []),
        ("{\"a\":[}]", ["!expecting value"]),
        ("[1 }]\n", ["!expected separator in list", "!expecting value"]),
        ("{\"a\":1,\"a\":2,\"b\"}", ["!duplicate key"]),
        ("{\"a\":1,\"a\":[1 2]}", ["!expected separator in list"]),
        ("[\"\\x\" foo]", ["!invalid escape sequence in string"]),
        ("{\"a\":nul,\"a\" 2}", ["!invalid keyword 'nul'"]),
        ("#x\"{}\n", ["!stray '#'", "{}"]),
        ("#x:{}\n", ["!stray '#'", "!expecting value", "{}"]),
        ("#a b\t{}\n", ["!stray '#'", "{}"]),
        ("01\n", ["!stray '01'"]),
        ("-\n-a\n1\n", ["!stray '-\n'", "1"]),
        ("1.\n\n1.5e\n\n-1 ", ["!stray '1.\n'", "!stray '1.5e\n'", "-1"]),
        ("1x\n", ["1", "!invalid keyword 'x'"]),
        ("1-1\n", ["1", "-1"]),
        ("1.5.5\n", ["1.5", "!stray '.'"]),
        ("0x10\n", ["0", "!invalid keyword 'x'", "10"]),
        ("TRUE\n", ["!stray 'T'"]),
        ("trUe\n", ["!invalid keyword 'tr'", "!stray 'U'"]),
        ("true1\n", ["true", "1"]),
        ("true_\n", ["true", "!stray '_'"]),
        ("a-b\n", ["!invalid keyword 'a'", "!stray '-b'"]),
        ("true\"a\"1'b'\n", ["true", "\"a\"", "1", "\"b\""]),
        ("12{}\n", ["12", "{}"]),
        ("'a\"b' '\\'' ", ["\"a\\\"b\"", "\"'\""]),
        ("\"\\u12\"\n", ["!\\u12\" is not a valid Unicode character"]),
        ("\"\\u12g4\"\n", ["!\\u12g4 is not a valid Unicode character"]),
        ("[\"\\u\"]\n", ["!\\u\" is not a valid Unicode character"]),
        ("[\"abc\\u1\\u\"]\n", ["!\\u1\\u\" is not a valid Unicode character"]),
        ("[\"\\ud83d\\n\"]\n", ["!\\ud83d is not a valid Unicode character"]),
        ("[\"\\ud83d\\udc\"]\n", ["!\\ud83d is not a valid Unicode character"]),
        ("\"\\uFFFF\"\"\\uDE00\"", ["!\\uFFFF is not a valid Unicode character", "!\\uDE00 is not a valid Unicode character"]),
        ("\"\\u0000\\u00e9\\ud83d\\ude00\"", ["\"\\u0000\\u00E9\\uD83D\\uDE00\""]),
        ("\"\u00e9\U0001F600\u007f\\/\\b\\f\\n\\r\\t\\\"\\\\\"", ["\"\\u00E9\\uD83D\\uDE00\\u007F/\\b\\f\\n\\r\\t\\\"\\\\\""]),
        ("\"\ufffe\"", ["!invalid UTF-8 sequence in string"]),
        ("\u00e9\n", ["!stray '\ufffd'"]),
        ("\u000b\n", ["!stray '\u000b'"]),
        ("\"a\0\"\n", ["!stray '\"a'"]),
        ("%d\n[]", ["!stray '%'", "[]"]),
        ("[1e3, 0.1, -0, 1e300, 18446744073709551615, 9223372036854775808, -9223372036854775808, -9223372036854775809, 18446744073709551616]",
            ["[1000, 0.10000000000000001, 0, 1.0000000000000001e+300, 18446744073709551615, 9223372036854775808, "
                + "-9223372036854775808, -9.2233720368547758e+18, 1.8446744073709552e+19]"]),
        ("[123456789.123, 1e-7, -0.0, 3.0, 1e999, -1e-999, 1e16, 1e17, 0.0001, 0.00001, 5e-324, -1.5]",
            ["[123456789.123, 9.9999999999999995e-08, -0, 3, inf, -0, 10000000000000000, 1e+17, 0.0001, 1.0000000000000001e-05, "
                + "4.9406564584124654e-324, -1.5]"]),
    ];

    private static IEnumerable<TestCaseData> Conversations() => s_conversations
        .Select((c, i) => new TestCaseData(Encoding.UTF8.GetBytes(c.Input), c.Output).SetArgDisplayNames(i + ": " + c.Input));

    [TestCaseSource(nameof(Conversations))]
    public void OutputIsQemus(byte[] input, string[] output) => Assert.That(Parse([input]), Is.EqualTo(output));

    [TestCaseSource(nameof(Conversations))]
    public void AnySplitGivesTheSame(byte[] input, string[] output)
    {
        for (int i = 0; i <= input.Length; i++)
        {
            Assert.That(Parse([input[..i], input[i..]]), Is.EqualTo(output), $"split at {i}");
        }

        Assert.That(Parse(input.Select(b => new[] { b })), Is.EqualTo(output), "byte by byte");
    }

    [TestCase(new byte[] { (byte)'"', 0xFF, (byte)'"', (byte)'\n' }, "!stray '\"\ufffd'")]
    [TestCase(new byte[] { (byte)'"', 0xE9, (byte)'"', (byte)'\n' }, "!invalid UTF-8 sequence in string")]
    [TestCase(new byte[] { (byte)'"', 0xC1, 0x81, (byte)'"', (byte)'\n' }, "!invalid UTF-8 sequence in string")]
    [TestCase(new byte[] { (byte)'"', 0xED, 0xA0, 0x80, (byte)'"', (byte)'\n' }, "!invalid UTF-8 sequence in string")]
    [TestCase(new byte[] { (byte)'"', 0xC0, 0x80, (byte)'"', (byte)'\n' }, "\"\\u0000\"")]
    public void InvalidUtf8(byte[] input, string output) => Assert.That(Parse([input]), Is.EqualTo(new[] { output }));

    [Test]
    public void NestingIsLimited()
    {
        Assert.That(Parse([Encoding.ASCII.GetBytes(new string('[', 1024) + new string(']', 1024))]), Has.Count.EqualTo(1).And.All.StartsWith("["));
        List<string> deep = Parse([Encoding.ASCII.GetBytes(new string('[', 1025) + new string(']', 1025))]);
        Assert.That(deep, Has.Count.EqualTo(1026));
        Assert.That(deep[0], Is.EqualTo("!!JSON nesting depth limit exceeded"));
        Assert.That(deep[1], Is.EqualTo("!expecting value"));
    }

    [Test]
    public void TokensAreLimited()
    {
        byte[] input = Encoding.ASCII.GetBytes("[" + string.Concat(Enumerable.Repeat("0,", 1 << 20)) + "0]");
        Assert.That(Parse([input])[0], Is.EqualTo("!!JSON token count limit exceeded"));
    }

    [Test]
    public void TokenSizeIsLimited()
    {
        var parser = new JsonStreamParser();
        byte[] chunk = new byte[1 << 20];
        Array.Fill(chunk, (byte)'a');
        parser.Read("\""u8, out _, out _, out _);
        var results = new List<JsonReadResult>();
        QapiException? error = null;
        for (int i = 0; i < 64 && error == null; i++)
        {
            results.Add(parser.Read(chunk, out _, out _, out error));
        }

        Assert.That(error?.Desc, Is.EqualTo("JSON token size limit exceeded"));
        Assert.That(results, Has.Count.EqualTo(64));
    }

    [TestCase("{", "JSON parse error, premature EOI")]
    [TestCase("", "Expecting a JSON value")]
    [TestCase("{\"driver\":\"x\"} {}", "Expecting at most one JSON value")]
    [TestCase("{\"driver\":\"x", "JSON parse error, stray '\"x'")]
    [TestCase("{\"driver\":\"x\"}}", "Expecting at most one JSON value")]
    [TestCase("{\"driver\":\"x\"} z", "Expecting at most one JSON value")]
    [TestCase("{\"driver\":tru", "JSON parse error, invalid keyword 'tru'")]
    [TestCase("{1", "JSON parse error, key is not a string in object")]
    public void SingleValueErrors(string text, string desc) =>
        Assert.That(Assert.Throws<QapiException>(() => QValue.Parse(text))!.Desc, Is.EqualTo(desc));

    [Test]
    public void SingleValueAtTheEndOfText() => Assert.That(QValue.Parse(" 12").ToJson(), Is.EqualTo("12"));

    [Test]
    public void WhatIsWrittenIsReadBack()
    {
        Gen<QValue> scalar = Gen.OneOf(
            ArbMap.Default.GeneratorFor<long>().Select(v => (QValue)v),
            ArbMap.Default.GeneratorFor<ulong>().Select(v => (QValue)v),
            ArbMap.Default.GeneratorFor<bool>().Select(v => (QValue)v),
            ArbMap.Default.GeneratorFor<double>().Where(double.IsFinite).Select(v => (QValue)v),
            ArbMap.Default.GeneratorFor<string>().Where(s => s != null && IsScalarText(s)).Select(v => (QValue)v),
            Gen.Constant((QValue)QNull.Instance));
        Gen<QValue> Tree(int size) => size <= 0
            ? scalar
            : Gen.OneOf(
                scalar,
                Tree(size / 3).ListOf().Select(items => (QValue)QList.Create(items.ToArray())),
                Tree(size / 3).ListOf().Select(items =>
                {
                    var dict = new QDict();
                    foreach (QValue item in items)
                    {
                        dict["k" + dict.Count * 7] = item;
                    }

                    return (QValue)dict;
                }));
        Prop.ForAll(Arb.From(Gen.Sized(n => Tree(Math.Min(n, 30)))), value =>
        {
            Assert.That(QValue.Parse(value.ToJson()).ValueEquals(value), value.ToJson());
            Assert.That(QValue.Parse(value.ToJson(pretty: true)).ValueEquals(value));
        }).QuickCheckThrowOnFailure();
    }

    [Test]
    public void GarbageNeverThrowsAndSplitsDoNotMatter() => Prop.ForAll<byte[], int>((bytes, at) =>
    {
        byte[] alphabet = "{}[]:,\"'\\ \n0123456789.eE+-truefalsnu\0\u00e9#%"u8.ToArray();
        byte[] input = bytes.Select(b => alphabet[b % alphabet.Length]).ToArray();
        int split = input.Length == 0 ? 0 : (int)((uint)at % (uint)input.Length);
        Assert.That(Parse([input[..split], input[split..]]), Is.EqualTo(Parse([input])));
    }).QuickCheckThrowOnFailure();

    [Test]
    public void SmallCommandsAllocateLittle()
    {
        var parser = new JsonStreamParser();
        byte[] command = """{"execute": "query-status"}"""u8.ToArray();
        for (int i = 0; i < 100; i++)
        {
            parser.Read(command, out _, out _, out _);
        }

        long before = GC.GetAllocatedBytesForCurrentThread();
        parser.Read(command, out _, out _, out _);
        Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.LessThan(400));
    }

    private static bool IsScalarText(string text)
    {
        foreach (Rune rune in text.EnumerateRunes())
        {
            if (!ModifiedUtf8.IsValid(rune.Value) || rune == Rune.ReplacementChar)
            {
                return false;
            }
        }

        return true;
    }

    private static List<string> Parse(IEnumerable<byte[]> chunks)
    {
        var parser = new JsonStreamParser();
        var output = new List<string>();
        foreach (byte[] chunk in chunks)
        {
            ReadOnlySpan<byte> rest = chunk;
            JsonReadResult result;
            do
            {
                result = parser.Read(rest, out int consumed, out QValue? value, out QapiException? error);
                rest = rest[consumed..];
                if (result != JsonReadResult.NeedMoreInput)
                {
                    output.Add(value?.ToJson() ?? "!" + error!.Desc.Replace("JSON parse error, ", "", StringComparison.Ordinal)
                        .Insert(0, error.Desc.StartsWith("JSON parse", StringComparison.Ordinal) ? "" : "!"));
                }
            }
            while (result != JsonReadResult.NeedMoreInput);
            Assert.That(rest.IsEmpty);
        }

        return output;
    }
}
