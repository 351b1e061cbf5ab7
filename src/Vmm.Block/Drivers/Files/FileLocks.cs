using Vmm.Block.Graph;
using Vmm.Interop;
using Vmm.Qapi;

namespace Vmm.Block.Drivers.Files;

/// <summary>
/// Locks on an image file that other programs of the QEMU family respect: one byte for each permission that is used, another for each that
/// is not shared, held as read locks of the open file description. What is used must not be locked as unshared by another, and the reverse.
/// </summary>
internal static class FileLocks
{
    private const int UsedBase = 100;
    private const int UnsharedBase = 200;
    private const int Bits = 4;

    /// <summary>True where the host's kernel has locks of open file descriptions.</summary>
    public static bool IsAvailable(int fd) => Libc.OfdTestLock(fd, Libc.F_WRLCK, 0, 1, out _) != Errno.EINVAL;

    /// <summary>Takes the locks for what is used and not shared; those held before stay.</summary>
    /// <exception cref="QapiException">Another program is in the way; nothing was added.</exception>
    public static void Acquire(int fd, string filename, Locks held, Locks wanted)
    {
        Locks added = wanted.Without(held);
        try
        {
            Take(fd, UsedBase, added.Used);
            Take(fd, UnsharedBase, added.Unshared);
            Test(fd, UnsharedBase, wanted.Used);
            Test(fd, UsedBase, wanted.Unshared);
        }
        catch (QapiException exception)
        {
            Drop(fd, added);
            throw new QapiException(QapiErrorClass.GenericError, exception.Desc, $"Is another process using the image [{filename}]?");
        }
    }

    /// <summary>Takes for another descriptor of the same file the locks that are held for a first one.</summary>
    public static void Copy(int fd, Locks held)
    {
        Take(fd, UsedBase, held.Used);
        Take(fd, UnsharedBase, held.Unshared);
    }

    /// <summary>Drops locks.</summary>
    public static void Drop(int fd, Locks locks)
    {
        for (int i = 0; i < Bits; i++)
        {
            if (((int)locks.Used >> i & 1) != 0)
            {
                Libc.OfdLock(fd, Libc.F_UNLCK, UsedBase + i, 1);
            }

            if (((int)locks.Unshared >> i & 1) != 0)
            {
                Libc.OfdLock(fd, Libc.F_UNLCK, UnsharedBase + i, 1);
            }
        }
    }

    private static void Take(int fd, int start, BlockPermissions bits)
    {
        for (int i = 0; i < Bits; i++)
        {
            if (((int)bits >> i & 1) != 0 && Libc.OfdLock(fd, Libc.F_RDLCK, start + i, 1) != Errno.OK)
            {
                throw new QapiException($"Failed to lock byte {start + i}");
            }
        }
    }

    private static void Test(int fd, int start, BlockPermissions bits)
    {
        for (int i = 0; i < Bits; i++)
        {
            if (((int)bits >> i & 1) == 0)
            {
                continue;
            }

            Errno errno = Libc.OfdTestLock(fd, Libc.F_WRLCK, start + i, 1, out short conflict);
            if (errno != Errno.OK || conflict != Libc.F_UNLCK)
            {
                string name = PermissionUpdate.Names((BlockPermissions)(1 << i));
                throw new QapiException(start == UnsharedBase ? $"Failed to get \"{name}\" lock" : $"Failed to get shared \"{name}\" lock");
            }
        }
    }

    /// <summary>Permissions that are used, and such that nobody else may use.</summary>
    /// <param name="Used">Used.</param>
    /// <param name="Unshared">Not shared.</param>
    public readonly record struct Locks(BlockPermissions Used, BlockPermissions Unshared)
    {
        /// <summary>What is in this and not in the other.</summary>
        public Locks Without(Locks other) => new(Used & ~other.Used, Unshared & ~other.Unshared);
    }
}
