using System.Diagnostics;

namespace Vmm.Benchmarks;

/// <summary>The images that the block layer is measured with, and the commands that open them as node "n" (source) and "t" (target).</summary>
internal sealed class DiskImages(string directory)
{
    /// <summary>Size of every image; all of a source is data.</summary>
    public const long Bytes = 256 << 20;

    /// <summary>Reads zeroes at once.</summary>
    public const string Null = """{"execute":"blockdev-add","arguments":{"driver":"null-co","node-name":"n","size":268435456,"read-zeroes":true}}""";

    /// <summary>Copies "n" to "t".</summary>
    public const string Mirror = """{"execute":"blockdev-mirror","arguments":{"job-id":"j","device":"n","target":"t","sync":"full"}}""";

    /// <summary>Copies "n" to "t" as it was when it began.</summary>
    public const string Backup = """{"execute":"blockdev-backup","arguments":{"job-id":"j","device":"n","target":"t","sync":"full"}}""";

    /// <summary>Fills "t" from what is below it.</summary>
    public const string Stream = """{"execute":"block-stream","arguments":{"job-id":"j","device":"t"}}""";

    /// <summary>Brings what "n" has to the image below it.</summary>
    public const string Commit = """{"execute":"block-commit","arguments":{"job-id":"j","device":"n"}}""";

    private string? _raw;
    private string? _qcow2;

    /// <summary>Name of the raw file.</summary>
    public string RawFile => _raw ??= Fill();

    /// <summary>Name of the raw file that is written.</summary>
    public string RawTargetFile => At("target.raw");

    /// <summary>A raw file.</summary>
    public string Raw => Node("n", "raw", RawFile);

    /// <summary>The same as qcow2.</summary>
    public string Qcow2 => Node("n", "qcow2", _qcow2 ??= Convert(RawFile));

    /// <summary>An empty raw file.</summary>
    public string RawTarget => Node("t", "raw", RawTargetFile);

    /// <summary>The source as an image above "t".</summary>
    public string Qcow2AboveTarget => Node("n", "qcow2", _qcow2 ??= Convert(RawFile), "t");

    /// <summary>An empty qcow2 image above "n".</summary>
    public string Qcow2TargetAbove => Node("t", "qcow2", At("target.qcow2"), "n");

    /// <summary>An empty qcow2 image.</summary>
    public string Qcow2Target => Node("t", "qcow2", At("target.qcow2"));

    /// <summary>Makes the raw target empty.</summary>
    public void EmptyRaw()
    {
        File.Delete(RawTargetFile);
        using FileStream file = File.Create(RawTargetFile);
        file.SetLength(Bytes);
    }

    /// <summary>Makes the qcow2 target empty.</summary>
    public void EmptyQcow2()
    {
        File.Delete(At("target.qcow2"));
        Run("create", "-q", "-f", "qcow2", At("target.qcow2"), Bytes.ToString(System.Globalization.CultureInfo.InvariantCulture));
    }

    // Both emulators have the image open at a time and write to clusters that exist: nothing that a lock would guard.
    private static string Node(string name, string format, string path, string? backing = null) =>
        $$$"""{"execute":"blockdev-add","arguments":{"driver":"{{{format}}}","node-name":"{{{name}}}",{{{(backing is null ? "" : $"\"backing\":\"{backing}\",")}}}"file":{"driver":"file","filename":"{{{path}}}","locking":"off"} } }""";

    private string At(string name) => Path.Combine(directory, name);

    private string Fill()
    {
        byte[] part = new byte[1 << 20];
        Random random = new(7);
        using FileStream file = File.Create(At("source.raw"));
        for (long i = 0; i < Bytes; i += part.Length)
        {
            random.NextBytes(part);
            file.Write(part);
        }

        return At("source.raw");
    }

    private string Convert(string raw)
    {
        Run("convert", "-f", "raw", "-O", "qcow2", raw, At("source.qcow2"));
        return At("source.qcow2");
    }

    /// <summary>Runs qemu-img.</summary>
    public static void Run(params string[] arguments)
    {
        using Process process = Process.Start("qemu-img", arguments);
        process.WaitForExit();
        if (process.ExitCode != 0)
        {
            throw new InvalidOperationException("qemu-img " + string.Join(' ', arguments));
        }
    }
}
