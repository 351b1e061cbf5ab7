using System.Security.Cryptography;
using System.Text;

namespace Vmm.Interop.Tests;

/// <summary>Hashes of the system's Nettle: values of their specifications, and those that the platform has too.</summary>
public sealed class NettleHashTests
{
    // Of "abc": RFC 1321 A.5, RFC 3874 3.1, and the paper on RIPEMD-160, appendix B.
    [TestCase("md5", "900150983cd24fb0d6963f7d28e17f72")]
    [TestCase("sha224", "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7")]
    [TestCase("ripemd160", "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc")]
    public void HashesAreThoseOfTheSpecifications(string name, string hex)
    {
        NettleHash hash = Find(name);
        byte[] digest = new byte[hash.DigestBytes];
        hash.Hash("abc"u8, digest);
        Assert.That(Convert.ToHexStringLower(digest), Is.EqualTo(hex));
        byte[] begin = new byte[7];
        hash.Hash("abc"u8, begin);
        Assert.That(begin, Is.EqualTo(digest[..7]));
        Assert.That(() => hash.Hash("abc"u8, new byte[hash.DigestBytes + 1]), Throws.ArgumentException);
    }

    [TestCase("sha1", 20)]
    [TestCase("sha256", 32)]
    [TestCase("sha384", 48)]
    [TestCase("sha512", 64)]
    public void KeysAreThoseOfThePlatform(string name, int bytes)
    {
        NettleHash hash = Find(name);
        Assert.That(hash.DigestBytes, Is.EqualTo(bytes));
        foreach (string password in (ReadOnlySpan<string>)["", "open sesame", new string('x', 300)])
        {
            byte[] key = new byte[100];
            hash.Derive(Encoding.UTF8.GetBytes(password), "salt"u8, 77, key);
            byte[] expected = Rfc2898DeriveBytes.Pbkdf2(password, "salt"u8, 77, new HashAlgorithmName(name.ToUpperInvariant()), key.Length);
            Assert.That(key, Is.EqualTo(expected));
        }
    }

    [TestCase("md5")]
    [TestCase("sha224")]
    [TestCase("ripemd160")]
    public void KeysAreMadeAsTheSpecificationSays(string name)
    {
        NettleHash hash = Find(name);
        byte[] key = new byte[hash.DigestBytes];
        hash.Derive("password"u8, "salt"u8, 2, key);

        // The sum of the two HMACs (RFC 2104).
        byte[] first = Mac(hash, "password"u8, [.. "salt"u8, 0, 0, 0, 1]);
        byte[] second = Mac(hash, "password"u8, first);
        Assert.That(key, Is.EqualTo(first.Zip(second, static (a, b) => (byte)(a ^ b))));
        Assert.That(() => hash.Derive("password"u8, "salt"u8, 0, key), Throws.InstanceOf<ArgumentOutOfRangeException>());
    }

    [Test]
    public void OthersAreNotThere() => Assert.That(NettleHash.TryFind("sha3_256"), Is.Null);

    private static byte[] Mac(NettleHash hash, ReadOnlySpan<byte> key, ReadOnlySpan<byte> data)
    {
        byte[] inner = new byte[64];
        key.CopyTo(inner);
        byte[] outer = Array.ConvertAll(inner, static b => (byte)(b ^ 0x5c));
        inner = Array.ConvertAll(inner, static b => (byte)(b ^ 0x36));
        byte[] digest = new byte[hash.DigestBytes];
        hash.Hash([.. inner, .. data], digest);
        hash.Hash([.. outer, .. digest], digest);
        return digest;
    }

    private static NettleHash Find(string name)
    {
        NettleHash? hash = NettleHash.TryFind(name);
        if (hash is null)
        {
            Assert.Ignore("libnettle (package libnettle8) is not installed");
        }

        return hash!;
    }
}
