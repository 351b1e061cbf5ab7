using System.Text.RegularExpressions;
using Vmm.TestKit.Processes;

namespace Vmm.Qmp.Tests;

/// <summary>The terminal's qemu-io, line by line beside QEMU's: what is printed, what the terminal says, and the image in the end.</summary>
public sealed partial class QemuIoPeerTests
{
    private static readonly string[] s_lines =
    [
        "write 0 64k", "write -P 7 0 512", "read -v 0 32", "read -P 7 0 512", "read -p 0 512", "write -p 0 512", "write -s SOURCE 512 16", "read -v 512 16",
        "write -s EMPTY 512 16", "write -s /nonexistent/x 512 16", "write -s SOURCE -P 1 512 16", "write -s SOURCE -z 512 16", "write -q -s SOURCE 1024 512",
        "read -v 1024 20", "write -z 0 64k", "write -z -u 0 64k", "write -z -n 0 64k", "write -z -f 0 64k", "write -f 0 64k", "write -f -n 0 64k",
        "write -f -c 0 64k", "write -u 0 64k", "write -c 0 512", "read -P 1 -s 0 -l 512 0 512", "read -P 205 -s 512 -l 512 0 1024",
        "read -P 1 -s 513 0 512", "read 0 1", "read 1 0", "read 1M 512", "read -P 256 0 512", "read -P 0x5a 0 512", "read x 512",
        "readv 0 512 512", "readv -v 0 16 16", "writev -P 3 0 512 512", "writev -f 0 512", "aio_read 0 512", "aio_flush", "aio_read -i 0 512",
        "aio_write -P 9 0 512", "aio_flush", "aio_write -u 0 512", "aio_write -i 0 512", "aio_write -z 0 512 512", "aio_read 2M 512", "aio_flush",
        "discard 0 64k", "discard -q 0 64k", "discard 0 x", "discard 3M 512", "alloc 0", "alloc 0 64k", "alloc 128k 64k", "alloc 0 -1", "alloc 2M", "alloc 0 2M",
        "map", "flush", "length", "truncate 2M", "length", "truncate -m full 3M", "truncate -m nope 3M", "truncate 1M",
        "sleep x", "break read_aio A", "remove_break A", "resume A", "info", "reopen", "reopen -r", "write 0 512", "reopen -w", "reopen -r -w", "reopen -c writeback",
        "reopen -c bogus", "reopen -o lazy-refcounts=on", "reopen -o lazy-refcounts=bogus", "reopen -o bogus=1", "reopen -o driver=raw", "reopen -o read-only=on",
        "write 0 512", "reopen -o read-only=off", "write -P 5 4k 4k", "nope", "abort x", "read 0", "map x", "sigraise x", "sigraise 0", "help map", "help sleep",
    ];

    // Of the node "d", which injects errors into nothing.
    private static readonly string[] s_debugLines =
    [
        "reopen -o bogus=1", "reopen -o bogus.deep=1", "reopen -o inject-error.0.event=read_aio,inject-error.0.bogus=1", "reopen -r", "reopen -w",
    ];

    [Test]
    public void LinesDoTheSame()
    {
        if (Emulator.RealQemu is null || !QemuImg.IsInstalled)
        {
            Assert.Ignore("needs installed qemu-system-x86_64 and qemu-img to compare with");
        }

        string folder = Emulator.NewDirectory();
        try
        {
            File.WriteAllText(Path.Combine(folder, "source"), "abcdefg");
            File.WriteAllText(Path.Combine(folder, "empty"), "");
            (List<string> ours, string printed) = Run(folder, Monitored.Start());
            File.Move(Path.Combine(folder, "image"), Path.Combine(folder, "first"));
            (List<string> theirs, string expected) = Run(folder, Monitored.StartQemu());
            Assert.That(ours, Is.EqualTo(theirs));
            Assert.That(printed, Is.EqualTo(expected));
            QemuImg.Run("compare", Path.Combine(folder, "first"), Path.Combine(folder, "image"));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static (List<string> Answers, string Printed) Run(string folder, Emulator emulator)
    {
        using (emulator)
        {
            string image = Path.Combine(folder, "image");
            QemuImg.Run("create", "-q", "-f", "qcow2", image, "1M");
            QmpClient client = emulator.Qmp();
            client.Execute("blockdev-add", $$"""{"driver": "qcow2", "node-name": "n", "file": {"driver": "file", "filename": "{{image}}"} }""");
            client.Execute("blockdev-add", """{"driver": "blkdebug", "node-name": "d", "image": {"driver": "null-co", "size": 65536} }""");
            List<string> answers = [];
            foreach (string line in s_debugLines)
            {
                answers.Add(line + ": " + client.Human($"qemu-io d \"{line}\""));
            }

            foreach (string line in s_lines)
            {
                string full = line.Replace("SOURCE", Path.Combine(folder, "source"), StringComparison.Ordinal)
                    .Replace("EMPTY", Path.Combine(folder, "empty"), StringComparison.Ordinal);
                answers.Add(line + ": " + client.Human($"qemu-io n \"{full}\""));
            }

            client.Execute("quit");
            emulator.WaitExit();
            return (answers, Times().Replace(emulator.Output, "TIME"));
        }
    }

    [GeneratedRegex(@"\d\d\.\d\d sec \(.*?\)")]
    private static partial Regex Times();
}
