using System.Security.Cryptography;
using Vmm.Interop;

namespace Vmm.Block.Drivers.Crypto;

/// <summary>One direction of a block cipher with a key, block by block. One call at a time.</summary>
internal abstract class BlockTransform : IDisposable
{
    /// <summary>A cipher.</summary>
    /// <param name="family">Which.</param>
    /// <param name="key">Key, of a length that <see cref="CipherSpec.HasKey"/> allows.</param>
    /// <param name="encrypts">The direction.</param>
    internal static BlockTransform Create(CipherFamily family, ReadOnlySpan<byte> key, bool encrypts)
    {
        if (family == CipherFamily.Aes)
        {
            return new OfAes(key, encrypts);
        }

        NettleCipher cipher = NettleCipher.TryCreate(CipherSpec.NettleName(family, key.Length), key)
            ?? throw new NotSupportedException("the library has lost a cipher");
        return new OfNettle(cipher, encrypts);
    }

    /// <summary>Transforms whole blocks.</summary>
    /// <param name="source">Where they are.</param>
    /// <param name="offset">From where on, there and in the result.</param>
    /// <param name="length">Bytes of them.</param>
    /// <param name="result">Where they go; not the source.</param>
    internal abstract void Run(byte[] source, int offset, int length, byte[] result);

    /// <inheritdoc/>
    public abstract void Dispose();

    private sealed class OfAes : BlockTransform
    {
        private readonly Aes _aes = Aes.Create();
        private readonly ICryptoTransform _transform;

        internal OfAes(ReadOnlySpan<byte> key, bool encrypts)
        {
            _aes.Mode = System.Security.Cryptography.CipherMode.ECB;
            _aes.Padding = PaddingMode.None;
            _aes.Key = key.ToArray();
            _transform = encrypts ? _aes.CreateEncryptor() : _aes.CreateDecryptor();
        }

        internal override void Run(byte[] source, int offset, int length, byte[] result) =>
            _transform.TransformBlock(source, offset, length, result, offset);

        public override void Dispose()
        {
            _transform.Dispose();
            _aes.Dispose();
        }
    }

    private sealed class OfNettle(NettleCipher cipher, bool encrypts) : BlockTransform
    {
        internal override void Run(byte[] source, int offset, int length, byte[] result)
        {
            if (encrypts)
            {
                cipher.Encrypt(source.AsSpan(offset, length), result.AsSpan(offset, length));
            }
            else
            {
                cipher.Decrypt(source.AsSpan(offset, length), result.AsSpan(offset, length));
            }
        }

        public override void Dispose() => cipher.Dispose();
    }
}
