using Iced.Intel;
using Vmm.TestKit.Guests;
using static Iced.Intel.AssemblerRegisters;

namespace Vmm.Benchmarks;

/// <summary>Guests that make one kind of exit over and over from ring 3, between the marks 'B' and 'E' on the debug console.</summary>
internal static class ExitGuest
{
    /// <summary>How many exits lie between the marks.</summary>
    public const int Count = 5_000;

    /// <summary>Byte writes to a port.</summary>
    public static byte[] Out(ushort port) => TestGuests.PortLoop(Count, port);

    /// <summary>Byte reads from a port.</summary>
    public static byte[] In(ushort port) => TestGuests.ExitLoop(Count, c =>
    {
        c.mov(edx, port);
        c.@in(al, dx);
    });

    /// <summary>Four-byte reads from memory below 2 GiB.</summary>
    public static byte[] Read(uint address) => TestGuests.ExitLoop(Count, c => c.mov(eax, __dword_ptr[address]));
}
