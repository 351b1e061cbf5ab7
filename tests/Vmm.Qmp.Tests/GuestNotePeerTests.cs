using System.Buffers.Binary;
using System.Text;
using System.Text.Json.Nodes;
using Vmm.TestKit.Processes;

namespace Vmm.Qmp.Tests;

/// <summary>
/// Dumps of a guest that has told where its kernel's note is (device vmcoreinfo), beside the real emulator's: the guest's memory is an image that
/// both share, and what it would write into the device's file the qtest protocol writes.
/// </summary>
public sealed class GuestNotePeerTests
{
    private const int MemoryBytes = 16 << 20;
    private const int NoteAt = 0x100000;
    private const int NoteHeaderBytes = 24;
    private const int HeaderBytes = 0x2000;
    private const int DebuggerBlockAt = 0x200000;
    private const int ProcessorsAt = 0x201000;
    private const int ControlAt = 0x202000;
    private const int BugcheckAt = 0x203000;
    private const int ContextAt = 0x204080;
    private const int ContextBytes = 1232;
    private const int LowPages = 0x9e;
    private const int HighPages = 0xe00;
    private const int FileContentsAt = 0x300000;
    private const int DescriptorAt = 0x301000;
    private const uint SelectAndWrite = 0x18;
    private const ushort FileDirectory = 0x19;

    private string _folder = "";
    private byte[] _memory = [];

    [SetUp]
    public void MakeMemory()
    {
        _folder = Emulator.NewDirectory();
        _memory = new byte[MemoryBytes];
        new Random(3).NextBytes(_memory.AsSpan(0x400000, 0x100000));
    }

    [TearDown]
    public void DeleteFolder() => Directory.Delete(_folder, recursive: true);

    [TestCase("kdump-zlib")]
    [TestCase("elf")]
    public void TheNoteOfALinuxKernelIsInTheDump(string format)
    {
        byte[] text = Encoding.ASCII.GetBytes("OSRELEASE=6.1.0\nPAGESIZE=4096\nNUMBER(phys_base)=16777216\nKERNELOFFSET=0\n");
        PutNote(text, "VMCOREINFO", text.Length);
        byte[] theirs = Dump(Peer(), "theirs", format, out _);
        byte[] ours = Dump(Emulator.OurBinary, "ours", format, out _);

        if (format == "kdump-zlib")
        {
            // The header, and the sub-header, which says where the note is and the kernel.
            theirs = Assemble(theirs, 0x2000);
            ours = Assemble(ours, 0x2000);
            Assert.That(ours.AsSpan(0, 0x1068).ToArray(), Is.EqualTo(theirs.AsSpan(0, 0x1068).ToArray()));
        }

        int at = theirs.AsSpan().IndexOf("VMCOREINFO"u8);
        Assert.That(ours.AsSpan().IndexOf("VMCOREINFO"u8), Is.EqualTo(at).And.GreaterThan(0));
        Assert.That(ours.AsSpan(at, 128).ToArray(), Is.EqualTo(theirs.AsSpan(at, 128).ToArray()));
    }

    [Test]
    public void AWindowsDumpIsThatOfTheRealEmulator()
    {
        PutWindows();
        byte[] theirs = Dump(Peer(), "theirs", "win-dmp", out _);
        byte[] ours = Dump(Emulator.OurBinary, "ours", "win-dmp", out _);
        Assert.That(ours, Has.Length.EqualTo(theirs.Length).And.Length.EqualTo(HeaderBytes + ((LowPages + HighPages) * 4096)));

        // A vCPU that the qtest accelerator resets has no signature in RDX; we save x87 and SSE registers, too.
        foreach (int context in new[] { ContextAt, ContextAt + 0x1000 })
        {
            int at = HeaderBytes + (LowPages * 4096) + context - 0x100000;
            Assert.That(ours.AsSpan(at + 0x30, 0x58).ToArray(), Is.EqualTo(theirs.AsSpan(at + 0x30, 0x58).ToArray()));
            Assert.That(ours.AsSpan(at + 0xf8, 8).ToArray(), Is.EqualTo(theirs.AsSpan(at + 0xf8, 8).ToArray()));
            ours.AsSpan(at, ContextBytes).Clear();
            theirs.AsSpan(at, ContextBytes).Clear();
        }

        Assert.That(ours.AsSpan().SequenceEqual(theirs), Is.True);
        byte[] after = File.ReadAllBytes(Path.Combine(_folder, "ours.mem"));
        Assert.That(after.AsSpan(ContextAt, 0x1800).SequenceEqual(_memory.AsSpan(ContextAt, 0x1800)), Is.True, "the guest's own memory stays as it is");
    }

