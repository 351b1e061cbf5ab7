using System.Runtime.CompilerServices;
using Vmm.ObjectModel.VmState;
using Vmm.TestKit.Devices;

namespace Vmm.Devices.Tests;

/// <summary>Migration sections as a QEMU 7.2 wrote them (tests/corpora/vmstate): a guest can move here and back.</summary>
public sealed class QemuStateTests
{
    private static IEnumerable<string> Names() => Directory.GetFiles(Folder()).Select(f => Path.GetFileNameWithoutExtension(f)!).Order(StringComparer.Ordinal);

    [TestCaseSource(nameof(Names))]
    public void AStateSavedByQemuIsSavedAgainUnchanged(string name)
    {
        using var board = new PcTestBoard();
        var checkedSections = new List<string>();
        foreach (string line in File.ReadLines(Path.Combine(Folder(), name + ".txt")))
        {
            if (line.StartsWith('#'))
            {
                continue;
            }

            string[] words = line.Split(' ');
            VmStateSection? section = board.Machine.Devices.VmStates.Find(words[0], uint.Parse(words[1]));
            Assert.That(section, Is.Not.Null, $"no section {words[0]} {words[1]}");
            byte[] bytes = Convert.FromHexString(words[3]);
            var reader = new VmStateReader(bytes);
            section!.Target.LoadState(reader, int.Parse(words[2]));
            Assert.That(reader.Remaining, Is.Zero, $"{words[0]}: bytes left over");
            Assert.That(section.Target.VmStateVersion, Is.EqualTo(int.Parse(words[2])), words[0]);
            var writer = new VmStateWriter();
            section.Target.SaveState(writer);
            Assert.That(Mask(words[0], Convert.ToHexStringLower(writer.WrittenSpan)), Is.EqualTo(Mask(words[0], words[3])), words[0]);
            checkedSections.Add(words[0]);
        }

        Assert.That(checkedSections, Has.Count.GreaterThanOrEqualTo(18));
    }

    // The sizes of the ACPI blobs describe the files of the machine that saves.
    private static string Mask(string section, string hex)
    {
        int at = section == "fw_cfg" ? hex.IndexOf(Convert.ToHexStringLower("fw_cfg/acpi_mr"u8), StringComparison.Ordinal) : -1;
        return at < 0 ? hex : hex[..(at - 4)];
    }

    private static string Folder([CallerFilePath] string file = "") =>
        Path.GetFullPath(Path.Combine(Path.GetDirectoryName(file)!, "../corpora/vmstate"));
}
