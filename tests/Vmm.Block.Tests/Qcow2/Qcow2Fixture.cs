using System.Diagnostics;
using Vmm.Block.Graph;
using Vmm.EventLoop.Tasks;

namespace Vmm.Block.Tests.Qcow2;

/// <summary>Images made and looked at by qemu-img and qemu-io.</summary>
public abstract class Qcow2Fixture : BlockFixture
{
    [OneTimeSetUp]
    public void FindPeers()
    {
        if (!File.Exists("/usr/bin/qemu-img") || !File.Exists("/usr/bin/qemu-io"))
        {
            Assert.Ignore("qemu-img and qemu-io (package qemu-utils) are not installed");
        }
    }

    protected string PathOf(string name) => Path.Combine(Folder, name);

    // What qemu-img says when the CPU time of its key derivation rounds to nothing, as it may on any machine: it has made no image yet.
    private const string NoClock = "Unable to get accurate CPU usage";

    /// <summary>Runs qemu-img; fails the test when it fails.</summary>
    protected string Img(params string[] arguments)
    {
        int code;
        string text;
        do
        {
            (code, text) = Run("qemu-img", arguments);
        }
        while (code != 0 && text.Contains(NoClock, StringComparison.Ordinal));

        Assert.That(code, Is.Zero, "qemu-img " + string.Join(' ', arguments) + "\n" + text);
        return text;
    }

    /// <summary>Runs qemu-io commands on an image, as it opens with the given options.</summary>
    protected string Io(string image, params string[] commands)
    {
        List<string> arguments = [image];
        foreach (string command in commands)
        {
            arguments.Add("-c");
            arguments.Add(command);
        }

        var (code, text) = Run("qemu-io", [.. arguments]);
        Assert.That(code, Is.Zero, text);
        Assert.That(text, Does.Not.Contain("failed").And.Not.Contain("rror"));
        return text;
    }

    protected (int Code, string Text) Run(string program, params string[] arguments)
    {
        ProcessStartInfo start = new(program)
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            RedirectStandardInput = true,
            WorkingDirectory = Folder,
        };
        foreach (string argument in arguments)
        {
            start.ArgumentList.Add(argument);
        }

        using Process process = Process.Start(start)!;
        process.StandardInput.Close();
        Task<string> error = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return (process.ExitCode, output + error.Result);
    }

    /// <summary>Makes an image with the given options of qemu-img.</summary>
    protected string Create(string name, string size, string options = "", params string[] more)
    {
        List<string> arguments = ["create", "-q", "-f", "qcow2"];
        if (options.Length > 0)
        {
            arguments.AddRange(["-o", options]);
        }

        arguments.AddRange(more);
        arguments.Add(name);
        if (size.Length > 0)
        {
            arguments.Add(size);
        }

        Img([.. arguments]);
        return PathOf(name);
    }

    /// <summary>The guest's view of an image, as qemu-img has it.</summary>
    protected byte[] Convert(string image)
    {
        string raw = PathOf("converted.raw");
        File.Delete(raw);
        Img("convert", "-O", "raw", image, raw);
        return File.ReadAllBytes(raw);
    }

    protected BlockNode OpenImage(string path, string more = "") =>
        Open($$"""{'driver': 'qcow2', {{more}}'file': {'driver': 'file', 'filename': '{{path}}'} }""");

    protected BlockNode OpenReadOnly(string path, string more = "") => OpenImage(path, "'read-only': true, " + more);

    protected void CloseNode(BlockNode node) => Loop.RunUntil(Graph.CloseIfUnusedAsync(node));

    /// <summary>The guest's view of a node, read in pieces of changing length.</summary>
    protected byte[] ReadAll(BlockNode node, int seed)
    {
        Random random = new(seed);
        byte[] all = new byte[node.Length];
        for (int offset = 0; offset < all.Length;)
        {
            int length = Math.Min(all.Length - offset, random.Next(1, 300_000));
            Read(node, offset, length).CopyTo(all, offset);
            offset += length;
        }

        return all;
    }

    /// <summary>qemu-img's check finds neither errors nor leaks.</summary>
    protected void AssertClean(string path)
    {
        var (code, text) = Run("qemu-img", "check", path);
        Assert.That(code, Is.Zero, text);
        Assert.That(text, Does.Contain("No errors were found"));
    }
}
