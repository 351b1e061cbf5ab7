using System.Buffers.Binary;
using System.Text;
using Vmm.Dump.Guest;
using Vmm.Dump.Windows;
using Vmm.ObjectModel.Devices;
using Vmm.Qapi;

namespace Vmm.Dump.Tests;

/// <summary>The note of a guest's kernel, and a Windows header in it, are a guest's bytes: whatever they are, a dump goes on or fails with an error.</summary>
public sealed class VmCoreInfoTests
{
    private const ulong At = 0x3000;
    private const int MemoryBytes = 1 << 20;

    private readonly GuestMemoryMap _memory = GuestMemoryMap.Of([new GuestMemoryRange(0, MemoryBytes, TestMemory.Block(MemoryBytes), 0)]);

    [Test]
    public void TheBaseOfTheKernelIsInTheNotes()
    {
        Put("VMCOREINFO", "OSRELEASE=6.1\nNUMBER(phys_base)=-16777216\nX=NUMBER(phys_base)=3\n");
        GuestNotes notes = GuestNotes.Of([Dumps.LongMode], Read(200));
        Assert.That(notes.PhysicalBase, Is.EqualTo(unchecked((ulong)-16777216L)));
        Assert.That(Encoding.ASCII.GetString(notes.Bytes, notes.VmCoreInfoOffset, notes.VmCoreInfoLength), Does.StartWith("OSRELEASE=6.1\n").And.EndsWith("=3\n"));
        Assert.That(notes.Bytes.Length % 4, Is.Zero);
    }

    [TestCase("NUMBER(phys_base)=12x")]
    [TestCase("NUMBER(phys_base)=")]
    [TestCase("NUMBER(phys_base)=99999999999999999999")]
    [TestCase("number(phys_base)=12")]
    public void ALineThatIsNoNumberIsNone(string line)
    {
        Put("VMCOREINFO", line);
        Assert.That(GuestNotes.Of([Dumps.LongMode], Read(200)).PhysicalBase, Is.Zero);
    }

    [TestCase(11u, 8u, 31u, ExpectedResult = false, Description = "shorter than its header says")]
    [TestCase(11u, 8u, 32u, ExpectedResult = true)]
    [TestCase(11u, 8u, 4000u, ExpectedResult = true, Description = "what follows is not part of it")]
    [TestCase(0u, 0u, 12u, ExpectedResult = true)]
    [TestCase(0u, 0u, 11u, ExpectedResult = false)]
    [TestCase(0xffffffffu, 8u, 4000u, ExpectedResult = false)]
    [TestCase(11u, 0xfffffffdu, 4000u, ExpectedResult = false)]
    [TestCase(11u, 8u, (1u << 20) + 1, ExpectedResult = false, Description = "more than is read")]
    public bool ANoteIsAsLongAsItSays(uint name, uint descriptor, uint length)
    {
        byte[] header = new byte[12];
        BinaryPrimitives.WriteUInt32LittleEndian(header, name);
        BinaryPrimitives.WriteUInt32LittleEndian(header.AsSpan(4), descriptor);
        Write(At, header);
        return Read(length) is not null;
    }

    [Test]
    public void OnlyNotesOfElfAreRead()
    {
        Put("VMCOREINFO", "A=1\n");
        Assert.That(VmCoreInfo.Read(new VmCoreInfoNote(2, At, 100), _memory), Is.Null);
        Assert.That(VmCoreInfo.Read(null, _memory), Is.Null);
    }

    [Test]
    public void RandomWindowsHeadersAreRefusedOrDumped()
    {
        Random random = new(11);
        int dumped = 0;
        for (int i = 0; i < 3000; i++)
        {
            byte[] header = new byte[WindowsHeader.Bytes];
            "PAGEDU64"u8.CopyTo(header);
            U32(header, 0x34, (uint)random.Next(4));
            U64(header, 0x80, Address(random));
            U64(header, 0x40, Address(random));
            U32(header, 0x88, (uint)random.Next(3));
            U64(header, 0x98, (ulong)random.Next(300));
            U64(header, 0xa0, (ulong)random.Next(20));
            U64(header, 0xa8, Address(random) >> random.Next(13));
            U64(header, 0xb0, Address(random) >> random.Next(30));
            byte[] block = new byte[0x400];
            foreach (int field in new[] { 0x88, 0xc0, 0x218, 0x338 })
            {
                U64(block, field, Address(random));
            }

            "KDBG"u8.CopyTo(block.AsSpan(0x10));
            Write(0x8000, block);
            Put("VMCOREINFO", header);
            try
            {
                WindowsDump dump = WindowsDump.Of(Read((uint)(24 + header.Length)), _memory, [Dumps.RealMode, Dumps.RealMode]);
                dumped++;
                Assert.That(dump.Bytes, Is.LessThanOrEqualTo(WindowsHeader.Bytes + (2ul * MemoryBytes)));
            }
            catch (QapiException exception)
            {
                Assert.That(exception.Desc, Does.StartWith("win-dump: "));
            }
        }

        Assert.That(dumped, Is.GreaterThan(10).And.LessThan(2900));
    }

    // Where something is, mostly.
    private static ulong Address(Random random) => random.Next(4) switch
    {
        0 or 1 => 0x8000,
        2 => (ulong)random.Next(MemoryBytes + 100),
        _ => (ulong)random.NextInt64(long.MinValue, long.MaxValue),
    };

    private static void U32(byte[] bytes, int at, uint value) => BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(at), value);

    private static void U64(byte[] bytes, int at, ulong value) => BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(at), value);

    private void Put(string name, string text) => Put(name, Encoding.ASCII.GetBytes(text));

    private void Put(string name, byte[] contents)
    {
        byte[] header = new byte[24];
        U32(header, 0, (uint)name.Length + 1);
        U32(header, 4, (uint)contents.Length);
        Encoding.ASCII.GetBytes(name, header.AsSpan(12));
        Write(At, header);
        Write(At + 24, contents);
    }

    private void Write(ulong address, ReadOnlySpan<byte> bytes) => bytes.CopyTo(_memory.Ranges[0].Block.Span(address, bytes.Length));

    private VmCoreInfo? Read(uint length) => VmCoreInfo.Read(new VmCoreInfoNote(1, At, length), _memory);
}
