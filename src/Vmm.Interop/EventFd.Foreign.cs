using System.Buffers.Binary;
using System.Runtime.CompilerServices;

namespace Vmm.Interop;

/// <content>Events whose other side is not trusted.</content>
public sealed unsafe partial class EventFd
{
    private const nint SYS_io_setup = 206, SYS_io_getevents = 208, SYS_io_submit = 209;
    private const ushort IOCB_CMD_POLL = 5;
    private const uint IOCB_FLAG_RESFD = 1;
    private const int AioDepth = 128;
    private const int IocbBytes = 64;
    private const int EventBytes = 32;
    private const short POLLOUT = 4;

    private static readonly Lock s_aioLock = new();
    private static nint s_aio;
    private static bool s_isAioTried;
    private static EventFd? s_writable;

    /// <summary>
    /// Like <see cref="Signal"/> for an event that another process shares, which may fill the counter and make the descriptor a blocking one: a
    /// write could wait for ever then, and none of the calls that write takes a flag against it. So the kernel signals the event itself, as that of an
    /// asynchronous request which is done at once; it never waits for that. Where the kernel has no such requests, a full counter is left alone.
    /// </summary>
    public void SignalForeign()
    {
        lock (s_aioLock)
        {
            if (!s_isAioTried)
            {
                SetUpAio();
            }

            if (s_aio != 0 && Submit())
            {
                return;
            }
        }

        if (Libc.Poll(Fd, POLLOUT, 0) > 0)
        {
            Signal();
        }
    }

    private static void SetUpAio()
    {
        nint context = 0;
        s_isAioTried = true;
        if (TryCreate(out s_writable) == Errno.OK && Native.syscall(SYS_io_setup, AioDepth, (nint)(&context), 0, 0, 0, 0) == 0)
        {
            s_aio = context;
        }
    }

    [SkipLocalsInit]
    private bool Submit()
    {
        byte* request = stackalloc byte[IocbBytes];
        Span<byte> fields = new(request, IocbBytes);
        fields.Clear();
        BinaryPrimitives.WriteUInt16LittleEndian(fields[16..], IOCB_CMD_POLL);
        BinaryPrimitives.WriteInt32LittleEndian(fields[20..], s_writable!.Fd);
        BinaryPrimitives.WriteInt64LittleEndian(fields[24..], POLLOUT);
        BinaryPrimitives.WriteUInt32LittleEndian(fields[56..], IOCB_FLAG_RESFD);
        BinaryPrimitives.WriteInt32LittleEndian(fields[60..], Fd);
        if (Native.syscall(SYS_io_submit, s_aio, 1, (nint)(&request), 0, 0, 0) == 1)
        {
            return true;
        }

        // Results stay until they are fetched: there is no room for another.
        byte* results = stackalloc byte[AioDepth * EventBytes];
        long* noTime = stackalloc long[2];
        noTime[0] = 0;
        noTime[1] = 0;
        while (Native.syscall(SYS_io_getevents, s_aio, 0, AioDepth, (nint)results, (nint)noTime, 0) == AioDepth)
        {
        }

        return Native.syscall(SYS_io_submit, s_aio, 1, (nint)(&request), 0, 0, 0) == 1;
    }
}
