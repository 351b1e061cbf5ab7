using System.Globalization;

namespace Vmm.Kvm.CpuModels;

/// <summary>A named CPU model.</summary>
/// <param name="Name">Name, with its version for models that have one.</param>
/// <param name="Family">CPUID family.</param>
/// <param name="Model">CPUID model.</param>
/// <param name="Stepping">CPUID stepping.</param>
/// <param name="Level">Highest basic leaf, at least.</param>
/// <param name="XLevel">Highest extended leaf, at least.</param>
/// <param name="OwnCaches">The caches of the real processor instead of generic ones.</param>
/// <param name="ModelId">Brand string.</param>
/// <param name="Features">Words of features as they are under KVM.</param>
public sealed record CpuModelDefinition(
    string Name, int Family, int Model, int Stepping, uint Level, uint XLevel, bool OwnCaches, string ModelId, ulong[] Features);

/// <summary>The named CPU models, as a compact text that is parsed when a model is asked for.</summary>
public static class CpuModelTable
{
    // A line that begins with a blank continues the one before:
    // name|family|model|stepping|level|xlevel|xlevel2|L for own caches|brand|word:bits,...   or   name>versioned name
    private const string Source = """
        qemu64-v1|15|107|1|d|8000000a|0||QEMU Virtual CPU version 2.5+|0:78bfbfd,1:80202001,6:20100800,7:1,11:100007b
        qemu64>qemu64-v1
        qemu32-v1|6|6|3|4|80000004|0||QEMU Virtual CPU version 2.5+|0:781abfd,1:80200001,11:100007b
        qemu32>qemu32-v1
        phenom-v1|16|2|3|5|8000001a|0||AMD Phenom(tm) 9550 Quad-Core Processor|0:78bfbff,1:80a02001,6:ee500800,7:61,11:100007b
        phenom>phenom-v1
        pentium3-v1|6|7|3|3|0|0|||0:383fbff,1:80200000,11:100007b
        pentium3>pentium3-v1
        pentium2-v1|6|5|2|2|0|0|||0:183fbff,1:80200000,11:100007b
        pentium2>pentium2-v1
        pentium-v1|5|4|3|1|0|0|||0:8003bf,1:80200000,11:100007b
        pentium>pentium-v1
        n270-v1|6|28|2|a|80000008|0||Intel(R) Atom(TM) CPU N270   @ 1.60GHz|0:f89fbff,1:80600201,6:100000,7:1,11:100007b
        n270>n270-v1
        kvm64-v1|15|6|1|d|80000008|0||Common KVM processor|0:78bfbff,1:80202001,6:20100800,11:100007b
        kvm64>kvm64-v1
        kvm32-v1|15|6|1|5|80000008|0||Common 32-bit KVM processor|0:78bfbff,1:80200001,11:100007b
        kvm32>kvm32-v1
        coreduo-v1|6|14|8|a|80000008|0||Genuine Intel(R) CPU           T2600  @ 2.16GHz|0:f89fbff,1:80200001,6:100000,11:100007b
        coreduo>coreduo-v1
        core2duo-v1|6|15|11|a|80000008|0||Intel(R) Core(TM)2 Duo CPU     T7700  @ 2.40GHz|0:f8bfbff,1:80202201,6:20100800,7:1,11:100007b
        core2duo>core2duo-v1
        athlon-v1|6|2|3|2|80000008|0||QEMU Virtual CPU version 2.5+|0:783fbff,1:80200000,6:c0400000,11:100007b
        athlon>athlon-v1
        Westmere-v2|6|44|1|b|80000008|0||Westmere E56xx/L56xx/X56xx (IBRS update)|0:78bfbff,1:82b82203,4:4000000,6:20100800,7:1,
         11:100007b,15:4
        Westmere-v1|6|44|1|b|80000008|0||Westmere E56xx/L56xx/X56xx (Nehalem-C)|0:78bfbff,1:82b82203,6:20100800,7:1,11:100007b,15:4
        Westmere-IBRS>Westmere-v2
        Westmere>Westmere-v1
        Snowridge-v4|6|134|1|1b|80000008|0||Intel Atom Processor (Snowridge, no MPX)|0:78bfbff,1:c7f82203,2:21940281,3:1a000104,
         4:a4000000,6:2c100800,7:101,11:100007b,14:f,15:4
        Snowridge-v3|6|134|1|1b|80000008|0||Intel Atom Processor (Snowridge, no MPX)|0:78bfbff,1:c7f82203,2:21940281,3:1a000104,
         4:e4000000,6:2c100800,7:101,11:100007b,14:f,15:4,19:20
        Snowridge-v2|6|134|1|1b|80000008|0||Intel Atom Processor (Snowridge, no MPX)|0:78bfbff,1:c7f82203,2:21940281,3:1a000104,
         4:e4000000,6:2c100800,7:101,11:100007b,14:7,15:4,19:20
        Snowridge-v1|6|134|1|1b|80000008|0||Intel Atom Processor (SnowRidge)|0:78bfbff,1:c7f82203,2:21944281,3:1a000104,4:e4000000,
         6:2c100800,7:101,11:100007b,14:7,15:4,19:20
        Snowridge>Snowridge-v1
        Skylake-Server-v5|6|85|4|d|80000008|0||Intel Xeon Processor (Skylake, IBRS, no TSX)|0:78bfbff,1:f7fa3203,2:d11f07a9,3:8,4:4000000,
         6:2c100800,7:121,11:100007b,14:f,15:4
        Skylake-Server-v4|6|85|4|d|80000008|0||Intel Xeon Processor (Skylake, IBRS, no TSX)|0:78bfbff,1:f7fa3203,2:d11f07a9,3:8,4:4000000,
         6:2c100800,7:121,11:100007b,14:7,15:4
        Skylake-Server-v3|6|85|4|d|80000008|0||Intel Xeon Processor (Skylake, IBRS, no TSX)|0:78bfbff,1:f7fa3203,2:d11f07a9,3:8,4:4000000,
         6:2c100800,7:121,11:100007b,14:7,15:4
        Skylake-Server-v2|6|85|4|d|80000008|0||Intel Xeon Processor (Skylake, IBRS)|0:78bfbff,1:f7fa3203,2:d11f0fb9,3:8,4:4000000,
         6:2c100800,7:121,11:100007b,14:7,15:4
        Skylake-Server-v1|6|85|4|d|80000008|0||Intel Xeon Processor (Skylake)|0:78bfbff,1:f7fa3203,2:d19f0fb9,3:8,6:2c100800,7:121,
         11:100007b,14:7,15:4
        Skylake-Server-noTSX-IBRS>Skylake-Server-v3
        Skylake-Server-IBRS>Skylake-Server-v2
        Skylake-Server>Skylake-Server-v1
        Skylake-Client-v4|6|94|3|d|80000008|0||Intel Core Processor (Skylake, IBRS, no TSX)|0:78bfbff,1:f7fa3203,2:1c07a9,4:4000000,
         6:28100800,7:121,11:100007b,14:f,15:4
        Skylake-Client-v3|6|94|3|d|80000008|0||Intel Core Processor (Skylake, IBRS, no TSX)|0:78bfbff,1:f7fa3203,2:1c07a9,4:4000000,
         6:28100800,7:121,11:100007b,14:7,15:4
        Skylake-Client-v2|6|94|3|d|80000008|0||Intel Core Processor (Skylake, IBRS)|0:78bfbff,1:f7fa3203,2:1c0fb9,4:4000000,6:28100800,
         7:121,11:100007b,14:7,15:4
        Skylake-Client-v1|6|94|3|d|80000008|0||Intel Core Processor (Skylake)|0:78bfbff,1:f7fa3203,2:1c0fb9,6:28100800,7:121,11:100007b,
         14:7,15:4
        Skylake-Client-noTSX-IBRS>Skylake-Client-v3
        Skylake-Client-IBRS>Skylake-Client-v2
        Skylake-Client>Skylake-Client-v1
        SandyBridge-v2|6|42|1|d|80000008|0||Intel Xeon E312xx (Sandy Bridge, IBRS update)|0:78bfbff,1:97b82203,4:4000000,6:28100800,7:1,
         11:100007b,14:1,15:4
        SandyBridge-v1|6|42|1|d|80000008|0||Intel Xeon E312xx (Sandy Bridge)|0:78bfbff,1:97b82203,6:28100800,7:1,11:100007b,14:1,15:4
        SandyBridge-IBRS>SandyBridge-v2
        SandyBridge>SandyBridge-v1
        Penryn-v1|6|23|3|a|80000008|0||Intel Core 2 Duo P9xxx (Penryn Class Core 2)|0:78bfbff,1:80282201,6:20100800,7:1,11:100007b
        Penryn>Penryn-v1
        Opteron_G5-v1|21|2|0|d|8000001a|0||AMD Opteron 63xx class CPU|0:78bfbff,1:b6b83203,6:2c100800,7:2109e1,11:100007b
        Opteron_G5>Opteron_G5-v1
        Opteron_G4-v1|21|1|2|d|8000001a|0||AMD Opteron 62xx class CPU|0:78bfbff,1:96b82203,6:2c100800,7:109e1,11:100007b
        Opteron_G4>Opteron_G4-v1
        Opteron_G3-v1|16|2|3|5|80000008|0||AMD Opteron 23xx (Gen 3 Class Opteron)|0:78bfbff,1:80a02001,6:28100800,7:e1,11:100007b
        Opteron_G3>Opteron_G3-v1
        Opteron_G2-v1|15|6|1|5|80000008|0||AMD Opteron 22xx (Gen 2 Class Opteron)|0:78bfbff,1:80202001,6:20100800,7:1,11:100007b
        Opteron_G2>Opteron_G2-v1
        Opteron_G1-v1|15|6|1|5|80000008|0||AMD Opteron 240 (Gen 1 Class Opteron)|0:78bfbff,1:80200001,6:20100800,11:100007b
        Opteron_G1>Opteron_G1-v1
        Nehalem-v2|6|26|3|b|80000008|0||Intel Core i7 9xx (Nehalem Core i7, IBRS update)|0:78bfbff,1:80b82201,4:4000000,6:20100800,7:1,
         11:100007b
        Nehalem-v1|6|26|3|b|80000008|0||Intel Core i7 9xx (Nehalem Class Core i7)|0:78bfbff,1:80b82201,6:20100800,7:1,11:100007b
        Nehalem-IBRS>Nehalem-v2
        Nehalem>Nehalem-v1
        KnightsMill-v1|6|133|0|d|80000008|0||Intel Xeon Phi Processor (Knights Mill)|0:f8bfbff,1:f7f83203,2:1c0d03a9,3:4000,4:c,
         6:2c100800,7:121,11:100007b,14:1,15:4
        KnightsMill>KnightsMill-v1
        IvyBridge-v2|6|58|9|d|80000008|0||Intel Xeon E3-12xx v2 (Ivy Bridge, IBRS)|0:78bfbff,1:f7b82203,2:281,4:4000000,6:28100800,7:1,
         11:100007b,14:1,15:4
        IvyBridge-v1|6|58|9|d|80000008|0||Intel Xeon E3-12xx v2 (Ivy Bridge)|0:78bfbff,1:f7b82203,2:281,6:28100800,7:1,11:100007b,14:1,
         15:4
        IvyBridge-IBRS>IvyBridge-v2
        IvyBridge>IvyBridge-v1
        Icelake-Server-v6|6|106|0|d|80000008|0||Intel Xeon Processor (Icelake)|0:78bfbff,1:f7fa3203,2:f1bf07a9,3:415f4e,4:a4000010,
         6:2c100800,7:121,9:200,11:100007b,14:f,15:4,18:16b
        Icelake-Server-v5|6|106|0|d|80000008|0||Intel Xeon Processor (Icelake)|0:78bfbff,1:f7fa3203,2:f1bf07a9,3:415f4e,4:a4000010,
         6:2c100800,7:121,9:200,11:100007b,14:f,15:4,18:16b
        Icelake-Server-v4|6|106|0|d|80000008|0||Intel Xeon Processor (Icelake)|0:78bfbff,1:f7fa3203,2:f1bf07a9,3:415f4e,4:a4000010,
         6:2c100800,7:121,9:200,11:100007b,14:7,15:4,18:16b
        Icelake-Server-v3|6|134|0|d|80000008|0||Intel Xeon Processor (Icelake)|0:78bfbff,1:f7fa3203,2:d19f07a9,3:15f4e,4:a4000000,
         6:2c100800,7:121,9:200,11:100007b,14:7,15:4,18:16b
        Icelake-Server-v2|6|134|0|d|80000008|0||Intel Xeon Processor (Icelake)|0:78bfbff,1:f7fa3203,2:d19f07a9,3:15f4e,4:84000000,
         6:2c100800,7:121,9:200,11:100007b,14:7,15:4
        Icelake-Server-v1|6|134|0|d|80000008|0||Intel Xeon Processor (Icelake)|0:78bfbff,1:f7fa3203,2:d19f0fb9,3:15f4e,4:84000000,
         6:2c100800,7:121,9:200,11:100007b,14:7,15:4
        Icelake-Server-noTSX>Icelake-Server-v2
        Icelake-Server>Icelake-Server-v1
        Haswell-v4|6|60|1|d|80000008|0||Intel Core Processor (Haswell, no TSX, IBRS)|0:78bfbff,1:f7fa3203,2:7a9,4:4000000,6:28100800,7:21,
         11:100007b,14:1,15:4
        Haswell-v3|6|60|4|d|80000008|0||Intel Core Processor (Haswell, IBRS)|0:78bfbff,1:f7fa3203,2:fb9,4:4000000,6:28100800,7:21,
         11:100007b,14:1,15:4
        Haswell-v2|6|60|1|d|80000008|0||Intel Core Processor (Haswell, no TSX)|0:78bfbff,1:f7fa3203,2:7a9,6:28100800,7:21,11:100007b,14:1,
         15:4
        Haswell-v1|6|60|4|d|80000008|0||Intel Core Processor (Haswell)|0:78bfbff,1:f7fa3203,2:fb9,6:28100800,7:21,11:100007b,14:1,15:4
        Haswell-noTSX-IBRS>Haswell-v4
        Haswell-noTSX>Haswell-v2
        Haswell-IBRS>Haswell-v3
        Haswell>Haswell-v1
        EPYC-v3|23|1|2|d|8000001e|0|L|AMD EPYC Processor|0:78bfbff,1:f6f83203,2:209c01a9,6:2e500800,7:c003f1,9:1005,11:100007b,14:f,15:4
        EPYC-v2|23|1|2|d|8000001e|0|L|AMD EPYC Processor (with IBPB)|0:78bfbff,1:f6f83203,2:209c01a9,6:2e500800,7:4003f1,9:1000,
         11:100007b,14:7,15:4
        EPYC-v1|23|1|2|d|8000001e|0|L|AMD EPYC Processor|0:78bfbff,1:f6f83203,2:209c01a9,6:2e500800,7:4003f1,11:100007b,14:7,15:4
        EPYC-Rome-v2|23|49|0|d|8000001e|0|L|AMD EPYC-Rome Processor|0:78bfbff,1:f6f83203,2:219c01a9,3:400004,6:2e500800,7:c003f1,
         9:100d205,11:100007b,14:f,15:4
        EPYC-Rome-v1|23|49|0|d|8000001e|0|L|AMD EPYC-Rome Processor|0:78bfbff,1:f6f83203,2:219c01a9,3:400004,6:2e500800,7:c003f1,9:9205,
         11:100007b,14:f,15:4
        EPYC-Rome>EPYC-Rome-v1
        EPYC-Milan-v1|25|1|1|d|8000001e|0|L|AMD EPYC-Milan Processor|0:78bfbff,1:f6fa3203,2:219c07a9,3:40000c,4:10,6:2e500800,7:c003f1,
         9:100d205,11:100007b,14:f,15:4
        EPYC-Milan>EPYC-Milan-v1
        EPYC-IBPB>EPYC-v2
        EPYC>EPYC-v1
        Dhyana-v2|24|0|1|d|8000001e|0|L|Hygon Dhyana Processor|0:78bfbff,1:f4f83201,2:9c01a9,6:2e500800,7:4003f1,9:1000,11:100007b,14:f,
         15:4
        Dhyana-v1|24|0|1|d|8000001e|0|L|Hygon Dhyana Processor|0:78bfbff,1:f4f83201,2:9c01a9,6:2e500800,7:4003f1,9:1000,11:100007b,14:7,
         15:4
        Dhyana>Dhyana-v1
        Denverton-v3|6|95|1|15|80000008|0||Intel Atom Processor (Denverton)|0:78bfbff,1:c7f82203,2:20940281,4:a4000000,6:2c100800,7:101,
         11:100007b,14:f,15:4,18:9
        Denverton-v2|6|95|1|15|80000008|0||Intel Atom Processor (Denverton)|0:78bfbff,1:c7f82203,2:20940281,4:a4000000,6:2c100800,7:101,
         11:100007b,14:7,15:4,18:9
        Denverton-v1|6|95|1|15|80000008|0||Intel Atom Processor (Denverton)|0:78bfbff,1:c7f82203,2:20944281,4:a4000000,6:2c100800,7:101,
         11:100007b,14:7,15:4,18:9
        Denverton>Denverton-v1
        Cooperlake-v2|6|85|10|d|80000008|0||Intel Xeon Processor (Cooperlake)|0:78bfbff,1:f7fa3203,2:d19f0fb9,3:808,4:ac000000,5:20,
         6:2c100800,7:121,11:100007b,14:f,15:4,18:16b
        Cooperlake-v1|6|85|10|d|80000008|0||Intel Xeon Processor (Cooperlake)|0:78bfbff,1:f7fa3203,2:d19f0fb9,3:808,4:ac000000,5:20,
         6:2c100800,7:121,11:100007b,14:7,15:4,18:16b
        Cooperlake>Cooperlake-v1
        Conroe-v1|6|15|3|a|80000008|0||Intel Celeron_4x0 (Conroe/Merom Class Core 2)|0:78bfbff,1:80200201,6:20100800,7:1,11:100007b
        Conroe>Conroe-v1
        Cascadelake-Server-v5|6|85|6|d|80000008|0||Intel Xeon Processor (Cascadelake)|0:78bfbff,1:f7fa3203,2:d19f07a9,3:808,4:a4000000,
         6:2c100800,7:121,11:100007b,14:f,15:4,18:2b
        Cascadelake-Server-v4|6|85|6|d|80000008|0||Intel Xeon Processor (Cascadelake)|0:78bfbff,1:f7fa3203,2:d19f07a9,3:808,4:a4000000,
         6:2c100800,7:121,11:100007b,14:7,15:4,18:2b
        Cascadelake-Server-v3|6|85|6|d|80000008|0||Intel Xeon Processor (Cascadelake)|0:78bfbff,1:f7fa3203,2:d19f07a9,3:808,4:a4000000,
         6:2c100800,7:121,11:100007b,14:7,15:4,18:2b
        Cascadelake-Server-v2|6|85|6|d|80000008|0||Intel Xeon Processor (Cascadelake)|0:78bfbff,1:f7fa3203,2:d19f0fb9,3:808,4:a4000000,
         6:2c100800,7:121,11:100007b,14:7,15:4,18:2b
        Cascadelake-Server-v1|6|85|6|d|80000008|0||Intel Xeon Processor (Cascadelake)|0:78bfbff,1:f7fa3203,2:d19f0fb9,3:808,4:84000000,
         6:2c100800,7:121,11:100007b,14:7,15:4
        Cascadelake-Server-noTSX>Cascadelake-Server-v3
        Cascadelake-Server>Cascadelake-Server-v1
        Broadwell-v4|6|61|2|d|80000008|0||Intel Core Processor (Broadwell, no TSX, IBRS)|0:78bfbff,1:f7fa3203,2:1c07a9,4:4000000,
         6:28100800,7:121,11:100007b,14:1,15:4
        Broadwell-v3|6|61|2|d|80000008|0||Intel Core Processor (Broadwell, IBRS)|0:78bfbff,1:f7fa3203,2:1c0fb9,4:4000000,6:28100800,7:121,
         11:100007b,14:1,15:4
        Broadwell-v2|6|61|2|d|80000008|0||Intel Core Processor (Broadwell, no TSX)|0:78bfbff,1:f7fa3203,2:1c07a9,6:28100800,7:121,
         11:100007b,14:1,15:4
        Broadwell-v1|6|61|2|d|80000008|0||Intel Core Processor (Broadwell)|0:78bfbff,1:f7fa3203,2:1c0fb9,6:28100800,7:121,11:100007b,14:1,
         15:4
        Broadwell-noTSX-IBRS>Broadwell-v4
        Broadwell-noTSX>Broadwell-v2
        Broadwell-IBRS>Broadwell-v3
        Broadwell>Broadwell-v1
        486-v1|4|8|0|1|0|0|||0:b,1:80200000,11:100007b
        486>486-v1
        """;

