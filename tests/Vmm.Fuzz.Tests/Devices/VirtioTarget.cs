using System.Buffers.Binary;
using Vmm.TestKit.Devices;

namespace Vmm.Fuzz.Tests.Devices;

/// <summary>
/// A guest whose rings hold anything. The input: kind of ring, then writes of up to 64 bytes into rings, tables and buffers, of registers and of the
/// configuration space, and notifications; what is missing at the end is zero.
/// </summary>
internal sealed class VirtioTarget : FuzzTarget
{
    private const int MaxOperations = 256;

    public override string Name => "virtio-blk";

    public override int Iterations => 500;

    public override int MaxLength => 2048;

    public override IReadOnlyList<byte[]> Dictionary =>
        [[0x00, 0x80, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 1, 0, 1, 0], [0x00, 0x90, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0], [4, 0, 0, 0], [13, 0, 0, 0]];

    // Making the board takes most of it.
    public override long AllocationLimit(int inputLength) => (8 << 20) + (16384L * inputLength);

    public override string Execute(ReadOnlySpan<byte> input)
    {
        byte kind = (byte)Take(ref input, 1);
        using VirtioDisk disk = new(isLegacy: kind % 3 == 0, isPacked: kind % 3 == 2);
        disk.SetUp(without: (ulong)(kind >> 2) << 24);
        for (int i = 0; i < 4; i++)
        {
            disk.Submit((uint)i, 1, new byte[512], 0, isIndirect: (kind & 0x80) != 0);
        }

        for (int i = 0; i < MaxOperations && input.Length > 0; i++)
        {
            Operation(disk, ref input);
        }

        disk.Run();
        Require(disk.Backend.Bytes.Length == 65536, "the medium has another size");
        string result = $"{disk.Disk.IsBroken} {disk.Disk.Status:x} {Math.Min(disk.Backend.Requests, 9)} {string.Join(' ', disk.Backend.Seen.Distinct())}";
        disk.SetUp();
        Require(disk.Request(4, 0, [], 0) == 0, "the device does not work after a reset");
        return result;
    }

    private static void Operation(VirtioDisk disk, ref ReadOnlySpan<byte> input)
    {
        byte operation = (byte)Take(ref input, 1);
        switch (operation & 7)
        {
            case 0:
                disk.Kick();
                break;
            case 1:
                disk.Write(Take(ref input, 1) * 4 % 0x100, (uint)Take(ref input, 4));
                break;
            case 2:
                disk.Machine.Memory.WriteValue(VirtioDisk.Registers + 0x100 + (Take(ref input, 1) % 0x100), Take(ref input, 8), 1 << (operation >> 6));
                break;
            case 3:
                disk.Submit((uint)Take(ref input, 1), Take(ref input, 1), new byte[16], (int)Take(ref input, 2), (operation & 0x80) != 0);
                break;
            default:
                ulong page = (operation & 3) switch { 0 => VirtioDisk.Ring, 1 => disk.Available, 2 => 0x7000, _ => 0x8000 };
                ulong address = page + (Take(ref input, 1) * 4 % 0x400);
                int length = Math.Min(1 + (operation >> 3), input.Length);
                disk.Machine.Memory.Write(address, input[..length]);
                input = input[length..];
                break;
        }
    }

    private static ulong Take(ref ReadOnlySpan<byte> input, int size)
    {
        Span<byte> value = stackalloc byte[8];
        value.Clear();
        int n = Math.Min(size, input.Length);
        input[..n].CopyTo(value);
        input = input[n..];
        return BinaryPrimitives.ReadUInt64LittleEndian(value);
    }
}
