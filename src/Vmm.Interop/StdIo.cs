using System.Text;

namespace Vmm.Interop;

/// <summary>Text to a standard descriptor without System.Console, whose initialisation costs memory and start-up time. Any thread.</summary>
public sealed class StdIo
{
    private readonly int _fd;

    private StdIo(int fd)
    {
        _fd = fd;
    }

    /// <summary>Descriptor 1.</summary>
    public static StdIo Out { get; } = new(1);

    /// <summary>Descriptor 2.</summary>
    public static StdIo Error { get; } = new(2);

    /// <summary>Writes the text as UTF-8; short texts with a single system call. Errors are lost, as there is nowhere to tell them.</summary>
    public void Write(ReadOnlySpan<char> text)
    {
        Span<byte> buffer = stackalloc byte[1024];
        if (Encoding.UTF8.GetMaxByteCount(text.Length) <= buffer.Length)
        {
            Write(buffer[..Encoding.UTF8.GetBytes(text, buffer)]);
            return;
        }

        byte[] large = new byte[Encoding.UTF8.GetByteCount(text)];
        Encoding.UTF8.GetBytes(text, large);
        Write(large);
    }

    /// <summary>Writes the text and a line feed.</summary>
    public void WriteLine(string text) => Write(string.Concat(text, "\n"));

    /// <summary>Writes bytes, waiting where the descriptor is non-blocking and full.</summary>
    public void Write(ReadOnlySpan<byte> data)
    {
        while (!data.IsEmpty)
        {
            int written = Libc.Write(_fd, data);
            if (written == -(int)Errno.EAGAIN)
            {
                if (Libc.Poll(_fd, Libc.POLLOUT, -1) is < 0 and not -(int)Errno.EINTR)
                {
                    return;
                }

                continue;
            }

            if (written < 0)
            {
                return;
            }

            data = data[written..];
        }
    }
}
