using Microsoft.Win32.SafeHandles;

namespace Vmm.Machines.Loading;

/// <summary>Random access to the bytes of a kernel, module or ROM image, without holding them in memory.</summary>
/// <remarks>
/// A file stays open as long as its image may be loaded again (every machine reset does), so that a file replaced on disk does not change
/// a running machine. Reading is thread-safe.
/// </remarks>
public abstract class BootFile : IDisposable
{
    private protected BootFile(string name, long length)
    {
        Name = name;
        Length = length;
    }

    /// <summary>The path as the operator gave it; used in messages.</summary>
    public string Name { get; }

    /// <summary>Size in bytes when the file was opened.</summary>
    public long Length { get; }

    /// <summary>Reads up to <paramref name="destination"/>'s length at <paramref name="offset"/>; fewer bytes only at the end of the file.</summary>
    public abstract int Read(long offset, Span<byte> destination);

    /// <summary>Fills <paramref name="destination"/>; false when the file ends before that, or on a read error.</summary>
    public bool TryReadExactly(long offset, Span<byte> destination)
    {
        return offset >= 0 && offset <= Length && destination.Length <= Length - offset && Read(offset, destination) == destination.Length;
    }

    /// <summary>Opens <paramref name="path"/> for reading.</summary>
    /// <exception cref="BootFileException">The file cannot be opened; the message is the C library's text for the reason.</exception>
    public static BootFile Open(string path)
    {
        try
        {
            if (Directory.Exists(path))
            {
                throw new BootFileException("Is a directory", opened: true);
            }

            var handle = File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
            long length;
            try
            {
                length = RandomAccess.GetLength(handle);
            }
            catch (NotSupportedException)
            {
                // A character device or a pipe has no size.
                length = 0;
            }

            return new HandleFile(path, length, handle);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException or ArgumentException)
        {
            throw new BootFileException("No such file or directory", opened: false);
        }
        catch (UnauthorizedAccessException)
        {
            throw new BootFileException("Permission denied", opened: false);
        }
        catch (IOException e)
        {
            throw new BootFileException(e.Message, opened: false);
        }
    }

    /// <summary>An image that is in memory already: built-in firmware, tests, fuzzing.</summary>
    public static BootFile FromMemory(string name, ReadOnlyMemory<byte> bytes) => new MemoryFile(name, bytes);

    public virtual void Dispose()
    {
    }

    private sealed class HandleFile(string name, long length, SafeFileHandle handle) : BootFile(name, length)
    {
        public override int Read(long offset, Span<byte> destination)
        {
            var total = 0;
            try
            {
                while (total < destination.Length)
                {
                    var n = RandomAccess.Read(handle, destination[total..], offset + total);
                    if (n == 0)
                    {
                        break;
                    }

                    total += n;
                }
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException or NotSupportedException)
            {
                // A short count tells the caller; what it means is the caller's to say.
            }

            return total;
        }

        public override void Dispose() => handle.Dispose();
    }

    private sealed class MemoryFile(string name, ReadOnlyMemory<byte> bytes) : BootFile(name, bytes.Length)
    {
        public override int Read(long offset, Span<byte> destination)
        {
            if (offset < 0 || offset >= bytes.Length)
            {
                return 0;
            }

            var source = bytes.Span[(int)offset..];
            var count = Math.Min(source.Length, destination.Length);
            source[..count].CopyTo(destination);
            return count;
        }
    }
}

/// <summary>A file that could not be opened or used. The message is the reason alone; the caller adds what the file was for.</summary>
public sealed class BootFileException(string reason, bool opened) : Exception(reason)
{
    /// <summary>True when opening worked and the first use failed (a directory).</summary>
    public bool Opened { get; } = opened;
}
