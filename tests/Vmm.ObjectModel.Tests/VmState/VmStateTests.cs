using FsCheck;
using FsCheck.Fluent;
using Vmm.ObjectModel.VmState;

namespace Vmm.ObjectModel.Tests.VmState;

public sealed class VmStateTests
{
    [Test]
    public void NumbersAreBigEndian()
    {
        var writer = new VmStateWriter();
        writer.WriteUInt16(0x0102);
        writer.WriteUInt32(0x03040506);
        writer.WriteUInt64(0x0708090a0b0c0d0e);
        writer.WriteBool(true);
        writer.WriteCountedString("ab");
        Assert.That(writer.WrittenSpan.ToArray(), Is.EqualTo(new byte[] { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 1, 2, (byte)'a', (byte)'b' }));
        var reader = new VmStateReader(writer.WrittenSpan.ToArray());
        Assert.That((reader.ReadUInt16(), reader.ReadUInt32(), reader.ReadUInt64()), Is.EqualTo(((ushort)0x0102, 0x03040506u, 0x0708090a0b0c0d0eUL)));
        Assert.That((reader.ReadBool(), reader.ReadCountedString(), reader.Remaining), Is.EqualTo((true, "ab", 0)));
    }

    [Test]
    public void HostileBytesOnlyGiveTheDocumentedError() => Prop.ForAll(
        ArbMap.Default.ArbFor<(byte[] Data, byte[] Reads)>(),
        input =>
        {
            var reader = new VmStateReader(input.Data);
            try
            {
                foreach (byte read in input.Reads)
                {
                    switch (read % 6)
                    {
                        case 0:
                            reader.ReadUInt64();
                            break;
                        case 1:
                            reader.ReadCountedString();
                            break;
                        case 2:
                            reader.TryEnterSubsection("a/b", out _);
                            break;
                        case 3:
                            reader.ReadBytes(new byte[read]);
                            break;
                        case 4:
                            reader.SkipUnused(read);
                            break;
                        default:
                            reader.ReadInt16();
                            break;
                    }
                }
            }
            catch (VmStateException)
            {
                return reader.Position <= input.Data.Length;
            }

            return reader.Position <= input.Data.Length;
        }).QuickCheckThrowOnFailure();

    [Test]
    public void SubsectionsAreEnteredByFullName()
    {
        var writer = new VmStateWriter();
        VmStateFormat.BeginSubsection(writer, "serial/timeout", 2);
        writer.WriteUInt8(7);
        var reader = new VmStateReader(writer.WrittenSpan.ToArray());
        Assert.That(reader.TryEnterSubsection("serial/tsr", out _), Is.False);
        Assert.That(reader.TryEnterSubsection("serial/timeout", out int version));
        Assert.That((version, reader.ReadUInt8()), Is.EqualTo((2, (byte)7)));
    }

    [Test]
    public void InstanceIdsCountPerName()
    {
        var registry = new VmStateRegistry();
        var a = new SampleCard(SampleCard.TypeInfo);
        var b = new SampleCard(SampleCard.TypeInfo);
        var c = new SampleCard(SampleCard.TypeInfo);
        Assert.That(registry.Add(a).InstanceId, Is.EqualTo(0));
        Assert.That(registry.Add(b).InstanceId, Is.EqualTo(1));
        Assert.That(registry.Add(c, null, "0000:00:03.0"), Is.EqualTo(new VmStateSection("0000:00:03.0/sample", 0, c)));
        registry.Remove(a);
        Assert.That(registry.Find("sample", 0), Is.Null);
        Assert.That(registry.Find("sample", 1)?.Target, Is.SameAs(b));
        using (registry.AddBlocker("because"))
        {
            Assert.That(registry.Blockers, Is.EqualTo(new[] { "because" }));
        }

        Assert.That(registry.Blockers, Is.Empty);
    }
}