    private static string? s_text;

    private static string Text => s_text ??= Source.Replace("\n ", "", StringComparison.Ordinal);

    /// <summary>Calls <paramref name="visit"/> with each name, in the order of query-cpu-definitions, and the versioned name that it
    /// stands for (null for itself).</summary>
    public static void ForEach(Action<string, string?> visit)
    {
        foreach (ReadOnlySpan<char> line in Text.AsSpan().EnumerateLines())
        {
            int alias = line.IndexOf('>');
            int bar = line.IndexOf('|');
            if (alias >= 0 && bar < 0)
            {
                visit(line[..alias].ToString(), line[(alias + 1)..].ToString());
            }
            else
            {
                visit(line[..bar].ToString(), null);
            }
        }
    }

    /// <summary>The model of that name; null for none.</summary>
    public static CpuModelDefinition? Find(string name)
    {
        foreach (ReadOnlySpan<char> line in Text.AsSpan().EnumerateLines())
        {
            if (line.StartsWith(name, StringComparison.Ordinal) && line.Length > name.Length)
            {
                if (line[name.Length] == '>')
                {
                    return Find(line[(name.Length + 1)..].ToString());
                }

                if (line[name.Length] == '|')
                {
                    return Parse(line);
                }
            }
        }

        return null;
    }

