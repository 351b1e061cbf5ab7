using System.Buffers.Binary;
using System.Text;
using Vmm.Machines.Loading;

namespace Vmm.Machines.Tests.Loading;

/// <summary>Makes kernels, files and requests.</summary>
internal static class BootFixture
{
    public const int Ram = 64 << 20;

    public static KernelRequest Request(string? initrd = null, string commandLine = "", uint reserved = 0, bool longMode = true, ulong rsdp = 0)
    {
        return new KernelRequest
        {
            KernelPath = "kernel",
            InitrdPath = initrd,
            CommandLine = commandLine,
            Ram = RamLayout.ForPc(Ram),
            ReservedAtTop = reserved,
            LongMode = longMode,
            RsdpAddress = rsdp,
        };
    }

    public static BootImage Load(byte[] kernel, KernelRequest? request = null)
    {
        return KernelLoader.Load(request ?? Request(), BootFile.FromMemory("kernel", kernel));
    }

    public static string Failure(byte[] kernel, KernelRequest? request = null)
    {
        var e = Assert.Throws<BootLoadException>(() => Load(kernel, request))!;
        return e.IsComplete ? e.Message : "qemu-system-x86_64: " + e.Message;
    }

    public static string TempFile(int length, string content = "")
    {
        var path = Path.Combine(TestContext.CurrentContext.WorkDirectory, Path.GetRandomFileName());
        using var f = File.Create(path);
        f.Write(Encoding.ASCII.GetBytes(content));
        f.SetLength(Math.Max(length, content.Length));
        return path;
    }

    /// <summary>A kernel with a valid setup header and <paramref name="payload"/> bytes of 0x90 behind four setup sectors.</summary>
    public static byte[] Linux(ushort version = 0x20f, byte loadFlags = 1, ushort xloadFlags = 0, uint initrdMax = 0x7fffffff, int payload = 4096)
    {
        var k = new byte[5 * 512 + payload];
        k.AsSpan(5 * 512).Fill(0x90);
        k[0x1f1] = 4;
        k[0x200] = 0xeb;
        k[0x201] = 0x66;
        "HdrS"u8.CopyTo(k.AsSpan(0x202));
        BinaryPrimitives.WriteUInt16LittleEndian(k.AsSpan(0x206), version);
        k[0x211] = loadFlags;
        BinaryPrimitives.WriteUInt32LittleEndian(k.AsSpan(0x22c), initrdMax);
        BinaryPrimitives.WriteUInt16LittleEndian(k.AsSpan(0x236), xloadFlags);
        return k;
    }

    /// <summary>A flat multiboot kernel with its header at offset 64.</summary>
    public static byte[] Multiboot(
        uint flags = 0x10003, uint header = 0x100040, uint load = 0x100000, uint loadEnd = 0, uint bssEnd = 0, uint entry = 0x100060)
    {
        var k = new byte[0xa0];
        uint[] words = [0x1badb002, flags, unchecked(0u - 0x1badb002 - flags), header, load, loadEnd, bssEnd, entry];
        for (var i = 0; i < words.Length; i++)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(k.AsSpan(64 + i * 4), words[i]);
        }

        return k;
    }
}
