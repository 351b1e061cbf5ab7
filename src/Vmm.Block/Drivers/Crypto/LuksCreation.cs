using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;
using Vmm.Block.Backend;
using Vmm.Block.Graph;
using Vmm.Block.Options;
using Vmm.EventLoop.Tasks;
using Vmm.Interop;
using Vmm.ObjectModel.Block;
using Vmm.Qapi;

namespace Vmm.Block.Drivers.Crypto;

/// <summary>Makes LUKS headers, on a worker thread: finding out how many iterations take how long takes its time. One use.</summary>
internal sealed class LuksCreation : LoopWork
{
    private const ulong DefaultMilliseconds = 2000;
    private const ulong DigestShare = 8;

    private readonly CipherSpec _cipher;
    private readonly string _hash;
    private readonly ulong _milliseconds;
    private readonly byte[] _password;
    private byte[] _bytes = [];

    private LuksCreation(LuksCreateOptions options, byte[] password)
    {
        LuksVector vector = options.IvgenAlg ?? LuksVector.Plain64;
        string? vectorHash = vector == LuksVector.Essiv ? (options.IvgenHashAlg ?? LuksHash.Sha256).ToWire() : null;
        LuksCipher cipher = options.CipherAlg ?? LuksCipher.Aes256;
        (CipherFamily family, int keyBytes) = cipher switch
        {
            LuksCipher.Aes128 => (CipherFamily.Aes, 16),
            LuksCipher.Aes192 => (CipherFamily.Aes, 24),
            LuksCipher.Aes256 => (CipherFamily.Aes, 32),
            LuksCipher.Cast5128 => (CipherFamily.Cast5, 16),
            LuksCipher.Serpent128 => (CipherFamily.Serpent, 16),
            LuksCipher.Serpent192 => (CipherFamily.Serpent, 24),
            LuksCipher.Serpent256 => (CipherFamily.Serpent, 32),
            LuksCipher.Twofish128 => (CipherFamily.Twofish, 16),
            LuksCipher.Twofish192 => (CipherFamily.Twofish, 24),
            LuksCipher.Twofish256 => (CipherFamily.Twofish, 32),
            _ => throw new QapiException($"Algorithm '{cipher.ToWire()}' not supported"),
        };
        _cipher = new CipherSpec(family, keyBytes, (CipherMode)(options.CipherMode ?? LuksMode.Xts), (VectorKind)vector, vectorHash);
        _hash = (options.HashAlg ?? LuksHash.Sha256).ToWire();
        _milliseconds = options.IterTime ?? DefaultMilliseconds;
        _password = password;
        if (_milliseconds == 0)
        {
            throw new QapiException("iter-time must be greater than zero");
        }

        _cipher.Check();
        VolumeHash.Find(_hash);
    }

    /// <summary>A header with one password, up to the payload.</summary>
    /// <param name="options">Options.</param>
    /// <param name="prefix">What the names of options begin with in messages.</param>
    /// <param name="findSecret">The text of a secret object by its id.</param>
    /// <param name="workers">Threads.</param>
    /// <exception cref="QapiException">There is no password.</exception>
    internal static async IoTask<byte[]> MakeHeaderAsync(
        LuksCreateOptions options, string prefix, Func<string, string> findSecret, LoopWorkers workers)
    {
        string secret = options.KeySecret ?? throw new QapiException($"Parameter '{prefix}key-secret' is required for cipher");
        LuksCreation creation = new(options, Encoding.UTF8.GetBytes(findSecret(secret)));
        await creation.RunAsync(workers);
        return creation._bytes;
    }

    /// <summary>Turns a node into a volume. With <see cref="BlockGraph.Changing"/> held.</summary>
    internal static async IoTask CreateAsync(
        BlockGraph graph, BlockdevCreateOptionsLuks options, Func<string, string> findSecret, LoopWorkers workers)
    {
        BlockNode file = await graph.ResolveAsync(options.File, new NodeOptions());
        BlockBackend user = new(graph, "");
        try
        {
            user.SetPermissions(BlockPermissions.Write | BlockPermissions.Resize, BlockPermissions.All);
            user.Insert(file);
            if (options.Size > long.MaxValue)
            {
                throw new QapiException("The requested file size is too large");
            }

            byte[] header = await MakeHeaderAsync(options, "", findSecret, workers);
            if ((long)options.Size > long.MaxValue - header.Length)
            {
                throw new QapiException("The requested file size is too large");
            }

            await file.TruncateAsync(
                header.Length + (long)options.Size, prealloc: (PreallocMode)(options.Preallocation ?? PreallocationOption.Off));
            using NativeBuffer buffer = new(header.Length);
            header.CopyTo(buffer.Span);
            IoVectors data = IoVectors.Rent(buffer.Vector(0, header.Length));
            int result = await file.WriteAsync(0, data);
            data.Return();
            if (result < 0)
            {
                throw new QapiException("Unable to write encryption header: " + BlockResult.Text(result));
            }
        }
        finally
        {
            user.Remove();
            await graph.CloseIfUnusedAsync(file);
        }
    }

