using System.Runtime.InteropServices;

namespace Vmm.Interop;

/// <summary>
/// Block ciphers of the system's Nettle, block by block without any mode, with a key. The library is loaded when it is first asked for. One
/// call at a time, on any thread.
/// </summary>
public sealed unsafe class NettleCipher : IDisposable
{
    private const nuint Alignment = 64;

    private static readonly Lazy<nint> s_list = new(static () =>
        NativeLibrary.TryLoad("libnettle.so.8", out nint library) && NativeLibrary.TryGetExport(library, "nettle_get_ciphers", out nint get)
            ? (nint)((delegate* unmanaged<Cipher**>)get)()
            : 0);

    private readonly Cipher* _cipher;
    private byte* _encrypt;
    private byte* _decrypt;

    private NettleCipher(Cipher* cipher, ReadOnlySpan<byte> key)
    {
        _cipher = cipher;
        _encrypt = (byte*)NativeMemory.AlignedAlloc(cipher->ContextSize, Alignment);
        _decrypt = (byte*)NativeMemory.AlignedAlloc(cipher->ContextSize, Alignment);
        fixed (byte* bytes = key)
        {
            cipher->SetEncryptKey(_encrypt, bytes);
            cipher->SetDecryptKey(_decrypt, bytes);
        }
    }

    /// <summary>The library is there.</summary>
    public static bool IsAvailable => s_list.Value != 0;

    /// <summary>Bytes of a block.</summary>
    public int BlockBytes => (int)_cipher->BlockSize;

    /// <summary>A cipher.</summary>
    /// <param name="name">Its name, with the bits of the key, as the library spells it.</param>
    /// <param name="key">The key, of the length that the cipher has.</param>
    /// <returns>Null when the library is not there, or has no such cipher with such a key.</returns>
    public static NettleCipher? TryCreate(string name, ReadOnlySpan<byte> key)
    {
        for (Cipher** at = (Cipher**)s_list.Value; at is not null && *at is not null; at++)
        {
            if ((*at)->KeySize == key.Length && (*at)->BlockSize > 0 && Marshal.PtrToStringUTF8((nint)(*at)->Name) == name)
            {
                return new NettleCipher(*at, key);
            }
        }

        return null;
    }

    /// <summary>Encrypts whole blocks.</summary>
    /// <param name="source">The blocks.</param>
    /// <param name="destination">Where they go; it may be the source.</param>
    /// <exception cref="ArgumentException">The lengths differ, or there is a part of a block.</exception>
    public void Encrypt(ReadOnlySpan<byte> source, Span<byte> destination) => Run(_cipher->Encrypt, _encrypt, source, destination);

    /// <summary>Decrypts whole blocks; see <see cref="Encrypt"/>.</summary>
    public void Decrypt(ReadOnlySpan<byte> source, Span<byte> destination) => Run(_cipher->Decrypt, _decrypt, source, destination);

    /// <summary>Wipes the key and frees the memory.</summary>
    public void Dispose()
    {
        Free(ref _encrypt);
        Free(ref _decrypt);
        GC.SuppressFinalize(this);
    }

    /// <summary>Frees the memory.</summary>
    ~NettleCipher()
    {
        Free(ref _encrypt);
        Free(ref _decrypt);
    }

    private void Run(delegate* unmanaged<byte*, nuint, byte*, byte*, void> cipher, byte* context, ReadOnlySpan<byte> source, Span<byte> destination)
    {
        ObjectDisposedException.ThrowIf(context is null, this);
        if (source.Length != destination.Length || source.Length % BlockBytes != 0)
        {
            throw new ArgumentException("not whole blocks of the same number", nameof(source));
        }

        fixed (byte* from = source)
        fixed (byte* to = destination)
        {
            cipher(context, (nuint)source.Length, to, from);
        }

        GC.KeepAlive(this);
    }

    private void Free(ref byte* context)
    {
        if (context is not null)
        {
            NativeMemory.Clear(context, _cipher->ContextSize);
            NativeMemory.AlignedFree(context);
            context = null;
        }
    }

    // struct nettle_cipher of nettle-meta.h.
    [StructLayout(LayoutKind.Sequential)]
    private struct Cipher
    {
        internal byte* Name;
        internal uint ContextSize;
        internal uint BlockSize;
        internal uint KeySize;
        internal delegate* unmanaged<byte*, byte*, void> SetEncryptKey;
        internal delegate* unmanaged<byte*, byte*, void> SetDecryptKey;
        internal delegate* unmanaged<byte*, nuint, byte*, byte*, void> Encrypt;
        internal delegate* unmanaged<byte*, nuint, byte*, byte*, void> Decrypt;
    }
}
