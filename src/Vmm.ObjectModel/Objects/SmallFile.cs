using Vmm.Interop;
using Vmm.Qapi;

namespace Vmm.ObjectModel.Objects;

/// <summary>Files that objects are made of: secrets, keys, certificates, rules. Home: main loop.</summary>
internal static class SmallFile
{
    /// <summary>Most bytes that are taken.</summary>
    public const int MaxBytes = 1 << 20;

    /// <summary>All bytes of a file.</summary>
    /// <param name="path">The file.</param>
    /// <param name="failure">What cannot be done when it cannot be read: the beginning of the error's text.</param>
    /// <exception cref="QapiException">It cannot be read, or is longer than <see cref="MaxBytes"/>.</exception>
    public static byte[] Read(string path, string failure)
    {
        Errno errno = Libc.Open(path, Libc.O_RDONLY | Libc.O_CLOEXEC, out SafeFd file);
        using (file)
        {
            if (errno != Errno.OK)
            {
                throw new QapiException($"{failure}: Failed to open file \u201c{path}\u201d: {errno.Message()}");
            }

            var buffer = new byte[4096];
            int count = 0;
            while (true)
            {
                int n = Libc.Read(file.Fd, buffer.AsSpan(count));
                if (n < 0)
                {
                    throw new QapiException($"{failure}: Failed to read from file \u201c{path}\u201d: {ErrnoText.FromResult(n).Message()}");
                }

                if (n == 0)
                {
                    return buffer[..count];
                }

                count += n;
                if (count > MaxBytes)
                {
                    throw new QapiException($"{failure}: File \u201c{path}\u201d is too large");
                }

                if (count == buffer.Length)
                {
                    Array.Resize(ref buffer, count * 2);
                }
            }
        }
    }
}
