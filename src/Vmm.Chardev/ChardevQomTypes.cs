using Vmm.ObjectModel.Qom;

namespace Vmm.Chardevs;

/// <summary>The QOM types of character back ends; made by chardev-add, never by object-add.</summary>
public static class ChardevQomTypes
{
    private const string Base = "chardev";
    private const string FdBase = "chardev-fd";

    private static QomTypeInfo? s_fd;
    private static QomTypeInfo? s_file;
    private static QomTypeInfo? s_memory;
    private static QomTypeInfo? s_mux;
    private static QomTypeInfo? s_null;
    private static QomTypeInfo? s_pipe;
    private static QomTypeInfo? s_pty;
    private static QomTypeInfo? s_ringbuf;
    private static QomTypeInfo? s_socket;
    private static QomTypeInfo? s_stdio;
    private static QomTypeInfo? s_udp;

    internal static QomTypeInfo File => s_file ??= Make("chardev-file", FdBase);

    internal static QomTypeInfo Memory => s_memory ??= Make("chardev-memory", "chardev-ringbuf");

    internal static QomTypeInfo Mux => s_mux ??= Make("chardev-mux", Base);

    internal static QomTypeInfo Null => s_null ??= Make("chardev-null", Base);

    internal static QomTypeInfo Pipe => s_pipe ??= Make("chardev-pipe", FdBase);

    internal static QomTypeInfo Pty => s_pty ??= Make("chardev-pty", Base);

    internal static QomTypeInfo Ringbuf => s_ringbuf ??= Make("chardev-ringbuf", Base);

    internal static QomTypeInfo Socket => s_socket ??= Make("chardev-socket", Base);

    internal static QomTypeInfo Stdio => s_stdio ??= Make("chardev-stdio", FdBase);

    internal static QomTypeInfo Udp => s_udp ??= Make("chardev-udp", Base);

    private static QomTypeInfo Fd => s_fd ??= new QomTypeInfo { Name = FdBase, Parent = Base, IsAbstract = true };

    /// <summary>Adds the types to a registry.</summary>
    public static void Register(QomTypeRegistry registry)
    {
        foreach (QomTypeInfo type in (ReadOnlySpan<QomTypeInfo>)[Fd, File, Memory, Mux, Null, Pipe, Pty, Ringbuf, Socket, Stdio, Udp])
        {
            registry.Add(type);
        }
    }

    private static QomTypeInfo Make(string name, string parent) => new() { Name = name, Parent = parent, UserCreatable = false };
}
