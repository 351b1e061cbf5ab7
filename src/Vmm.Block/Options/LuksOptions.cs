using Vmm.Qapi;

namespace Vmm.Block.Options;

/// <summary>An encrypted volume.</summary>
[QapiStruct]
public sealed partial record BlockdevOptionsLuks
{
    /// <summary>Where the volume is.</summary>
    public required BlockdevRef File { get; init; }

    /// <summary>Id of a secret object with the password.</summary>
    public string? KeySecret { get; init; }
}

/// <summary>Kinds of encryption of qcow2.</summary>
[QapiEnum]
public enum BlockdevQcow2EncryptionFormat
{
    /// <summary>AES-CBC, which is not safe and not served.</summary>
    Aes,

    /// <summary>LUKS.</summary>
    Luks,
}

/// <summary>A password.</summary>
[QapiStruct]
public sealed partial record QCryptoBlockOptionsLuks
{
    /// <summary>Id of a secret object with the password.</summary>
    public string? KeySecret { get; init; }
}

/// <summary>Encryption of a qcow2 image.</summary>
[QapiUnion(Discriminator = "format")]
public sealed partial record BlockdevQcow2Encryption
{
    /// <summary>Kind.</summary>
    public required BlockdevQcow2EncryptionFormat Format { get; init; }

    /// <summary>The password.</summary>
    [QapiBranch("aes")]
    [QapiBranch("luks")]
    public QCryptoBlockOptionsLuks? Password { get; init; }

    /// <summary>The operator has not said the kind: the image does, and may have none.</summary>
    internal bool IsKindOfImage;

    /// <summary>Id of a secret object with the password; null when there is none.</summary>
    internal string? GetKeySecret() => Password?.KeySecret;
}

/// <summary>Ciphers of new volumes.</summary>
[QapiEnum]
[QapiName("QCryptoCipherAlgorithm")]
public enum LuksCipher
{
    /// <summary>128 bits.</summary>
    [QapiName("aes-128")]
    Aes128,

    /// <summary>192 bits.</summary>
    [QapiName("aes-192")]
    Aes192,

    /// <summary>256 bits.</summary>
    [QapiName("aes-256")]
    Aes256,

    /// <summary>DES, which LUKS does not have.</summary>
    [QapiName("des")]
    Des,

    /// <summary>Triple DES, which LUKS does not have.</summary>
    [QapiName("3des")]
    TripleDes,

    /// <summary>CAST-128.</summary>
    [QapiName("cast5-128")]
    Cast5128,

    /// <summary>Serpent, 128 bits.</summary>
    [QapiName("serpent-128")]
    Serpent128,

    /// <summary>Serpent, 192 bits.</summary>
    [QapiName("serpent-192")]
    Serpent192,

    /// <summary>Serpent, 256 bits.</summary>
    [QapiName("serpent-256")]
    Serpent256,

    /// <summary>Twofish, 128 bits.</summary>
    [QapiName("twofish-128")]
    Twofish128,

    /// <summary>Twofish, 192 bits.</summary>
    [QapiName("twofish-192")]
    Twofish192,

    /// <summary>Twofish, 256 bits.</summary>
    [QapiName("twofish-256")]
    Twofish256,
}

/// <summary>Modes of new volumes.</summary>
[QapiEnum]
[QapiName("QCryptoCipherMode")]
public enum LuksMode
{
    /// <summary>Blocks by themselves.</summary>
    Ecb,

    /// <summary>Blocks in a chain.</summary>
    Cbc,

    /// <summary>Blocks by their number.</summary>
    Xts,

    /// <summary>Blocks with a stream of numbers.</summary>
    Ctr,
}

/// <summary>Initial vectors of new volumes.</summary>
[QapiEnum]
[QapiName("QCryptoIVGenAlgorithm")]
public enum LuksVector
{
    /// <summary>32 bits of the sector's number.</summary>
    [QapiName("plain")]
    Plain,

    /// <summary>64 bits of the sector's number.</summary>
    [QapiName("plain64")]
    Plain64,

    /// <summary>The sector's number, encrypted.</summary>
    [QapiName("essiv")]
    Essiv,
}

/// <summary>Hashes of new volumes.</summary>
[QapiEnum]
[QapiName("QCryptoHashAlgorithm")]
public enum LuksHash
{
    /// <summary>MD5.</summary>
    [QapiName("md5")]
    Md5,

    /// <summary>SHA-1.</summary>
    [QapiName("sha1")]
    Sha1,

    /// <summary>SHA-224.</summary>
    [QapiName("sha224")]
    Sha224,

    /// <summary>SHA-256.</summary>
    [QapiName("sha256")]
    Sha256,

    /// <summary>SHA-384.</summary>
    [QapiName("sha384")]
    Sha384,

