using Vmm.Interop;
using Vmm.ObjectModel.Fds;
using Vmm.ObjectModel.Qom;
using Vmm.Qapi;

namespace Vmm.Chardevs;

/// <summary>Output goes into a file, which is truncated unless appended to; input, if any, comes from another one.</summary>
public sealed class FileChardev : StreamChardev
{
    /// <inheritdoc/>
    public override QomTypeInfo Type => ChardevQomTypes.File;

    /// <summary>Opens the files.</summary>
    /// <exception cref="QapiException">Could not open 'PATH': reason.</exception>
    internal FileChardev(ChardevHost host, ChardevFile options)
        : base(host)
    {
        int flags = Libc.O_WRONLY | Libc.O_CREAT | (options.Append == true ? Libc.O_APPEND : Libc.O_TRUNC);
        SafeFd output = OpenOrThrow(host.FdSets, options.Out, flags);
        SafeFd? input = null;
        if (options.In is { } path)
        {
            try
            {
                input = OpenOrThrow(host.FdSets, path, Libc.O_RDONLY | Libc.O_NONBLOCK);
            }
            catch
            {
                output.Dispose();
                throw;
            }
        }

        SetDescriptors(input, output);
        Filename = "file";
        IsOpen = true;
    }

    /// <summary>Opens a path or fdset path.</summary>
    /// <exception cref="QapiException">Could not open 'PATH': reason.</exception>
    internal static SafeFd OpenOrThrow(FdSets sets, string path, int flags)
    {
        Errno errno = sets.Open(path, flags, out SafeFd file);
        return errno == Errno.OK ? file : throw new QapiException($"Could not open '{path}': {errno.Message()}");
    }
}
