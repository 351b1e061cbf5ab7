namespace Vmm.Interop;

/// <summary>LZO1X by the system's liblzo2. One object serves one call at a time, on any thread, and keeps its memory for the next call.</summary>
public sealed unsafe class Lzo : IDisposable
{
    // LZO1X_1_MEM_COMPRESS of lzo1x.h: 16384 pointers.
    private const int WorkBytes = 16384 * 8;
    private const uint HeaderVersion = 0x20a0;

    private readonly NativeBuffer _work = new(WorkBytes);

    /// <summary>The library is there and is of the version that is expected.</summary>
    public static bool IsAvailable => Library.IsReady;

    /// <summary>Compresses all of the input.</summary>
    /// <param name="source">Input.</param>
    /// <param name="destination">Room for the input, a sixteenth of it, and 67 bytes.</param>
    /// <param name="written">Bytes of output.</param>
    public CodecResult Compress(ReadOnlySpan<byte> source, Span<byte> destination, out int written)
    {
        written = 0;
        if (destination.Length < source.Length + (source.Length / 16) + 67)
        {
            return CodecResult.NoSpace;
        }

        fixed (byte* from = source)
        fixed (byte* to = destination)
        {
            nuint length = (nuint)destination.Length;
            if (!IsAvailable || Library.Compress(from, (nuint)source.Length, to, &length, (void*)_work.Address) != 0)
            {
                return CodecResult.Failed;
            }

            written = (int)length;
            return CodecResult.Ok;
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _work.Dispose();

    private static class Library
    {
        internal static readonly delegate* unmanaged<byte*, nuint, byte*, nuint*, void*, int> Compress;
        internal static readonly bool IsReady;

        static Library()
        {
            nint library = NativeCodecLibrary.Load("liblzo2.so.2");
            if (library == 0)
            {
                return;
            }

            // The library compares sizes of types with those of its caller; -1 is not compared.
            var init = (delegate* unmanaged<uint, int, int, int, int, int, int, int, int, int, int>)NativeCodecLibrary.Symbol(library, "__lzo_init_v2");
            IsReady = init(HeaderVersion, -1, -1, -1, -1, -1, -1, -1, -1, -1) == 0;
            Compress = (delegate* unmanaged<byte*, nuint, byte*, nuint*, void*, int>)NativeCodecLibrary.Symbol(library, "lzo1x_1_compress");
        }
    }
}

/// <summary>Raw Snappy by the system's libsnappy. Any thread.</summary>
public static unsafe class Snappy
{
    private static readonly nint s_library = NativeCodecLibrary.Load("libsnappy.so.1");

    private static readonly delegate* unmanaged<byte*, nuint, byte*, nuint*, int> s_compress =
        (delegate* unmanaged<byte*, nuint, byte*, nuint*, int>)NativeCodecLibrary.Symbol(s_library, "snappy_compress");

    /// <summary>The library is there.</summary>
    public static bool IsAvailable => s_library != 0;

    /// <summary>Compresses all of the input.</summary>
    /// <param name="source">Input.</param>
    /// <param name="destination">Room for the input, a sixth of it, and 32 bytes.</param>
    /// <param name="written">Bytes of output.</param>
    public static CodecResult Compress(ReadOnlySpan<byte> source, Span<byte> destination, out int written)
    {
        written = 0;
        if (destination.Length < 32 + source.Length + (source.Length / 6))
        {
            return CodecResult.NoSpace;
        }

        fixed (byte* from = source)
        fixed (byte* to = destination)
        {
            nuint length = (nuint)destination.Length;
            if (!IsAvailable || s_compress(from, (nuint)source.Length, to, &length) != 0)
            {
                return CodecResult.Failed;
            }

            written = (int)length;
            return CodecResult.Ok;
        }
    }
}
