using System.IO.Compression;
using FsCheck;
using FsCheck.Fluent;
using Vmm.Dump.Kdump;

namespace Vmm.Dump.Tests;

public sealed class NoiseTests
{
    private const int PageBytes = 4096;

    [Test]
    public void NoiseIsRecognised()
    {
        var random = new Random(1);
        NoiseDetector detector = new();
        byte[] page = new byte[PageBytes];
        int recognised = 0;
        for (int i = 0; i < 200; i++)
        {
            random.NextBytes(page);
            recognised += detector.IsNoise(page) ? 1 : 0;
        }

        Assert.That(recognised, Is.GreaterThan(190), "four bytes come twice in one of five hundred such pages");
    }

    [Test]
    public void WhatCanBeCompressedIsNoNoise()
    {
        NoiseDetector detector = new();
        Check.One(Config.QuickThrowOnFailure.WithMaxTest(400), Prop.ForAll(ArbMap.Default.ArbFor<int>(), seed =>
        {
            var random = new Random(seed);
            byte[] page = new byte[PageBytes];
            random.NextBytes(page);
            switch (random.Next(6))
            {
                case 0:
                    // Some values are rarer than others.
                    int range = random.Next(1, 257);
                    for (int i = random.Next(PageBytes); i < PageBytes; i++)
                    {
                        page[i] = (byte)random.Next(range);
                    }

                    break;
                case 1:
                    int length = random.Next(1, PageBytes / 2);
                    page.AsSpan(0, length).CopyTo(page.AsSpan(random.Next(length, PageBytes - length)));
                    break;
                case 2:
                    page.AsSpan(random.Next(PageBytes)).Fill((byte)random.Next(256));
                    break;
                case 3:
                    for (int i = random.Next(8); i < PageBytes; i += 8)
                    {
                        page[i] = 0;
                    }

                    break;
                case 4:
                    // All values, and in order.
                    for (int i = 0; i < PageBytes; i++)
                    {
                        page[i] = (byte)i;
                    }

                    break;
            }

            if (detector.IsNoise(page))
            {
                Assert.That(Deflated(page), Is.GreaterThanOrEqualTo(PageBytes));
            }
        }));
    }

    private static long Deflated(byte[] page)
    {
        using MemoryStream output = new();
        using (ZLibStream stream = new(output, CompressionLevel.Fastest, leaveOpen: true))
        {
            stream.Write(page);
        }

        return output.Length;
    }
}