    /// <summary>SHA-512.</summary>
    [QapiName("sha512")]
    Sha512,

    /// <summary>RIPEMD-160.</summary>
    [QapiName("ripemd160")]
    Ripemd160,
}

/// <summary>A LUKS header to be made.</summary>
[QapiStruct]
[QapiName("QCryptoBlockCreateOptionsLUKS")]
public partial record LuksCreateOptions
{
    /// <summary>Id of a secret object with the password.</summary>
    public string? KeySecret { get; init; }

    /// <summary>Cipher; aes-256 by default.</summary>
    public LuksCipher? CipherAlg { get; init; }

    /// <summary>Mode; xts by default.</summary>
    public LuksMode? CipherMode { get; init; }

    /// <summary>Initial vectors; plain64 by default.</summary>
    public LuksVector? IvgenAlg { get; init; }

    /// <summary>Hash of initial vectors; sha256 by default.</summary>
    public LuksHash? IvgenHashAlg { get; init; }

    /// <summary>Hash of everything else; sha256 by default.</summary>
    public LuksHash? HashAlg { get; init; }

    /// <summary>Milliseconds that a password takes; 2000 by default.</summary>
    public ulong? IterTime { get; init; }
}

/// <summary>A volume to be made.</summary>
[QapiStruct]
public sealed partial record BlockdevCreateOptionsLuks : LuksCreateOptions
{
    /// <summary>Where the volume goes.</summary>
    public required BlockdevRef File { get; init; }

    /// <summary>Bytes of the disk.</summary>
    public required ulong Size { get; init; }

    /// <summary>Space that is made at once; off by default.</summary>
    public PreallocationOption? Preallocation { get; init; }
}

/// <summary>Kinds of encryption of new qcow2 images.</summary>
[QapiEnum]
[QapiName("QCryptoBlockFormat")]
public enum QCryptoBlockCreateFormat
{
    /// <summary>AES-CBC, which is not safe and not served.</summary>
    Qcow,

    /// <summary>LUKS.</summary>
    Luks,
}

/// <summary>The password of the legacy encryption.</summary>
[QapiStruct]
public sealed partial record QCryptoBlockOptionsQCow
{
    /// <summary>Id of a secret object with the password.</summary>
    public string? KeySecret { get; init; }
}

/// <summary>Encryption of a new qcow2 image.</summary>
[QapiUnion(Discriminator = "format")]
public sealed partial record QCryptoBlockCreateOptions
{
    /// <summary>Kind.</summary>
    public required QCryptoBlockCreateFormat Format { get; init; }

    /// <summary>AES-CBC.</summary>
    [QapiBranch("qcow")]
    public QCryptoBlockOptionsQCow? Qcow { get; init; }

    /// <summary>LUKS.</summary>
    [QapiBranch("luks")]
    public LuksCreateOptions? Luks { get; init; }
}

/// <summary>Kinds of encryption whose options can be named.</summary>
[QapiEnum]
[QapiName("QCryptoBlockFormat")]
public enum QCryptoBlockAmendFormat
{
    /// <summary>AES-CBC, which has nothing to change.</summary>
    Qcow,

    /// <summary>LUKS.</summary>
    Luks,
}

/// <summary>What is changed of an image's encryption.</summary>
[QapiUnion(Discriminator = "format")]
public sealed partial record QCryptoBlockAmendOptions
{
    /// <summary>Kind.</summary>
    public required QCryptoBlockAmendFormat Format { get; init; }

    /// <summary>LUKS.</summary>
    [QapiBranch("luks")]
    public LuksAmendOptions? Luks { get; init; }
}

/// <summary>What becomes of key slots.</summary>
[QapiEnum]
[QapiName("QCryptoBlockLUKSKeyslotState")]
public enum LuksSlotState
{
    /// <summary>They get the master key under a password.</summary>
    Active,

    /// <summary>They are erased.</summary>
    Inactive,
}

/// <summary>A change of key slots.</summary>
[QapiStruct]
[QapiName("QCryptoBlockAmendOptionsLUKS")]
public sealed partial record LuksAmendOptions
{
    /// <summary>What becomes of them.</summary>
    public required LuksSlotState State { get; init; }

    /// <summary>Id of the secret with the password of a slot that becomes active.</summary>
    public string? NewSecret { get; init; }

    /// <summary>Id of the secret with the password whose slots are erased.</summary>
    public string? OldSecret { get; init; }

    /// <summary>Number of the slot; by default a free one, or all with the old password.</summary>
    public long? Keyslot { get; init; }

    /// <summary>Milliseconds that the new password takes; 2000 by default.</summary>
    public long? IterTime { get; init; }

    /// <summary>Id of the secret that opens the volume; by default the one that has opened it.</summary>
    public string? Secret { get; init; }
}
