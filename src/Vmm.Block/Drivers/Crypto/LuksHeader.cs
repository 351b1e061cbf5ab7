using Vmm.Block.Drivers.Images;
using Vmm.Qapi;

namespace Vmm.Block.Drivers.Crypto;

/// <summary>A key slot of a LUKS header.</summary>
/// <param name="IsActive">It has a copy of the master key.</param>
/// <param name="Iterations">Iterations that make the slot's key of a password.</param>
/// <param name="Salt">Salt of that.</param>
/// <param name="Sector">Where the split master key is.</param>
internal sealed record LuksSlot(bool IsActive, uint Iterations, byte[] Salt, uint Sector);

/// <summary>
/// The header of a LUKS volume, version 1 (specification: LUKS On-Disk Format 1.2.3). Reading it is a pure function that fails with
/// <see cref="QapiException"/> alone.
/// </summary>
internal sealed record LuksHeader
{
    internal const int Bytes = 592;
    internal const int Slots = 8;
    internal const int Stripes = 4000;
    internal const int SaltBytes = 32;
    internal const int DigestBytes = 20;
    internal const int SectorBytes = 512;
    internal const int AlignSectors = 8;
    internal const uint SlotActive = 0x00AC71F3;
    internal const uint SlotFree = 0x0000DEAD;

    internal static ReadOnlySpan<byte> Magic => [(byte)'L', (byte)'U', (byte)'K', (byte)'S', 0xBA, 0xBE];

    internal required CipherSpec Cipher { get; init; }

    /// <summary>Name of the hash for everything but the initial vectors.</summary>
    internal required string Hash { get; init; }

    internal required uint PayloadSector { get; init; }

    internal required int KeyBytes { get; init; }

    internal required byte[] Digest { get; init; }

    internal required byte[] DigestSalt { get; init; }

    internal required uint DigestIterations { get; init; }

    internal required string Uuid { get; init; }

    internal required IReadOnlyList<LuksSlot> KeySlots { get; init; }

    internal long PayloadOffset => (long)PayloadSector * SectorBytes;

    /// <summary>Likelihood that a file with this beginning is a volume, 0 to 100.</summary>
    internal static int Probe(ReadOnlySpan<byte> head) => head.StartsWith(Magic) && new HeaderReader(head).Be16(6) == 1 ? 100 : 0;

    /// <summary>Sectors that a split key takes.</summary>
    internal static uint SplitSectors(int keyBytes)
    {
        uint sectors = (uint)(((long)keyBytes * Stripes + SectorBytes - 1) / SectorBytes);
        return (sectors + AlignSectors - 1) / AlignSectors * AlignSectors;
    }

    /// <summary>Reads a header.</summary>
    /// <exception cref="QapiException">It is none, or one that cannot be used.</exception>
    internal static LuksHeader Parse(ReadOnlySpan<byte> bytes)
    {
        HeaderReader reader = new(bytes);
        Check(reader.Has(0, Magic), "Volume is not in LUKS format");
        Check(reader.Be16(6) == 1, $"LUKS version {reader.Be16(6)} is not supported");
        Check(reader.U8(39) == 0, "LUKS header cipher name is not NUL terminated");
        Check(reader.U8(71) == 0, "LUKS header cipher mode is not NUL terminated");
        Check(reader.U8(103) == 0, "LUKS header hash spec is not NUL terminated");
        uint payload = reader.Be32(104);
        Check(payload >= (Bytes + SectorBytes - 1) / SectorBytes, "LUKS payload is overlapping with the header");
        Check(reader.Be32(164) != 0, "LUKS key iteration count is zero");
        uint keyBytes = reader.Be32(108);
        List<LuksSlot> slots = ReadSlots(reader, bytes, payload, (int)Math.Min(keyBytes, 1 << 16));
        string hash = reader.Text(72, 32);
        CipherSpec cipher = CipherSpec.Parse(reader.Text(8, 32), reader.Text(40, 32), keyBytes, hash);
        return new LuksHeader
        {
            Cipher = cipher,
            Hash = hash,
            PayloadSector = payload,
            KeyBytes = (int)keyBytes,
            Digest = Copy(bytes, 112, DigestBytes),
            DigestSalt = Copy(bytes, 132, SaltBytes),
            DigestIterations = reader.Be32(164),
            Uuid = reader.Text(168, 40),
            KeySlots = slots,
        };
    }

    /// <summary>What query-named-block-nodes says of it.</summary>
    internal QDict Describe()
    {
        QList slots = new();
        foreach (LuksSlot slot in KeySlots)
        {
            QDict entry = new() { ["active"] = QBool.From(slot.IsActive), ["key-offset"] = QNum.From((long)slot.Sector * SectorBytes) };
            if (slot.IsActive)
            {
                entry["iters"] = QNum.From((long)slot.Iterations);
                entry["stripes"] = QNum.From((long)Stripes);
            }

            slots.Add(entry);
        }

        QDict data = new()
        {
            ["cipher-alg"] = new QString(Cipher.AlgorithmName),
            ["cipher-mode"] = new QString(Cipher.ModeName),
            ["ivgen-alg"] = new QString(Cipher.VectorName),
            ["hash-alg"] = new QString(Hash),
            ["payload-offset"] = QNum.From(PayloadOffset),
            ["master-key-iters"] = QNum.From((long)DigestIterations),
            ["uuid"] = new QString(Uuid),
            ["slots"] = slots,
        };
        if (Cipher.VectorHash is { } hash)
        {
            data["ivgen-hash-alg"] = new QString(hash);
        }

        return data;
    }

    private static void Check(bool condition, string message)
    {
        if (!condition)
        {
            throw new QapiException(message);
        }
    }

    private static byte[] Copy(ReadOnlySpan<byte> bytes, int offset, int length)
    {
        byte[] copy = new byte[length];
        if (offset < bytes.Length)
        {
            bytes.Slice(offset, Math.Min(length, bytes.Length - offset)).CopyTo(copy);
        }

        return copy;
    }

    private static List<LuksSlot> ReadSlots(in HeaderReader reader, ReadOnlySpan<byte> bytes, uint payload, int keyBytes)
    {
        List<LuksSlot> slots = [];
        ulong length = SplitSectors(keyBytes);
        for (int i = 0; i < Slots; i++)
        {
            int at = 208 + (48 * i);
            uint state = reader.Be32(at);
            uint sector = reader.Be32(at + 40);
            uint stripes = reader.Be32(at + 44);
            Check(stripes == Stripes, $"Keyslot {i} is corrupted (stripes {stripes} != {Stripes})");
            Check(sector >= (Bytes + SectorBytes - 1) / SectorBytes, $"Keyslot {i} is overlapping with the LUKS header");
            Check(state is SlotActive or SlotFree, $"Keyslot {i} state (active/disable) is corrupted");
            Check(state != SlotActive || reader.Be32(at + 4) != 0, $"Keyslot {i} iteration count is zero");
            Check(sector + length <= payload, $"Keyslot {i} is overlapping with the encrypted payload");
            slots.Add(new LuksSlot(state == SlotActive, reader.Be32(at + 4), Copy(bytes, at + 8, SaltBytes), sector));
        }

        for (int i = 0; i < Slots; i++)
        {
            for (int j = i + 1; j < Slots; j++)
            {
                bool isApart = slots[i].Sector + length <= slots[j].Sector || slots[j].Sector + length <= slots[i].Sector;
                Check(isApart, $"Keyslots {i} and {j} are overlapping in the header");
            }
        }

        return slots;
    }
}