    [TestCase("signature", "win-dump: invalid header, expected 'PAGE', got 'XAGE'")]
    [TestCase("tag", "win-dump: invalid KDBG OwnerTag, expected 'KDBG', got ''")]
    [TestCase("format", "win-dump: invalid vmcoreinfo note size")]
    [TestCase("place", "win-dump: invalid vmcoreinfo note size")]
    public void AWindowsHeaderThatIsWrongIsRefusedInTheSameWords(string wrong, string error)
    {
        PutWindows();
        Break(wrong);
        Dump(Peer(), "theirs", "win-dmp", out JsonNode? theirs);
        Dump(Emulator.OurBinary, "ours", "win-dmp", out JsonNode? ours);
        Assert.That(ours!["desc"]!.ToString(), Is.EqualTo(error));
        Assert.That(theirs!["desc"]!.ToString(), Is.EqualTo(error));
    }

    // The real emulator reads behind its header, crashes, or fills the disk.
    [TestCase("runs", "win-dump: invalid number of memory runs: 1162297680")]
    [TestCase("run", "win-dump: failed to map physical range 0x0000000000100000-0x00000001000fffff")]
    [TestCase("size", "win-dump: invalid vmcoreinfo note size")]
    public void AHostileGuestCostsNothing(string wrong, string error)
    {
        PutWindows();
        Break(wrong);
        byte[] dump = Dump(Emulator.OurBinary, "ours", "win-dmp", out JsonNode? ours);
        Assert.That(ours!["desc"]!.ToString(), Is.EqualTo(error));
        Assert.That(dump, Is.Empty);
    }

    private static string Peer()
    {
        if (Emulator.RealQemu is not { } qemu)
        {
            Assert.Ignore("needs QEMU 7.2 installed as the peer to compare with");
            return "";
        }

        return qemu;
    }

    // The first bytes of a flattened dump: pieces with offset and size in front, in any order.
    private static byte[] Assemble(ReadOnlySpan<byte> flat, int length)
    {
        byte[] dump = new byte[length];
        for (int at = 4096; BinaryPrimitives.ReadInt64BigEndian(flat[at..]) is var offset and >= 0;)
        {
            int size = (int)BinaryPrimitives.ReadInt64BigEndian(flat[(at + 8)..]);
            ReadOnlySpan<byte> piece = flat.Slice(at + 16, size);
            if (offset < length)
            {
                piece[..(int)Math.Min(size, length - offset)].CopyTo(dump.AsSpan((int)offset));
            }

            at += 16 + size;
        }

        return dump;
    }

    private void Break(string what)
    {
        switch (what)
        {
            case "signature":
                _memory[NoteAt + NoteHeaderBytes] = (byte)'X';
                break;
            case "tag":
                U32(DebuggerBlockAt + 0x10, 0);
                break;
            case "format":
                U32(FileContentsAt, 2 << 16);
                break;
            case "place":
                U32(FileContentsAt + 8, 0xff00_0000);
                break;
            case "runs":
                U32(NoteAt + NoteHeaderBytes + 0x88, 0x45474150);
                break;
            case "run":
                U32(NoteAt + NoteHeaderBytes + 0x98 + 16 + 8, 0x10_0000);
                break;
            default:
                U32(FileContentsAt + 4, 100);
                break;
        }
    }

    private void PutNote(ReadOnlySpan<byte> contents, string name, int length)
    {
        U32(NoteAt, (uint)name.Length + 1);
        U32(NoteAt + 4, (uint)length);
        Encoding.ASCII.GetBytes(name, _memory.AsSpan(NoteAt + 12));
        contents.CopyTo(_memory.AsSpan(NoteAt + NoteHeaderBytes));
        U32(FileContentsAt, 1 << 16);
        U32(FileContentsAt + 4, (uint)(NoteHeaderBytes + ((length + 3) & ~3)));
        U64(FileContentsAt + 8, NoteAt);
    }