    private static CpuModelDefinition Parse(ReadOnlySpan<char> line)
    {
        Span<Range> fields = stackalloc Range[11];
        int count = line.Split(fields, '|');
        if (count != 10)
        {
            throw new InvalidOperationException("CPU model table is damaged");
        }

        var features = new ulong[CpuFeatureWords.Count];
        ReadOnlySpan<char> words = line[fields[9]];
        foreach (Range range in words.Split(','))
        {
            ReadOnlySpan<char> word = words[range];
            int colon = word.IndexOf(':');
            if (colon > 0)
            {
                features[int.Parse(word[..colon], CultureInfo.InvariantCulture)] =
                    ulong.Parse(word[(colon + 1)..], NumberStyles.HexNumber, CultureInfo.InvariantCulture);
            }
        }

        return new CpuModelDefinition(
            line[fields[0]].ToString(),
            int.Parse(line[fields[1]], CultureInfo.InvariantCulture),
            int.Parse(line[fields[2]], CultureInfo.InvariantCulture),
            int.Parse(line[fields[3]], CultureInfo.InvariantCulture),
            uint.Parse(line[fields[4]], NumberStyles.HexNumber, CultureInfo.InvariantCulture),
            uint.Parse(line[fields[5]], NumberStyles.HexNumber, CultureInfo.InvariantCulture),
            line[fields[7]].Contains('L'),
            line[fields[8]].ToString(),
            features);
    }
}
