using Vmm.Interop;
using Vmm.Qapi;

namespace Vmm.Block.Drivers.Crypto;

/// <summary>How blocks of a cipher make a sector.</summary>
internal enum CipherMode
{
    /// <summary>Each for itself.</summary>
    Ecb,

    /// <summary>Each with the one before.</summary>
    Cbc,

    /// <summary>Each with its number, by a second key.</summary>
    Xts,

    /// <summary>With a stream of encrypted numbers.</summary>
    Ctr,
}

/// <summary>A block cipher.</summary>
internal enum CipherFamily
{
    /// <summary>AES, 128 to 256 bits.</summary>
    Aes,

    /// <summary>CAST-128, with blocks of half the size.</summary>
    Cast5,

    /// <summary>Serpent, 128 to 256 bits.</summary>
    Serpent,

    /// <summary>Twofish, 128 to 256 bits.</summary>
    Twofish,
}

/// <summary>What sectors begin with.</summary>
internal enum VectorKind
{
    /// <summary>Their number, 32 bits.</summary>
    Plain,

    /// <summary>Their number, 64 bits.</summary>
    Plain64,

    /// <summary>Their number, encrypted with a hash of the key.</summary>
    Essiv,
}

/// <summary>A cipher for sectors: a block cipher in a mode, with a rule for initial vectors.</summary>
/// <param name="Family">The block cipher.</param>
/// <param name="KeyBytes">Bytes of a single key of it.</param>
/// <param name="Mode">Mode.</param>
/// <param name="Vector">Initial vectors.</param>
/// <param name="VectorHash">Hash of <see cref="VectorKind.Essiv"/>; null for others.</param>
internal sealed record CipherSpec(CipherFamily Family, int KeyBytes, CipherMode Mode, VectorKind Vector, string? VectorHash)
{
    /// <summary>Bytes of the whole key.</summary>
    internal int TotalKeyBytes => Mode == CipherMode.Xts ? 2 * KeyBytes : KeyBytes;

    internal string AlgorithmName => $"{HeaderName}-{8 * KeyBytes}";

    /// <summary>The block cipher as a header has it.</summary>
    internal string HeaderName => Family.ToString().ToLowerInvariant();

    /// <summary>Bytes of a block.</summary>
    internal int BlockBytes => Family == CipherFamily.Cast5 ? 8 : 16;

    internal string ModeName => Mode.ToString().ToLowerInvariant();

    internal string VectorName => Vector.ToString().ToLowerInvariant();

    /// <summary>Mode and vectors as a header has them.</summary>
    internal string HeaderMode => VectorHash is null ? $"{ModeName}-{VectorName}" : $"{ModeName}-{VectorName}:{VectorHash}";

    /// <summary>Reads names of a header.</summary>
    /// <param name="algorithm">Cipher.</param>
    /// <param name="modeAndVector">Mode, "-", rule for vectors.</param>
    /// <param name="keyBytes">Bytes of the whole key.</param>
    /// <param name="hash">Hash of the header.</param>
    /// <exception cref="QapiException">One of them is not known.</exception>
    internal static CipherSpec Parse(string algorithm, string modeAndVector, uint keyBytes, string hash)
    {
        int dash = modeAndVector.IndexOf('-');
        if (dash < 0)
        {
            throw new QapiException($"Unexpected cipher mode string format '{modeAndVector}'");
        }

        string modeName = modeAndVector[..dash];
        string vector = modeAndVector[(dash + 1)..];
        int colon = vector.IndexOf(':');
        string? vectorHash = colon < 0 ? null : vector[(colon + 1)..];
        vector = colon < 0 ? vector : vector[..colon];
        if (vectorHash is not null)
        {
            VolumeHash.Find(vectorHash);
        }

        CipherMode mode = modeName switch
        {
            "ecb" => CipherMode.Ecb,
            "cbc" => CipherMode.Cbc,
            "xts" => CipherMode.Xts,
            "ctr" => CipherMode.Ctr,
            _ => throw new QapiException($"Cipher mode '{modeName}' not supported"),
        };
        uint single = mode == CipherMode.Xts ? keyBytes / 2 : keyBytes;
        CipherFamily? family = algorithm switch
        {
            "aes" => CipherFamily.Aes,
            "cast5" => CipherFamily.Cast5,
            "serpent" => CipherFamily.Serpent,
            "twofish" => CipherFamily.Twofish,
            _ => null,
        };
        if (family is not { } known || !HasKey(known, single) || (mode == CipherMode.Xts && keyBytes % 2 != 0))
        {
            throw new QapiException($"Algorithm '{algorithm}' with key size {single} bytes not supported");
        }

        VolumeHash.Find(hash);
        VectorKind kind = vector switch
        {
            "plain" => VectorKind.Plain,
            "plain64" => VectorKind.Plain64,
            "essiv" => VectorKind.Essiv,
            _ => throw new QapiException($"IV generator '{vector}' not supported"),
        };
        if (kind == VectorKind.Essiv && vectorHash is null)
        {
            throw new QapiException("Missing IV generator hash specification");
        }

        CipherSpec spec = new(known, (int)single, mode, kind, kind == VectorKind.Essiv ? vectorHash : null);
        spec.Check();
        return spec;
    }

    /// <summary>Makes sure that there is such a combination, and a library for it.</summary>
    /// <exception cref="QapiException">There is not.</exception>
    internal void Check()
    {
        if (Vector == VectorKind.Essiv)
        {
            if (Family == CipherFamily.Cast5)
            {
                throw new QapiException($"Cipher {AlgorithmName} not supported with essiv");
            }

            // The hash of the key is a key.
            uint bytes = (uint)VolumeHash.Find(VectorHash!).DigestBytes;
            if (!HasKey(Family, bytes))
            {
                throw new QapiException($"No {(Family == CipherFamily.Aes ? "AES" : Family.ToString())} cipher with key size {bytes} available");
            }
        }

        if (Mode == CipherMode.Xts && BlockBytes != 16)
        {
            throw new QapiException("Unsupported cipher mode xts");
        }

        if (Family != CipherFamily.Aes && !NettleCipher.IsAvailable)
        {
            throw new QapiException($"Algorithm '{AlgorithmName}' not supported");
        }
    }

    /// <summary>A cipher has keys of that many bytes.</summary>
    internal static bool HasKey(CipherFamily family, uint bytes) => bytes == 16 || (family != CipherFamily.Cast5 && bytes is 24 or 32);

    /// <summary>The name of a cipher that is not AES in the library that has it.</summary>
    internal static string NettleName(CipherFamily family, int keyBytes) => family switch
    {
        CipherFamily.Cast5 => "cast128",
        CipherFamily.Serpent => $"serpent{8 * keyBytes}",
        _ => $"twofish{8 * keyBytes}",
    };
}
