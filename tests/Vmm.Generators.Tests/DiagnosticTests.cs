using System.Collections.Immutable;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using Vmm.Generators.Qapi;
using Vmm.Generators.Qom;
using Vmm.Generators.VmState;
using Vmm.Qapi;

namespace Vmm.Generators.Tests;

/// <summary>What the generators refuse, and that an unchanged declaration is not processed again.</summary>
public sealed class DiagnosticTests
{
    [TestCase("""[QmpCommand("c", ArgsType = "a:s")] /// <summary>X.</summary>""", "int a", "VMM003")]
    [TestCase("""/// <summary>X.</summary> """ + "\n" + """[QmpCommand("c", ArgsType = "a:i")]""", "string a", "VMM003")]
    [TestCase("""/// <summary>X.</summary> """ + "\n" + """[QmpCommand("c", ArgsType = "a:i?")]""", "int a", "VMM003")]
    [TestCase("""/// <summary>X.</summary> """ + "\n" + """[QmpCommand("c", ArgsType = "a:i")]""", "int? a", "VMM003")]
    [TestCase("""/// <summary>X.</summary> """ + "\n" + """[QmpCommand("c", ArgsType = "a:i")]""", "", "VMM003")]
    [TestCase("""/// <summary>X.</summary> """ + "\n" + """[QmpCommand("c")]""", "int a", "VMM003")]
    [TestCase("""/// <summary>X.</summary> """ + "\n" + """[QmpCommand("c", ArgsType = "a:Z")]""", "int a", "VMM004")]
    [TestCase("""/// <summary>X.</summary> """ + "\n" + """[QmpCommand("c", ArgsType = "a:i,a:i")]""", "int a", "VMM004")]
    [TestCase("""/// <summary>X.</summary> """ + "\n" + """[QmpCommand("c", ArgsType = "a:q")]""", "System.Uri a", "VMM002")]
    [TestCase("""[QmpCommand("c")]""", "", "VMM006")]
    [TestCase("""/// <summary>X.</summary> """ + "\n" + """[QmpCommand("c"), QmpCommand("c")]""", "", "VMM005")]
    public void BadCommandsDoNotCompile(string attributes, string parameters, string id)
    {
        string source = $$"""
            using Vmm.Qapi;
            public static class Commands
            {
                {{attributes}}
                public static void Run({{parameters}}) { }
            }
            """;
        Assert.That(Run(source, new CommandGenerator()), Does.Contain(id));
    }

    [Test]
    public void GoodCommandsCompile() => Assert.That(
        Run(
            """
            using Vmm.Qapi;
            public static class Commands
            {
                /// <summary>X.</summary>
                [QmpCommand("c", ArgsType = "a-name:i,b:s?,c:o?,d:-f,e:T,props:q?")]
                public static void Run(int aName, string? b, ulong? c, double e, QDict? props, bool d = false) { }
            }
            """,
            new CommandGenerator()),
        Is.Empty);

    [TestCase("[QapiStruct] public record A { }", "VMM001")]
    [TestCase("[QapiStruct] public partial record A { public System.Uri? B { get; init; } }", "VMM002")]
    [TestCase("[QapiStruct] public partial record A { public int B { get; init; } [QapiName(\"b\")] public int C { get; init; } }", "VMM005")]
    [TestCase("[QapiUnion] public partial record A { public string Type { get; init; } }", "VMM007")]
    [TestCase("[QmpEvent(\"E\")] public partial record A { }", "VMM006")]
    public void BadTypesDoNotCompile(string source, string id) =>
        Assert.That(Run("using Vmm.Qapi;\n" + source, new QapiTypeGenerator()), Does.Contain(id));

    [TestCase("[QomType(\"a\")] public sealed partial class A : Device { protected override void Realize(IMachineServices m) { } }", "VMM022")]
    [TestCase("[QomType(\"a\")] public sealed partial class A { }", "VMM020")]
    [TestCase("[QomType(\"a\")] public abstract partial class A : QomObject { [QomProperty(\"p\")] public System.Uri? P { get; set; } }", "VMM021")]
    [TestCase("[QomType(\"a\")] public abstract partial class A : QomObject { }\n[QomType(\"a\")] public abstract partial class B : QomObject { }",
        "VMM005")]
    public void BadQomTypesDoNotCompile(string source, string id) => Assert.That(
        Run("using Vmm.ObjectModel.Devices; using Vmm.ObjectModel.Qom;\n" + source, new QomTypeGenerator()), Does.Contain(id));

    [TestCase("public string S { get; init; }")]
    [TestCase("public byte[] S { get; init; }")]
    [TestCase("[VmSubsection] public int S { get; init; }")]
    [TestCase("[VmArray(3)] public int S { get; init; }")]
    public void BadMigrationRecordsDoNotCompile(string member) => Assert.That(
        Run($"using Vmm.ObjectModel.VmState;\n[VmState(\"a\")] public sealed partial record A {{ {member} }}", new VmStateGenerator()),
        Does.Contain("VMM030"));

    [Test]
    public void UnrelatedEditsAreNotProcessedAgain()
    {
        CSharpCompilation compilation = Compilation("using Vmm.Qapi;\n[QapiStruct] public partial record A { public int B { get; init; } }");
        var options = new GeneratorDriverOptions(IncrementalGeneratorOutputKind.None, trackIncrementalGeneratorSteps: true);
        GeneratorDriver driver = CSharpGeneratorDriver.Create([new QapiTypeGenerator().AsSourceGenerator()], driverOptions: options)
            .RunGenerators(compilation)
            .RunGenerators(compilation.AddSyntaxTrees(CSharpSyntaxTree.ParseText("class Unrelated { }")));
        ImmutableArray<IncrementalGeneratorRunStep> outputs = driver.GetRunResult().Results[0].TrackedOutputSteps
            .SelectMany(s => s.Value).ToImmutableArray();
        Assert.That(outputs.SelectMany(o => o.Outputs).Select(o => o.Reason), Is.All.EqualTo(IncrementalStepRunReason.Cached));
    }

    private static CSharpCompilation Compilation(string source)
    {
        string trusted = (string)AppContext.GetData("TRUSTED_PLATFORM_ASSEMBLIES")!;
        return CSharpCompilation.Create(
            "Sample",
            [CSharpSyntaxTree.ParseText(source)],
            trusted.Split(':').Select(path => MetadataReference.CreateFromFile(path))
                .Append(MetadataReference.CreateFromFile(typeof(QValue).Assembly.Location)),
            new CSharpCompilationOptions(OutputKind.DynamicallyLinkedLibrary, nullableContextOptions: NullableContextOptions.Enable));
    }

    private static List<string> Run(string source, IIncrementalGenerator generator)
    {
        GeneratorDriver driver = CSharpGeneratorDriver.Create(generator).RunGenerators(Compilation(source));
        return driver.GetRunResult().Diagnostics.Select(d => d.Id).ToList();
    }
}
