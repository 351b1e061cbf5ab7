using System.Globalization;
using System.Runtime.InteropServices;
using Vmm.Interop;
using Vmm.Qapi;

namespace Vmm.ObjectModel.Fds;

/// <summary>One descriptor of a set.</summary>
/// <param name="Fd">Descriptor number in this process.</param>
/// <param name="Opaque">Free text that the client gave with it.</param>
public readonly record struct FdSetMember(int Fd, string? Opaque);

/// <summary>A set as query-fdsets shows it.</summary>
/// <param name="Id">Its number.</param>
/// <param name="Members">Its descriptors in order of addition.</param>
public sealed record FdSetInfo(long Id, IReadOnlyList<FdSetMember> Members);

/// <summary>
/// Descriptors that clients passed in for use as files: the path <c>/dev/fdset/N</c> opens a duplicate of the member of set N that has the
/// wanted access mode. A set goes when it has neither descriptors nor open duplicates. Home: the main loop, except that a duplicate may be
/// closed on any thread.
/// </summary>
public sealed class FdSets
{
    private const string Prefix = "/dev/fdset/";

    private readonly object _sync = new();
    private readonly SortedList<long, Set> _sets = [];
    private int _monitors;

    /// <summary>Whether vCPUs run; descriptors of unused sets are only dropped while they do, so that an incoming guest finds them.</summary>
    public Func<bool> IsRunning { get; set; } = static () => true;

    /// <summary>The sets, the one with the highest number first.</summary>
    public IReadOnlyList<FdSetInfo> Query()
    {
        lock (_sync)
        {
            var result = new List<FdSetInfo>(_sets.Count);
            for (int i = _sets.Count - 1; i >= 0; i--)
            {
                var members = new List<FdSetMember>();
                foreach (Member member in _sets.Values[i].Members)
                {
                    members.Add(new FdSetMember(member.Fd, member.Opaque));
                }

                result.Add(new FdSetInfo(_sets.Keys[i], members));
            }

            return result;
        }
    }

    /// <summary>
    /// Adds a descriptor, which the registry then owns, to the set <paramref name="id"/> (made if needed), or to a new set with the lowest
    /// free number. Returns the set's number and the descriptor's.
    /// </summary>
    /// <exception cref="QapiException">Parameter 'fdset-id' expects a non-negative value.</exception>
    public (long Id, int Fd) Add(SafeHandle fd, long? id, string? opaque)
    {
        if (id < 0)
        {
            throw QapiException.InvalidParameterValue("fdset-id", "a non-negative value");
        }

        lock (_sync)
        {
            long number = id ?? 0;
            while (id is null && _sets.ContainsKey(number))
            {
                number++;
            }

            if (!_sets.TryGetValue(number, out Set? set))
            {
                _sets.Add(number, set = new Set());
            }

            var member = new Member(fd, opaque);
            set.Members.Add(member);
            return (number, member.Fd);
        }
    }

    /// <summary>Removes one descriptor of a set, or all of them.</summary>
    /// <exception cref="QapiException">File descriptor named 'fdset-id:N[, fd:M]' not found.</exception>
    public void Remove(long id, long? fd)
    {
        lock (_sync)
        {
            if (_sets.TryGetValue(id, out Set? set))
            {
                bool any = fd is null;
                foreach (Member member in set.Members)
                {
                    if (fd is null || member.Fd == fd)
                    {
                        member.Removed = true;
                        any = true;
                    }
                }

                if (any)
                {
                    Clean(id, set);
                    return;
                }
            }
        }

        string name = fd is { } number
            ? string.Create(CultureInfo.InvariantCulture, $"fdset-id:{id}, fd:{number}")
            : string.Create(CultureInfo.InvariantCulture, $"fdset-id:{id}");
        throw new QapiException($"File descriptor named '{name}' not found");
    }

    /// <summary>A monitor connected: the sets stay while it may still refer to them.</summary>
    public void MonitorOpened()
    {
        lock (_sync)
        {
            _monitors++;
        }
    }

    /// <summary>A monitor disconnected; after the last one, sets that nothing has open are dropped.</summary>
    public void MonitorClosed()
    {
        lock (_sync)
        {
            if (--_monitors == 0)
            {
                for (int i = _sets.Count - 1; i >= 0; i--)
                {
                    Clean(_sets.Keys[i], _sets.Values[i]);
                }
            }
        }
    }

