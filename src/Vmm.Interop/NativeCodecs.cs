using System.Runtime.InteropServices;

namespace Vmm.Interop;

/// <summary>Result of a codec.</summary>
public enum CodecResult
{
    /// <summary>Done.</summary>
    Ok,

    /// <summary>The output does not fit.</summary>
    NoSpace,

    /// <summary>The input is not valid, or memory is short.</summary>
    Failed,
}

/// <summary>
/// Deflate streams by the system's zlib, raw ones with the window of 4 KiB that qcow2 prescribes by default. One object serves one call at a
/// time, on any thread, and keeps its memory for the next call.
/// </summary>
/// <param name="windowBits">Binary logarithm of the window; negative for streams without header and sum.</param>
/// <param name="level">How hard to compress, 1 to 9.</param>
/// <param name="memoryLevel">
/// How much memory to compress with, 1 to 9: tables of 2^(level + 8) bytes, which are cleared for each call. Small input needs few.
/// </param>
public sealed unsafe class RawDeflate(
    int windowBits = RawDeflate.RawWindow, int level = RawDeflate.UsualLevel, int memoryLevel = RawDeflate.MostMemory) : IDisposable
{
    /// <summary>The window of qcow2.</summary>
    public const int RawWindow = -12;

    /// <summary>The window of streams in zlib's format.</summary>
    public const int ZlibWindow = 15;

    /// <summary>The library's own choice between speed and size.</summary>
    public const int UsualLevel = -1;

    /// <summary>The fastest level that compresses.</summary>
    public const int FastestLevel = 1;

    /// <summary>The most memory.</summary>
    public const int MostMemory = 9;

    private const int Finish = 4;
    private const int StreamEnd = 1;

    private Stream* _inflate;
    private Stream* _deflate;

    /// <summary>The library is there.</summary>
    public static bool IsAvailable => Library.Handle != 0;

    /// <summary>Decompresses until the output is full or the stream ends; input behind the end is ignored.</summary>
    public CodecResult Decompress(ReadOnlySpan<byte> source, Span<byte> destination) => Decompress(source, destination, out _);

    /// <summary>As <see cref="Decompress(ReadOnlySpan{byte}, Span{byte})"/>, with the bytes of output.</summary>
    public CodecResult Decompress(ReadOnlySpan<byte> source, Span<byte> destination, out int written)
    {
        written = 0;
        if (_inflate is null && !Init(ref _inflate, isDeflate: false))
        {
            return CodecResult.Failed;
        }

        if (Library.InflateReset(_inflate) != 0)
        {
            return CodecResult.Failed;
        }

        int result = Run(Library.Inflate, _inflate, source, destination);
        written = destination.Length - (int)_inflate->AvailableOut;

        // The stream may go on for what the output has no room for.
        return result == StreamEnd || (result is 0 or -5 && _inflate->AvailableOut == 0) ? CodecResult.Ok : CodecResult.Failed;
    }

    /// <summary>Compresses all of the input.</summary>
    /// <param name="source">Input.</param>
    /// <param name="destination">Output.</param>
    /// <param name="written">Bytes of output.</param>
    public CodecResult Compress(ReadOnlySpan<byte> source, Span<byte> destination, out int written)
    {
        written = 0;
        if (_deflate is null && !Init(ref _deflate, isDeflate: true))
        {
            return CodecResult.Failed;
        }

        if (Library.DeflateReset(_deflate) != 0)
        {
            return CodecResult.Failed;
        }

        int result = Run(Library.Deflate, _deflate, source, destination);
        written = destination.Length - (int)_deflate->AvailableOut;
        return result == StreamEnd ? CodecResult.Ok : result is 0 or -5 ? CodecResult.NoSpace : CodecResult.Failed;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        End(isDeflate: false, ref _inflate);
        End(isDeflate: true, ref _deflate);
        GC.SuppressFinalize(this);
    }

    /// <summary>Frees the library's memory.</summary>
    ~RawDeflate()
    {
        End(isDeflate: false, ref _inflate);
        End(isDeflate: true, ref _deflate);
    }

    private bool Init(ref Stream* stream, bool isDeflate)
    {
        if (!IsAvailable)
        {
            return false;
        }

        Stream* made = (Stream*)NativeMemory.AllocZeroed((nuint)sizeof(Stream));
        int result;
        fixed (byte* version = "1.2.11\0"u8)
        {
            result = isDeflate
                ? ((delegate* unmanaged<Stream*, int, int, int, int, int, byte*, int, int>)Library.Symbol("deflateInit2_"))(
                    made, level, 8, windowBits, memoryLevel, 0, version, sizeof(Stream))
                : ((delegate* unmanaged<Stream*, int, byte*, int, int>)Library.Symbol("inflateInit2_"))(made, windowBits, version, sizeof(Stream));
        }

        if (result != 0)
        {
            NativeMemory.Free(made);
            return false;
        }

        stream = made;
        return true;
    }

    private static int Run(delegate* unmanaged<Stream*, int, int> run, Stream* stream, ReadOnlySpan<byte> source, Span<byte> destination)
    {
        fixed (byte* input = source)
        fixed (byte* output = destination)
        {
            stream->NextIn = input;
            stream->AvailableIn = (uint)source.Length;
            stream->NextOut = output;
            stream->AvailableOut = (uint)destination.Length;
            int result = run(stream, Finish);
            stream->NextIn = null;
            stream->NextOut = null;
            return result;
        }
    }

    private static void End(bool isDeflate, ref Stream* stream)
    {
        if (stream is not null)
        {
            ((delegate* unmanaged<Stream*, int>)Library.Symbol(isDeflate ? "deflateEnd" : "inflateEnd"))(stream);
            NativeMemory.Free(stream);
            stream = null;
        }
    }

    // What is called once for each piece of data is looked up once.
    private static class Library
    {
        internal static readonly nint Handle = NativeCodecLibrary.Load("libz.so.1");
        internal static readonly delegate* unmanaged<Stream*, int, int> Deflate = (delegate* unmanaged<Stream*, int, int>)Symbol("deflate");
        internal static readonly delegate* unmanaged<Stream*, int, int> Inflate = (delegate* unmanaged<Stream*, int, int>)Symbol("inflate");
        internal static readonly delegate* unmanaged<Stream*, int> DeflateReset = (delegate* unmanaged<Stream*, int>)Symbol("deflateReset");
        internal static readonly delegate* unmanaged<Stream*, int> InflateReset = (delegate* unmanaged<Stream*, int>)Symbol("inflateReset");

        internal static void* Symbol(string name) => NativeCodecLibrary.Symbol(Handle, name);
    }

    // z_stream of zlib.h.
    [StructLayout(LayoutKind.Sequential)]
    private struct Stream
    {
        internal byte* NextIn;
        internal uint AvailableIn;
        internal nuint TotalIn;
        internal byte* NextOut;
        internal uint AvailableOut;
        internal nuint TotalOut;
        internal byte* Message;
        internal void* State;
        internal void* Allocate;
        internal void* FreeMemory;
        internal void* Opaque;
        internal int DataType;
        internal nuint Adler;
        internal nuint Reserved;
    }
}