    // What the kernel and its driver have: a header, a debugger block, and for two processors control blocks that lead to saved registers.
    private void PutWindows()
    {
        PutNote([], "VMCOREINFO", HeaderBytes);
        int header = NoteAt + NoteHeaderBytes;
        "PAGEDU64"u8.CopyTo(_memory.AsSpan(header));
        U64(header + 0x10, 0x1ad000);
        U64(header + 0x18, 0x1111);
        U64(header + 0x20, 0x2222);
        U32(header + 0x30, 0x8664);
        U32(header + 0x34, 2);
        U64(header + 0x80, DebuggerBlockAt);
        U32(header + 0x88, 2);
        U32(header + 0x8c, 0x45474150);
        U64(header + 0x90, LowPages + HighPages);
        U64(header + 0x98, 1);
        U64(header + 0xa0, LowPages);
        U64(header + 0xa8, 0x100);
        U64(header + 0xb0, HighPages);
        U32(header + 0xf98, 1);
        "KDBG"u8.CopyTo(_memory.AsSpan(DebuggerBlockAt + 0x10));
        U64(DebuggerBlockAt + 0x88, BugcheckAt);
        U64(DebuggerBlockAt + 0xc0, 0xffff_fa80_0000_0000);
        U64(DebuggerBlockAt + 0x218, ProcessorsAt);
        U32(DebuggerBlockAt + 0x338, 0x100);
        for (int cpu = 0; cpu < 2; cpu++)
        {
            U64(ProcessorsAt + (cpu * 8), (ulong)(ControlAt + (cpu * 0x800)));
            U64(ControlAt + (cpu * 0x800) + 0x100, (ulong)(ContextAt + (cpu * 0x1000)));
        }

        _memory.AsSpan(ContextAt, 0x1800).Fill(0x5a);
        U64(BugcheckAt + 8, 9);
    }

    private void U32(int at, uint value) => BinaryPrimitives.WriteUInt32LittleEndian(_memory.AsSpan(at), value);

    private void U64(int at, ulong value) => BinaryPrimitives.WriteUInt64LittleEndian(_memory.AsSpan(at), value);

    private byte[] Dump(string binary, string name, string format, out JsonNode? error)
    {
        string image = Path.Combine(_folder, name + ".img");
        File.WriteAllBytes(image, _memory);
        bool isOurs = binary == Emulator.OurBinary;
        using QtestSession session = new(binary,
        [
            "-accel", isOurs ? "qtest" : "tcg", "-S", "-machine", isOurs ? "pc,memory-backend=m" : "pc,vmport=off,memory-backend=m", "-m", "16",
            "-object", $"memory-backend-file,id=m,size=16M,mem-path={image},share=on", "-smp", "2", "-nodefaults", "-display", "none",
            "-device", "vmcoreinfo",
        ]);
        WriteFile(session);
        QmpClient client = session.Emulator.Qmp();
        string path = Path.Combine(_folder, name + ".dump");
        error = client.ExecuteRaw(
            "dump-guest-memory", new JsonObject { ["paging"] = false, ["protocol"] = "file:" + path, ["format"] = format })["error"];
        client.Execute("pmemsave", $$"""{"val": 0, "size": {{MemoryBytes}}, "filename": "{{Path.Combine(_folder, name + ".mem")}}"}""");
        return File.ReadAllBytes(path);
    }

    // The guest's write through the configuration device's DMA.
    private void WriteFile(QtestSession session)
    {
        session.Ask($"outw 0x510 0x{FileDirectory:x}");
        uint count = BinaryPrimitives.ReadUInt32BigEndian(Bytes(session, 4));
        for (int i = 0; i < count; i++)
        {
            byte[] entry = Bytes(session, 64);
            if (entry.AsSpan(8).StartsWith("etc/vmcoreinfo\0"u8))
            {
                byte[] descriptor = new byte[16];
                BinaryPrimitives.WriteUInt32BigEndian(descriptor, ((uint)BinaryPrimitives.ReadUInt16BigEndian(entry.AsSpan(4)) << 16) | SelectAndWrite);
                BinaryPrimitives.WriteUInt32BigEndian(descriptor.AsSpan(4), 16);
                BinaryPrimitives.WriteUInt64BigEndian(descriptor.AsSpan(8), FileContentsAt);
                session.Ask($"write 0x{DescriptorAt:x} 16 0x{Convert.ToHexStringLower(descriptor)}");
                session.Ask("outl 0x514 0");
                session.Ask($"outl 0x518 0x{BinaryPrimitives.ReverseEndianness((uint)DescriptorAt):x}");
                return;
            }
        }

        Assert.Fail("there is no file etc/vmcoreinfo");
    }

    private static byte[] Bytes(QtestSession session, int count)
    {
        byte[] bytes = new byte[count];
        for (int i = 0; i < count; i++)
        {
            bytes[i] = Convert.ToByte(session.Ask("inb 0x511")[^1].Split(' ')[1], 16);
        }

        return bytes;
    }
}