    /// <summary>
    /// Opens a file, or a duplicate out of a set when the path starts with <c>/dev/fdset/</c>. EINVAL for a malformed number, ENOENT for no
    /// such set, EACCES when the set has no descriptor opened with the access mode of <paramref name="flags"/>.
    /// </summary>
    /// <param name="path">Path or <c>/dev/fdset/N</c>.</param>
    /// <param name="flags">O_* flags of open(2); of a duplicate O_APPEND, O_NONBLOCK, O_DIRECT and O_TRUNC apply.</param>
    /// <param name="file">The descriptor, close-on-exec; the caller owns it.</param>
    public Errno Open(string path, int flags, out SafeFd file)
    {
        if (!path.StartsWith(Prefix, StringComparison.Ordinal))
        {
            return Libc.Open(path, flags, out file);
        }

        file = new SafeFd(-1);
        if (!long.TryParse(path.AsSpan(Prefix.Length), NumberStyles.None, CultureInfo.InvariantCulture, out long id))
        {
            return Errno.EINVAL;
        }

        lock (_sync)
        {
            if (!_sets.TryGetValue(id, out Set? set))
            {
                return Errno.ENOENT;
            }

            foreach (Member member in set.Members)
            {
                int have = Libc.Fcntl(member.Fd, Libc.F_GETFL, 0);
                if (have >= 0 && (have & Libc.O_ACCMODE) == (flags & Libc.O_ACCMODE))
                {
                    return Duplicate(id, set, member, have, flags, out file);
                }
            }

            return Errno.EACCES;
        }
    }

    private Errno Duplicate(long id, Set set, Member member, int have, int flags, out SafeFd file)
    {
        const int Settable = Libc.O_APPEND | Libc.O_NONBLOCK | Libc.O_DIRECT;
        int copy = Libc.Fcntl(member.Fd, Libc.F_DUPFD_CLOEXEC, 0);
        if (copy < 0)
        {
            file = new SafeFd(-1);
            return (Errno)(-copy);
        }

        int wanted = (have & ~Settable) | (flags & Settable);
        if (wanted != have)
        {
            int result = Libc.Fcntl(copy, Libc.F_SETFL, wanted);
            if (result < 0)
            {
                Libc.Close(copy);
                file = new SafeFd(-1);
                return (Errno)(-result);
            }
        }

        if ((flags & Libc.O_TRUNC) != 0)
        {
            Errno errno = Libc.FTruncate(copy, 0);
            if (errno != Errno.OK && errno != Errno.EINVAL)
            {
                Libc.Close(copy);
                file = new SafeFd(-1);
                return errno;
            }
        }

        set.Duplicates++;
        file = new DuplicateFd(copy, this, id, set);
        return Errno.OK;
    }

    private void ReleaseDuplicate(long id, Set set)
    {
        lock (_sync)
        {
            set.Duplicates--;
            if (_sets.TryGetValue(id, out Set? current) && ReferenceEquals(current, set))
            {
                Clean(id, set);
            }
        }
    }

    private void Clean(long id, Set set)
    {
        bool running = IsRunning();
        for (int i = set.Members.Count - 1; i >= 0; i--)
        {
            Member member = set.Members[i];
            if (running && (member.Removed || (set.Duplicates == 0 && _monitors == 0)))
            {
                set.Members.RemoveAt(i);
                member.Handle.Dispose();
            }
        }

        if (set.Members.Count == 0 && set.Duplicates == 0)
        {
            _sets.Remove(id);
        }
    }

    private sealed class Set
    {
        internal List<Member> Members { get; } = [];

        internal int Duplicates { get; set; }
    }

    private sealed class Member(SafeHandle handle, string? opaque)
    {
        internal SafeHandle Handle { get; } = handle;

        internal int Fd { get; } = (int)handle.DangerousGetHandle();

        internal string? Opaque { get; } = opaque;

        internal bool Removed { get; set; }
    }

    private sealed class DuplicateFd(int fd, FdSets owner, long id, Set set) : SafeFd(fd)
    {
        protected override bool ReleaseHandle()
        {
            bool closed = base.ReleaseHandle();
            owner.ReleaseDuplicate(id, set);
            return closed;
        }
    }
}
