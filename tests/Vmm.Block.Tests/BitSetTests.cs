using FsCheck;
using FsCheck.Fluent;
using Vmm.Block.Bitmaps;

namespace Vmm.Block.Tests;

/// <summary>Bits against an array of truth values.</summary>
public sealed class BitSetTests
{
    private const int Length = 3_000_001;

    [TestCase(1)]
    [TestCase(512)]
    [TestCase(65536)]
    public void BitsAreThoseOfAPlainArray(int granularity)
    {
        Gen<(int Op, int Offset, int Bytes)> step = from op in Gen.Choose(0, 4)
                                                    from offset in Gen.Choose(0, Length)
                                                    from bytes in Gen.Choose(0, Length / 4)
                                                    select (op, offset, bytes);
        Prop.ForAll(step.ArrayOf(25).ToArbitrary(), steps =>
        {
            BitSet bits = new(Length, granularity);
            bool[] model = new bool[(Length + granularity - 1) / granularity];
            foreach ((int op, int offset, int bytes) in steps)
            {
                int first = offset / granularity;
                int end = bytes == 0 || offset >= Length ? first : (int)((Math.Min((long)offset + bytes, Length) - 1) / granularity) + 1;
                if (op <= 2)
                {
                    bits.Set(offset, bytes);
                    model.AsSpan(first, Math.Max(end - first, 0)).Fill(true);
                }
                else if (op == 3)
                {
                    bits.Reset(offset, bytes);
                    model.AsSpan(first, Math.Max(end - first, 0)).Clear();
                }
                else
                {
                    BitSet copy = new(Length, granularity);
                    copy.Merge(bits);
                    bits = copy;
                }

                Compare(bits, model, granularity, offset);
            }

            return true;
        }).Check(Config.QuickThrowOnFailure.WithMaxTest(20));
    }

    [Test]
    public void AShorterNodeForgetsWhatWasBehind()
    {
        BitSet bits = new(1 << 20, 4096);
        bits.Set(0, 1 << 20);
        bits.Resize(10_000);
        Assert.That(bits.Count, Is.EqualTo(3));
        bits.Resize(1 << 20);
        Assert.That(bits.Count, Is.EqualTo(3));
        Assert.That(bits[12_288], Is.False);
    }

    [Test]
    public void ALargeCleanBitmapIsSmall()
    {
        long before = GC.GetAllocatedBytesForCurrentThread();
        BitSet bits = new(16L << 40, 65536);
        bits.Set(8L << 40, 1);
        Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.LessThan(200_000));
        Assert.That(bits.NextDirty(0, long.MaxValue), Is.EqualTo(8L << 40));
    }

    private static void Compare(BitSet bits, bool[] model, int granularity, int offset)
    {
        Assert.That(bits.Count, Is.EqualTo(model.Count(static b => b)));
        int from = Math.Min(offset, Length - 1);
        int bit = from / granularity;
        int dirty = Array.IndexOf(model, true, bit);
        int clean = Array.IndexOf(model, false, bit);
        Assert.That(bits.NextDirty(from, Length), Is.EqualTo(dirty < 0 ? -1 : Math.Max((long)dirty * granularity, from)));
        Assert.That(bits.NextClean(from, Length), Is.EqualTo(clean < 0 ? -1 : Math.Max((long)clean * granularity, from)));
        Assert.That(bits[from], Is.EqualTo(model[bit]));
    }
}
