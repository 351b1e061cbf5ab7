using System.Runtime.InteropServices;
using Vmm.ObjectModel.Fds;
using Vmm.Qapi;

namespace Vmm.Chardevs;

/// <summary>Result of add-fd.</summary>
[QapiStruct]
public sealed partial record AddfdInfo
{
    /// <summary>The set that the descriptor is in now.</summary>
    public required long FdsetId { get; init; }

    /// <summary>Number of the descriptor in this process.</summary>
    public required long Fd { get; init; }
}

/// <summary>One descriptor of a set.</summary>
[QapiStruct]
public sealed partial record FdsetFdInfo
{
    /// <summary>Number of the descriptor in this process.</summary>
    public required long Fd { get; init; }

    /// <summary>Text that the client gave with it.</summary>
    public string? Opaque { get; init; }
}

/// <summary>A set of descriptors.</summary>
[QapiStruct]
public sealed partial record FdsetInfo
{
    /// <summary>Number of the set.</summary>
    public required long FdsetId { get; init; }

    /// <summary>Its descriptors.</summary>
    public required List<FdsetFdInfo> Fds { get; init; }
}

/// <summary>The commands by which clients pass descriptors in.</summary>
public sealed class FdCommands(FdSets sets)
{
    private const string NothingSupplied = "No file descriptor supplied via SCM_RIGHTS";

    /// <summary>Names the descriptor that came with this command; one of that name is closed.</summary>
    [QmpCommand("getfd", ArgsType = "fdname:s", Since = "0.14")]
    public static void GetFd(string fdname, IMonitorSession session)
    {
        SafeHandle fd = session.TakeReceivedFd() ?? throw new QapiException(NothingSupplied);
        if (fdname.Length > 0 && char.IsAsciiDigit(fdname[0]))
        {
            fd.Dispose();
            throw QapiException.InvalidParameterValue("fdname", "a name not starting with a digit");
        }

        session.AddNamedFd(fdname, fd);
    }

    /// <summary>Closes a named descriptor.</summary>
    [QmpCommand("closefd", ArgsType = "fdname:s", Since = "0.14")]
    public static void CloseFd(string fdname, IMonitorSession session)
    {
        if (!session.CloseNamedFd(fdname))
        {
            throw new QapiException($"File descriptor named '{fdname}' not found");
        }
    }

    /// <summary>Adds the descriptor that came with this command to a set.</summary>
    [QmpCommand("add-fd", ArgsType = "fdset-id:i?,opaque:s?", Since = "1.2")]
    public AddfdInfo AddFd(IMonitorSession session, long? fdsetId = null, string? opaque = null)
    {
        SafeHandle fd = session.TakeReceivedFd() ?? throw new QapiException(NothingSupplied);
        try
        {
            (long id, int number) = sets.Add(fd, fdsetId, opaque);
            return new AddfdInfo { FdsetId = id, Fd = number };
        }
        catch
        {
            fd.Dispose();
            throw;
        }
    }

    /// <summary>Removes a descriptor from a set, or all of them.</summary>
    [QmpCommand("remove-fd", ArgsType = "fdset-id:i,fd:i?", Since = "1.2")]
    public void RemoveFd(long fdsetId, long? fd = null) => sets.Remove(fdsetId, fd);

    /// <summary>Lists the sets of descriptors.</summary>
    [QmpCommand("query-fdsets", Since = "1.2")]
    public List<FdsetInfo> QueryFdsets()
    {
        var result = new List<FdsetInfo>();
        foreach (FdSetInfo set in sets.Query())
        {
            var fds = new List<FdsetFdInfo>(set.Members.Count);
            foreach (FdSetMember member in set.Members)
            {
                fds.Add(new FdsetFdInfo { Fd = member.Fd, Opaque = member.Opaque });
            }

            result.Add(new FdsetInfo { FdsetId = set.Id, Fds = fds });
        }

        return result;
    }

    /// <summary>Terminal form of getfd.</summary>
    [HmpCommand("getfd", ArgsType = "fdname:s", Params = "getfd name",
        Help = "receive a file descriptor via SCM rights and assign it a name")]
    public static void HmpGetFd(HmpContext context, string fdname) => GetFd(fdname, context.Session);

    /// <summary>Terminal form of closefd.</summary>
    [HmpCommand("closefd", ArgsType = "fdname:s", Params = "closefd name",
        Help = "close a file descriptor previously passed via SCM rights")]
    public static void HmpCloseFd(HmpContext context, string fdname) => CloseFd(fdname, context.Session);
}
