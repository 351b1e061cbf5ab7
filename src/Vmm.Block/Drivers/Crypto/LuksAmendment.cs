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

/// <summary>
/// Changes the key slots of an open volume. A slot is filled before the header says so, and given up in the header before it is overwritten: a crash in
/// between loses no password that was there. Home: main loop.
/// </summary>
/// <param name="volume">The volume.</param>
/// <param name="file">The node that has the header.</param>
/// <param name="offset">Where the header is.</param>
/// <param name="findSecret">The text of a secret object by its id.</param>
/// <param name="workers">Threads.</param>
/// <param name="needsWrites">The volume's own use of the file does not let it write there while nobody writes the volume.</param>
internal sealed class LuksAmendment(LuksVolume volume, BlockNode file, long offset, Func<string, string> findSecret, LoopWorkers workers, bool needsWrites)
{
    private const ulong DefaultMilliseconds = 2000;

    /// <summary>Does what the options say.</summary>
    /// <param name="options">Options.</param>
    /// <param name="secret">Id of the secret that has opened the volume.</param>
    /// <param name="force">Slots that are in use, and the last one, may go as well.</param>
    /// <exception cref="QapiException">It cannot be done.</exception>
    internal async IoTask RunAsync(LuksAmendOptions options, string? secret, bool force)
    {
        BlockBackend user = new(file.Graph, "");
        try
        {
            if (needsWrites)
            {
                user.SetPermissions(BlockPermissions.ConsistentRead | BlockPermissions.Write, BlockPermissions.All);
                user.Insert(file);
            }

            await (options.State == LuksSlotState.Active ? AddAsync(options, secret, force) : EraseAsync(options, force));
        }
        finally
        {
            user.Remove();
        }
    }

    private async IoTask AddAsync(LuksAmendOptions options, string? secret, bool force)
    {
        string added = options.NewSecret ?? throw new QapiException("'new-secret' is required to activate a keyslot");
        if (options.OldSecret is not null)
        {
            throw new QapiException("'old-secret' must not be given when activating keyslots");
        }

        LuksHeader header = volume.Header;
        int index = options.Keyslot is { } wanted ? CheckSlot(wanted) : header.KeySlots.ToList().FindIndex(static s => !s.IsActive);
        if (index < 0)
        {
            throw new QapiException("Can't add a keyslot - all keyslots are in use");
        }

        if (options.Keyslot is not null && header.KeySlots[index].IsActive && !force)
        {
            throw new QapiException($"Refusing to overwrite active keyslot {index} - please erase it first");
        }

        string known = options.Secret ?? secret ?? throw new QapiException("Parameter 'key-secret' is required for cipher");
        byte[] password = Password(known);
        byte[]? key = null;
        foreach (LuksSlot slot in header.KeySlots)
        {
            key ??= await LuksVolume.TryUnlockAsync(file, offset, header, slot, password, workers);
        }

        LuksLockWork work = new(
            header,
            header.KeySlots[index],
            key ?? throw new QapiException("Invalid password, cannot unlock any keyslot"),
            Password(added),
            (ulong)Math.Max(options.IterTime ?? (long)DefaultMilliseconds, 0));
        await work.RunAsync(workers);
        CryptographicOperations.ZeroMemory(key);
        if (header.KeySlots[index].IsActive)
        {
            await SetSlotAsync(index, header.KeySlots[index] with { IsActive = false });
        }

        await WriteAsync((long)work.Slot.Sector * LuksHeader.SectorBytes, work.Material, "Unable to write key material");
        await SetSlotAsync(index, work.Slot);
    }