    /// <inheritdoc/>
    protected override long Execute()
    {
        VolumeHash hash = VolumeHash.Find(_hash);
        byte[] key = RandomNumberGenerator.GetBytes(_cipher.TotalKeyBytes);
        uint slotSectors = LuksHeader.SplitSectors(key.Length);
        List<LuksSlot> slots = [];
        for (int i = 0; i < LuksHeader.Slots; i++)
        {
            byte[] salt = i == 0 ? RandomNumberGenerator.GetBytes(LuksHeader.SaltBytes) : new byte[LuksHeader.SaltBytes];
            uint iterations = i == 0 ? LuksKeys.Count(hash, key.Length, _milliseconds) : 0;
            slots.Add(new LuksSlot(i == 0, iterations, salt, LuksHeader.AlignSectors + ((uint)i * slotSectors)));
        }

        byte[] digestSalt = RandomNumberGenerator.GetBytes(LuksHeader.SaltBytes);
        uint digestIterations = LuksKeys.Count(hash, LuksHeader.DigestBytes, Math.Max(_milliseconds / DigestShare, 1));
        LuksHeader header = new()
        {
            Cipher = _cipher,
            Hash = _hash,
            PayloadSector = LuksHeader.AlignSectors + (LuksHeader.Slots * slotSectors),
            KeyBytes = key.Length,
            DigestSalt = digestSalt,
            DigestIterations = digestIterations,
            Digest = hash.Derive(key, digestSalt, digestIterations, LuksHeader.DigestBytes),
            Uuid = Guid.NewGuid().ToString(),
            KeySlots = slots,
        };
        _bytes = new byte[header.PayloadOffset];
        Write(header, _bytes);
        LuksKeys.Lock(header, slots[0], key, _password).CopyTo(_bytes, slots[0].Sector * LuksHeader.SectorBytes);
        CryptographicOperations.ZeroMemory(key);
        return 0;
    }

    /// <summary>The header as its first sectors have it.</summary>
    internal static void Write(LuksHeader header, Span<byte> bytes)
    {
        LuksHeader.Magic.CopyTo(bytes);
        BinaryPrimitives.WriteUInt16BigEndian(bytes[6..], 1);
        Encoding.ASCII.GetBytes(header.Cipher.HeaderName, bytes[8..]);
        Encoding.ASCII.GetBytes(header.Cipher.HeaderMode, bytes[40..]);
        Encoding.ASCII.GetBytes(header.Hash, bytes[72..]);
        BinaryPrimitives.WriteUInt32BigEndian(bytes[104..], header.PayloadSector);
        BinaryPrimitives.WriteInt32BigEndian(bytes[108..], header.KeyBytes);
        header.Digest.CopyTo(bytes[112..]);
        header.DigestSalt.CopyTo(bytes[132..]);
        BinaryPrimitives.WriteUInt32BigEndian(bytes[164..], header.DigestIterations);
        Encoding.ASCII.GetBytes(header.Uuid, bytes[168..]);
        for (int i = 0; i < LuksHeader.Slots; i++)
        {
            LuksSlot slot = header.KeySlots[i];
            Span<byte> at = bytes[(208 + (48 * i))..];
            BinaryPrimitives.WriteUInt32BigEndian(at, slot.IsActive ? LuksHeader.SlotActive : LuksHeader.SlotFree);
            BinaryPrimitives.WriteUInt32BigEndian(at[4..], slot.Iterations);
            slot.Salt.CopyTo(at[8..]);
            BinaryPrimitives.WriteUInt32BigEndian(at[40..], slot.Sector);
            BinaryPrimitives.WriteUInt32BigEndian(at[44..], LuksHeader.Stripes);
        }
    }
}
