using System.Buffers.Binary;
using Vmm.Devices.DebugExit;
using Vmm.Devices.Ged;
using Vmm.Devices.PvPanic;
using Vmm.TestKit.Devices;

namespace Vmm.Fuzz.Tests.Devices;

/// <summary>
/// A guest that reads and writes a device's ports, or registers in memory, in any way, while time passes and the outside sends. The input is a program: an
/// operation, then its operands; what is missing at the end is zero.
/// </summary>
internal sealed class DeviceTarget(string name, params (ulong First, int Count)[] ports) : FuzzTarget
{
    /// <summary>Where the registers of the PCI device are.</summary>
    public const ulong PciRegisters = 0xfe000000;

    private const ulong FirstInMemory = 0x10000;
    private const int MaxOperations = 512;

    public override string Name => name;

    public override int Iterations => 700;

    public override int MaxLength => 1024;

    // Making the board takes most of it.
    public override long AllocationLimit(int inputLength) => (8 << 20) + (4096L * inputLength);

    public override string Execute(ReadOnlySpan<byte> input)
    {
        using var board = new PcTestBoard();
        var exit = new IsaDebugExit();
        board.Machine.Devices.Realize(exit, board.Isa.IsaBus);
        board.Machine.Devices.Realize(new AcpiGed(), board.Machine.MainSystemBus);
        MapPciDevice(board);
        board.FwCfg.AddWritableFile("etc/writable", new byte[64]);
        board.FwCfg.AddFile("opt/data", "0123456789"u8.ToArray());
        board.FwCfg.AddFile("opt/empty", Array.Empty<byte>());
        board.Pm.EnableAt(0x600);
        ulong seen = 0;
        for (int i = 0; i < MaxOperations && input.Length > 0; i++)
        {
            seen = ((seen * 31) + Operation(board, ref input)) & 0xff;
        }

        foreach ((string section, byte[] _) in board.Save())
        {
            Require(section.Length > 0, "a section without a name");
        }

        board.Reset();
        return $"{seen:x} {board.Machine.Run.Requests.Count} {board.Machine.Interrupts.Rises(PcTestBoard.CpuInterrupt)}";
    }

    // As firmware does it: base address register, then decoding of memory.
    private static void MapPciDevice(PcTestBoard board)
    {
        const uint Slot = 0x1f;
        board.Machine.Devices.Realize(new PciPvPanic { Address = (int)Slot << 3 }, board.Host.PciBus);
        board.Machine.Out(0xcf8, 0x80000010 | (Slot << 11), 4);
        board.Machine.Out(0xcfc, PciRegisters, 4);
        board.Machine.Out(0xcf8, 0x80000004 | (Slot << 11), 4);
        board.Machine.Out(0xcfc, 2, 2);
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

    private ulong Operation(PcTestBoard board, ref ReadOnlySpan<byte> input)
    {
        byte operation = (byte)Take(ref input, 1);
        int size = 1 << ((operation >> 4) % 3);
        switch (operation & 15)
        {
            case 0:
                board.Machine.Step(1 + ((long)Take(ref input, 2) * 1000));
                return 0;
            case 1:
                return (ulong)board.Console.Send([(byte)Take(ref input, 1)]);
            case 2:
                board.Keyboard.Keyboard.QueueScanCode([(byte)Take(ref input, 1)]);
                return 0;
            case 3:
                board.Keyboard.Mouse.Move((int)Take(ref input, 1) - 128, (int)Take(ref input, 1) - 128, 0, (byte)Take(ref input, 1));
                return 0;
            case 4:
                board.Console.Blocked = Take(ref input, 1) % 2 != 0;
                if (!board.Console.Blocked)
                {
                    board.Console.Unblock();
                }

                return 0;
            case 5:
                byte[] bytes = new byte[32];
                ulong address = Take(ref input, 2);
                for (int i = 0; i < bytes.Length; i += 8)
                {
                    BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(i), Take(ref input, 8));
                }

                board.Machine.Memory.Write(address, bytes);
                return 0;
            case 6:
                board.Reset();
                return 0;
            case 7 or 8 or 9 or 10:
                ulong from = Port(ref input);
                return from < FirstInMemory ? board.Machine.In(from, size) : board.Machine.Memory.ReadValue(from, size);
            default:
                ulong port = Port(ref input);
                if (port < FirstInMemory)
                {
                    board.Machine.Out(port, Take(ref input, size), size);
                }
                else
                {
                    board.Machine.Memory.WriteValue(port, Take(ref input, size), size);
                }

                return 0;
        }
    }

    private ulong Port(ref ReadOnlySpan<byte> input)
    {
        int index = (int)Take(ref input, 1) % ports.Sum(p => p.Count);
        foreach ((ulong first, int count) in ports)
        {
            if (index < count)
            {
                return first + (ulong)index;
            }

            index -= count;
        }

        return 0;
    }
}