    private async IoTask EraseAsync(LuksAmendOptions options, bool force)
    {
        if (options.NewSecret is not null)
        {
            throw new QapiException("'new-secret' must not be given when erasing keyslots");
        }

        if (options.IterTime is not null)
        {
            throw new QapiException("'iter-time' must not be given when erasing keyslots");
        }

        byte[]? old = options.OldSecret is { } id ? Password(id) : null;
        IReadOnlyList<LuksSlot> slots = volume.Header.KeySlots;
        int active = slots.Count(static s => s.IsActive);
        if (options.Keyslot is { } wanted)
        {
            int index = CheckSlot(wanted);
            if (old is not null && await LuksVolume.TryUnlockAsync(file, offset, volume.Header, slots[index], old, workers) is null)
            {
                throw new QapiException($"Given keyslot {index} doesn't contain the given old password for erase operation");
            }

            if (!force && !slots[index].IsActive)
            {
                throw new QapiException($"Given keyslot {index} is already erased (inactive) ");
            }

            if (!force && active == 1)
            {
                throw new QapiException(
                    $"Attempt to erase the only active keyslot {index} which will erase all the data in the image irreversibly - refusing operation");
            }

            await EraseAsync(index);
            return;
        }

        if (old is null)
        {
            throw new QapiException("To erase keyslot(s), either explicit keyslot index or the password currently contained in them must be given");
        }

        List<int> matching = [];
        for (int i = 0; i < slots.Count; i++)
        {
            if (await LuksVolume.TryUnlockAsync(file, offset, volume.Header, slots[i], old, workers) is not null)
            {
                matching.Add(i);
            }
        }

        if (matching.Count == 0)
        {
            throw new QapiException("No keyslots match given (old) password for erase operation");
        }

        if (!force && matching.Count == active)
        {
            throw new QapiException(
                "All the active keyslots match the (old) password that was given and erasing them will erase all the data in the image irreversibly - refusing operation");
        }

        foreach (int index in matching)
        {
            await EraseAsync(index);
        }
    }

    private async IoTask EraseAsync(int index)
    {
        LuksSlot slot = volume.Header.KeySlots[index] with { IsActive = false, Iterations = 0, Salt = new byte[LuksHeader.SaltBytes] };
        await SetSlotAsync(index, slot);
        byte[] noise = RandomNumberGenerator.GetBytes((int)LuksHeader.SplitSectors(volume.Header.KeyBytes) * LuksHeader.SectorBytes);
        await WriteAsync((long)slot.Sector * LuksHeader.SectorBytes, noise, "Unable to overwrite key material");
    }

    private async IoTask SetSlotAsync(int index, LuksSlot slot)
    {
        List<LuksSlot> slots = [.. volume.Header.KeySlots];
        slots[index] = slot;
        LuksHeader changed = volume.Header with { KeySlots = slots };
        byte[] bytes = new byte[LuksHeader.Bytes];
        LuksCreation.Write(changed, bytes);
        await WriteAsync(0, bytes, "Unable to write LUKS header");
        volume.Header = changed;
    }

    // On disk when it returns: what comes next relies on it.
    private async IoTask WriteAsync(long place, byte[] bytes, string what)
    {
        using NativeBuffer buffer = new(bytes.Length);
        bytes.CopyTo(buffer.Span);
        await file.Loop.SwitchTo();
        IoVectors data = IoVectors.Rent(buffer.Vector(0, bytes.Length));
        int result = await file.WriteAsync(offset + place, data);
        data.Return();
        result = result < 0 ? result : await file.FlushAsync();
        await file.Graph.MainLoop.SwitchTo();
        if (result < 0)
        {
            throw new QapiException($"{what}: {BlockResult.Text(result)}");
        }
    }

    private byte[] Password(string id) => Encoding.UTF8.GetBytes(findSecret(id));

    private static int CheckSlot(long slot) => slot is >= 0 and < LuksHeader.Slots
        ? (int)slot
        : throw new QapiException($"Invalid keyslot {(uint)slot} specified, must be between 0 and {LuksHeader.Slots - 1}");
}

/// <summary>Puts a master key under a password, on a worker thread. One use.</summary>
internal sealed class LuksLockWork(LuksHeader header, LuksSlot slot, byte[] key, byte[] password, ulong milliseconds) : LoopWork
{
    /// <summary>The slot with its new salt.</summary>
    internal LuksSlot Slot { get; private set; } = slot;

    /// <summary>Its sectors.</summary>
    internal byte[] Material { get; private set; } = [];

    /// <inheritdoc/>
    protected override long Execute()
    {
        uint iterations = LuksKeys.Count(VolumeHash.Find(header.Hash), header.KeyBytes, milliseconds);
        Slot = Slot with { IsActive = true, Iterations = iterations, Salt = RandomNumberGenerator.GetBytes(LuksHeader.SaltBytes) };
        Material = LuksKeys.Lock(header, Slot, key, password);
        return 0;
    }
}
