using System.Runtime.InteropServices;

namespace Vmm.Interop;

/// <summary>
/// Hashes of the system's Nettle, and keys that passwords make with them. The library is loaded when it is first asked for. Any thread, several at a time.
/// </summary>
public sealed unsafe class NettleHash
{
    private const nuint Alignment = 64;

    private static readonly Lazy<nint> s_library = new(static () => NativeLibrary.TryLoad("libnettle.so.8", out nint library) ? library : 0);

    private readonly Descriptor* _hash;
    private readonly delegate* unmanaged<byte*, byte*, byte*, Descriptor*, nuint, byte*, void> _setKey;
    private readonly nint _update;
    private readonly nint _digest;
    private readonly delegate* unmanaged<byte*, nint, nint, nuint, uint, nuint, byte*, nuint, byte*, void> _derive;

    private NettleHash(Descriptor* hash, nint library, string family, string name)
    {
        _hash = hash;
        _setKey = (delegate* unmanaged<byte*, byte*, byte*, Descriptor*, nuint, byte*, void>)NativeLibrary.GetExport(library, "nettle_hmac_set_key");
        _update = NativeLibrary.GetExport(library, $"nettle_hmac_{family}_update");
        _digest = NativeLibrary.GetExport(library, $"nettle_hmac_{name}_digest");
        _derive = (delegate* unmanaged<byte*, nint, nint, nuint, uint, nuint, byte*, nuint, byte*, void>)NativeLibrary.GetExport(library, "nettle_pbkdf2");
    }

    /// <summary>Bytes of a hash.</summary>
    public int DigestBytes => (int)_hash->DigestSize;

    /// <summary>A hash.</summary>
    /// <param name="name">Its name as the library spells it: md5, sha1, sha224, sha256, sha384, sha512, ripemd160.</param>
    /// <returns>Null when the library is not there, or has no such hash.</returns>
    public static NettleHash? TryFind(string name)
    {
        // Of those that differ only in how they begin and end, one has the functions in between.
        string? family = name switch
        {
            "md5" or "sha1" or "sha256" or "sha512" or "ripemd160" => name,
            "sha224" => "sha256",
            "sha384" => "sha512",
            _ => null,
        };
        nint library = s_library.Value;
        return family is not null && library != 0 && NativeLibrary.TryGetExport(library, "nettle_" + name, out nint hash)
            ? new NettleHash((Descriptor*)hash, library, family, name)
            : null;
    }

    /// <summary>Hashes bytes.</summary>
    /// <param name="data">The bytes.</param>
    /// <param name="digest">Where the hash goes, or only its beginning where there is less room.</param>
    /// <exception cref="ArgumentException">There is more room than a hash has.</exception>
    public void Hash(ReadOnlySpan<byte> data, Span<byte> digest)
    {
        if (digest.Length > DigestBytes)
        {
            throw new ArgumentException("longer than a hash", nameof(digest));
        }

        byte* context = (byte*)NativeMemory.AlignedAlloc(_hash->ContextSize, Alignment);
        fixed (byte* from = data)
        fixed (byte* to = digest)
        {
            _hash->Init(context);
            _hash->Update(context, (nuint)data.Length, from);
            _hash->Digest(context, (nuint)digest.Length, to);
        }

        Free(context, _hash->ContextSize);
    }

    /// <summary>Makes a key of a password: PBKDF2 with HMAC (RFC 8018, 5.2).</summary>
    /// <param name="password">The password.</param>
    /// <param name="salt">Salt.</param>
    /// <param name="iterations">Iterations, at least 1.</param>
    /// <param name="key">Where the key goes.</param>
    public void Derive(ReadOnlySpan<byte> password, ReadOnlySpan<byte> salt, uint iterations, Span<byte> key)
    {
        ArgumentOutOfRangeException.ThrowIfZero(iterations);

        // The state with the outer key, that with the inner one, and that under way.
        nuint size = _hash->ContextSize;
        byte* context = (byte*)NativeMemory.AlignedAlloc(3 * size, Alignment);
        fixed (byte* secret = password)
        fixed (byte* seasoning = salt)
        fixed (byte* to = key)
        {
            _setKey(context, context + size, context + (2 * size), _hash, (nuint)password.Length, secret);
            _derive(context, _update, _digest, _hash->DigestSize, iterations, (nuint)salt.Length, seasoning, (nuint)key.Length, to);
        }

        Free(context, 3 * size);
    }

    private static void Free(byte* context, nuint bytes)
    {
        NativeMemory.Clear(context, bytes);
        NativeMemory.AlignedFree(context);
    }

    // struct nettle_hash of nettle-meta.h.
    [StructLayout(LayoutKind.Sequential)]
    private struct Descriptor
    {
        internal byte* Name;
        internal uint ContextSize;
        internal uint DigestSize;
        internal uint BlockSize;
        internal delegate* unmanaged<byte*, void> Init;
        internal delegate* unmanaged<byte*, nuint, byte*, void> Update;
        internal delegate* unmanaged<byte*, nuint, byte*, void> Digest;
    }
}
