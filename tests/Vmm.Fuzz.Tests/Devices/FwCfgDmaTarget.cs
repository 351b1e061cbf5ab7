using System.Buffers.Binary;
using Vmm.TestKit.Devices;

namespace Vmm.Fuzz.Tests.Devices;

/// <summary>
/// Descriptors of the configuration device's DMA. The input is a row of descriptors of 16 bytes; each goes to address 0x1000 and is carried out.
/// The device answers each with success or an error, and guest memory before the descriptors stays as it was unless one names it.
/// </summary>
internal sealed class FwCfgDmaTarget : FuzzTarget
{
    private const ulong At = 0x1000;
    private const int Size = 16;

    public override string Name => "fw_cfg-dma";

    public override int Iterations => 700;

    public override int MaxLength => 16 * Size;

    public override IReadOnlyList<byte[]> Dictionary { get; } =
    [
        [0, 0, 0, 2], [0, 0, 0, 0x10], [0, 0, 0, 4], [0, 0x19, 0, 10], [0, 0x20, 0, 10], [0, 0x21, 0, 0x18], [0, 0, 0x10, 0], [0, 0, 0, 0, 0, 0x0f, 0xff, 0xff],
        [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xf0], [0xff, 0xff, 0xff, 0xff], [0, 0, 0, 0, 0, 0, 0x10, 0], [0, 0, 0, 0, 0xfe, 0xc0, 0, 0],
    ];

    public override long AllocationLimit(int inputLength) => 8 << 20;

    public override string Execute(ReadOnlySpan<byte> input)
    {
        using var board = new PcTestBoard();
        byte[] fixedItem = [.. "0123456789abcdef"u8];
        board.FwCfg.AddWritableFile("etc/writable", new byte[64]);
        board.FwCfg.AddFile("opt/data", fixedItem);
        string outcome = "";
        Span<byte> descriptor = stackalloc byte[Size];
        while (input.Length > 0)
        {
            descriptor.Clear();
            int n = Math.Min(Size, input.Length);
            input[..n].CopyTo(descriptor);
            input = input[n..];
            board.Machine.Memory.Write(At, descriptor);
            board.Machine.Out(0x514, 0, 4);
            board.Machine.Out(0x518, BinaryPrimitives.ReverseEndianness((uint)At), 4);
            uint result = BinaryPrimitives.ReverseEndianness(board.Machine.Memory.ReadU32(At));
            Require(result is 0 or 1, $"a descriptor is answered with 0x{result:x}");
            outcome += result;
        }

        Require(fixedItem.AsSpan().SequenceEqual("0123456789abcdef"u8), "a read-only item has changed");
        return outcome;
    }
}
