using System.Globalization;
using Vmm.TestKit.Processes;

namespace Vmm.Qmp.Tests;

/// <summary>The process ends while its nodes are in use: what clients have written is in the files, images are clean, bitmaps are stored, jobs have ended.</summary>
public sealed class QuitTests
{
    private string _folder = "";

    [SetUp]
    public void MakeFolder()
    {
        if (!File.Exists("/usr/bin/qemu-img") || !File.Exists("/usr/bin/qemu-io"))
        {
            Assert.Ignore("qemu-img and qemu-io (package qemu-utils) are not installed");
        }

        _folder = Emulator.NewDirectory();
    }

    [TearDown]
    public void RemoveFolder() => Directory.Delete(_folder, recursive: true);

    [TestCase(true, "cluster_size=64k")]
    [TestCase(false, "cluster_size=64k,lazy_refcounts=on")]
    [TestCase(true, "cluster_size=512")]
    public void WhatWasWrittenWithoutFlushStays(bool isQuit, string options)
    {
        string image = Path.Combine(_folder, "a.qcow2");
        Tool("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, image, "8M");
        string socket = Path.Combine(_folder, "nbd");
        using Emulator emulator = Monitored.Start();
        QmpClient client = emulator.Qmp();
        client.Execute("blockdev-add", $$"""{"driver": "qcow2", "node-name": "n", "file": {"driver": "file", "filename": "{{image}}"} }""");
        client.Execute("block-dirty-bitmap-add", """{"node": "n", "name": "b", "persistent": true}""");
        client.Execute("nbd-server-start", $$"""{"addr": {"type": "unix", "data": {"path": "{{socket}}"} } }""");
        client.Execute("block-export-add", """{"type": "nbd", "id": "e", "node-name": "n", "name": "e", "writable": true}""");
        using NbdWriter writer = new(socket, "e");
        for (int i = 0; i < 16; i++)
        {
            writer.Send(NbdWriter.Kind.Write, i * 200_000, 100_000, 0x5a);
        }

        for (int i = 0; i < 16; i++)
        {
            writer.Answer();
        }

        End(emulator, client, isQuit);
        Tool("qemu-img", "check", "-q", image);
        for (int i = 0; i < 16; i++)
        {
            string read = string.Create(CultureInfo.InvariantCulture, $"read -P 0x5a {i * 200_000} 100000");
            Assert.That(Tool("qemu-io", "-r", "-c", read, image), Does.Not.Contain("failed"));
        }

        Assert.That(Tool("qemu-img", "info", image), Does.Contain("name: b").And.Not.Contain("in-use").And.Not.Contain("dirty: true"));
    }

    [TestCase("blockdev-mirror", """{"job-id": "j", "device": "n", "target": "t", "sync": "full", "speed": 65536}""")]
    [TestCase("blockdev-backup", """{"job-id": "j", "device": "n", "target": "t", "sync": "full"}""")]
    [TestCase("block-stream", """{"job-id": "j", "device": "n", "speed": 65536}""")]
    [TestCase("block-commit", """{"job-id": "j", "device": "n", "speed": 65536}""")]
    public void JobsEndWithTheProcess(string command, string arguments)
    {
        string lower = Path.Combine(_folder, "b.qcow2");
        string image = Path.Combine(_folder, "a.qcow2");
        string target = Path.Combine(_folder, "t.qcow2");
        Tool("qemu-img", "create", "-q", "-f", "qcow2", lower, "16M");
        Tool("qemu-io", "-c", "write -P 1 0 4M", lower);
        Tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", lower, "-F", "qcow2", image);
        Tool("qemu-io", "-c", "write -P 2 4M 4M", image);
        Tool("qemu-img", "create", "-q", "-f", "qcow2", target, "16M");
        using Emulator emulator = Monitored.Start();
        QmpClient client = emulator.Qmp();

        // At this rate the job would take minutes: nothing may wait for it.
        client.Execute("object-add", """{"qom-type": "throttle-group", "id": "g", "limits": {"bps-total": 65536} }""");
        client.Execute("blockdev-add", $$"""{"driver": "qcow2", "node-name": "n", "file": {"driver": "file", "filename": "{{image}}"} }""");
        client.Execute(
            "blockdev-add",
            $$"""
            {"driver": "throttle", "node-name": "t", "throttle-group": "g",
             "file": {"driver": "qcow2", "file": {"driver": "file", "filename": "{{target}}"} } }
            """.ReplaceLineEndings(" "));
        client.Execute(command, arguments);
        client.Execute("quit");
        Assert.That(emulator.WaitExit(), Is.Zero, emulator.Errors);
        foreach (string path in new[] { lower, image, target })
        {
            Tool("qemu-img", "check", "-q", path);
        }

        Assert.That(Tool("qemu-io", "-r", "-c", "read -P 1 0 4M", "-c", "read -P 2 4M 4M", "-c", "read -P 0 8M 8M", image), Does.Not.Contain("failed"));
    }

    private static void End(Emulator emulator, QmpClient client, bool isQuit)
    {
        if (isQuit)
        {
            client.Execute("quit");
        }
        else
        {
            Tool("kill", emulator.Process.Id.ToString(CultureInfo.InvariantCulture));
        }

        Assert.That(emulator.WaitExit(), Is.Zero, emulator.Errors);
    }

    private static string Tool(string program, params string[] arguments)
    {
        (int status, string output, string errors) = Emulator.Run("/usr/bin/" + program, arguments);
        Assert.That(status, Is.Zero, $"{program} {string.Join(' ', arguments)}: {output}{errors}");
        return output;
    }
}
