using System.Buffers.Binary;
using Vmm.ObjectModel.Accel;

namespace Vmm.Dump.Windows;

/// <summary>Registers of a processor as 64-bit Windows keeps them (CONTEXT of the Windows SDK, winnt.h).</summary>
internal static class WindowsContext
{
    /// <summary>Bytes of the structure.</summary>
    internal const int Bytes = 1232;

    // CONTEXT_AMD64 with control, integer, segment, floating-point and debug registers.
    private const uint AllFlags = 0x10001f;

    private const int FlagsAt = 0x30;
    private const int MxcsrAt = 0x34;
    private const int SegmentsAt = 0x38;
    private const int RflagsAt = 0x44;
    private const int DebugAt = 0x48;
    private const int GprAt = 0x78;
    private const int RipAt = 0xf8;
    private const int FpuAt = 0x100;

    /// <summary>The registers.</summary>
    internal static byte[] Write(CpuArchState cpu)
    {
        byte[] context = new byte[Bytes];
        BinaryPrimitives.WriteUInt32LittleEndian(context.AsSpan(FlagsAt), AllFlags);
        BinaryPrimitives.WriteUInt32LittleEndian(context.AsSpan(MxcsrAt), cpu.Fpu.Mxcsr);

        // CS, DS, ES, FS, GS, SS.
        ReadOnlySpan<int> segments = [1, 3, 0, 4, 5, 2];
        for (int i = 0; i < segments.Length; i++)
        {
            BinaryPrimitives.WriteUInt16LittleEndian(context.AsSpan(SegmentsAt + (i * 2)), cpu.Segments[segments[i]].Selector);
        }

        BinaryPrimitives.WriteUInt32LittleEndian(context.AsSpan(RflagsAt), (uint)cpu.Rflags);
        ReadOnlySpan<int> debug = [0, 1, 2, 3, 6, 7];
        for (int i = 0; i < debug.Length; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(context.AsSpan(DebugAt + (i * 8)), cpu.Dr[debug[i]]);
        }

        for (int i = 0; i < cpu.Gpr.Length; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(context.AsSpan(GprAt + (i * 8)), cpu.Gpr[i]);
        }

        BinaryPrimitives.WriteUInt64LittleEndian(context.AsSpan(RipAt), cpu.Rip);
        cpu.Fpu.WriteLegacyArea(context.AsSpan(FpuAt));
        return context;
    }
}