/// <summary>Frames by the system's libzstd. Any thread.</summary>
public static unsafe class Zstandard
{
    private static readonly Lazy<nint> s_library = new(static () => NativeCodecLibrary.Load("libzstd.so.1"));

    /// <summary>The library is there.</summary>
    public static bool IsAvailable => s_library.Value != 0;

    /// <summary>Decompresses a frame that fills the output; input behind its end is ignored.</summary>
    public static CodecResult Decompress(ReadOnlySpan<byte> source, Span<byte> destination)
    {
        if (!IsAvailable)
        {
            return CodecResult.Failed;
        }

        // A stream, as the length of the frame is not known: the input ends somewhere within its last sector.
        void* context = ((delegate* unmanaged<void*>)Symbol("ZSTD_createDStream"))();
        if (context is null)
        {
            return CodecResult.Failed;
        }

        var decompress = (delegate* unmanaged<void*, Buffer*, Buffer*, nuint>)Symbol("ZSTD_decompressStream");
        var isError = (delegate* unmanaged<nuint, uint>)Symbol("ZSTD_isError");
        CodecResult result = CodecResult.Ok;
        fixed (byte* from = source)
        fixed (byte* to = destination)
        {
            Buffer input = new() { Address = from, Size = (nuint)source.Length };
            Buffer output = new() { Address = to, Size = (nuint)destination.Length };
            while (output.Position < output.Size)
            {
                (nuint inputBefore, nuint outputBefore) = (input.Position, output.Position);
                nuint rest = decompress(context, &output, &input);
                bool isStuck = input.Position == inputBefore && output.Position == outputBefore;
                if (isError(rest) != 0 || (output.Position < output.Size && (rest == 0 || isStuck)))
                {
                    result = CodecResult.Failed;
                    break;
                }
            }
        }

        ((delegate* unmanaged<void*, nuint>)Symbol("ZSTD_freeDStream"))(context);
        return result;
    }

    /// <summary>Compresses all of the input into a frame.</summary>
    /// <param name="source">Input.</param>
    /// <param name="destination">Output.</param>
    /// <param name="written">Bytes of output.</param>
    public static CodecResult Compress(ReadOnlySpan<byte> source, Span<byte> destination, out int written)
    {
        written = 0;
        if (!IsAvailable)
        {
            return CodecResult.Failed;
        }

        nuint result;
        fixed (byte* from = source)
        fixed (byte* to = destination)
        {
            result = ((delegate* unmanaged<byte*, nuint, byte*, nuint, int, nuint>)Symbol("ZSTD_compress"))(
                to, (nuint)destination.Length, from, (nuint)source.Length, 3);
        }

        if (((delegate* unmanaged<nuint, uint>)Symbol("ZSTD_isError"))(result) != 0)
        {
            return CodecResult.NoSpace;
        }

        written = (int)result;
        return CodecResult.Ok;
    }

    private static void* Symbol(string name) => (void*)NativeLibrary.GetExport(s_library.Value, name);

    // ZSTD_inBuffer and ZSTD_outBuffer of zstd.h.
    [StructLayout(LayoutKind.Sequential)]
    private struct Buffer
    {
        internal byte* Address;
        internal nuint Size;
        internal nuint Position;
    }
}

internal static class NativeCodecLibrary
{
    internal static nint Load(string name) => NativeLibrary.TryLoad(name, out nint library) ? library : 0;

    // Null without the library, whose absence callers have asked for.
    internal static unsafe void* Symbol(nint library, string name) => library == 0 ? null : (void*)NativeLibrary.GetExport(library, name);
}
