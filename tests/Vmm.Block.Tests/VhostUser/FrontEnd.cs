using System.Buffers.Binary;
using Vmm.Block.Exports.VhostUser;
using Vmm.Interop;

namespace Vmm.Block.Tests.VhostUser;

/// <summary>A front end that does as it is told, sensible or not: one split ring of 16 entries in a file whose length anybody may change.</summary>
internal sealed class FrontEnd : IDisposable
{
    internal const int MemoryBytes = 0x20000;
    internal const int Data = 0x8000;

    private const int RingSize = 16;
    private const int Available = 0x1000;
    private const int Used = 0x2000;
    private const int Header = 0x3000;
    private const int Status = 0x3100;
    private const ulong Guest = 0x10_0000;
    private const ulong User = 0x7000_0000_0000;

    private readonly SafeFd _socket;
    private ushort _available;

    private FrontEnd(SafeFd socket, SafeFd memory)
    {
        _socket = socket;
        Memory = memory;
    }

    internal SafeFd Memory { get; }

    internal EventFd Kick { get; } = EventFd.Create();

    internal EventFd Call { get; } = EventFd.Create();

    /// <summary>Connects and starts the ring.</summary>
    internal static FrontEnd Start(string path)
    {
        Check(Libc.Socket(1, 1, 0, out SafeFd socket));
        Check(Libc.Connect(socket.Fd, SockAddr.Unix(path)!));
        Check(Libc.MemFdCreate("front", 0, out SafeFd memory));
        Check(Libc.FTruncate(memory.Fd, MemoryBytes));
        FrontEnd front = new(socket, memory);
        front.Send(VhostUserRequest.SetOwner, []);
        front.Send(VhostUserRequest.SetFeatures, [1ul << 32]);
        front.Send(VhostUserRequest.SetMemTable, [1, Guest, MemoryBytes, User, 0], memory.Fd);
        front.Send(VhostUserRequest.SetVringNum, [(ulong)RingSize << 32]);
        front.Send(VhostUserRequest.SetVringBase, [0]);
        front.Send(VhostUserRequest.SetVringAddr, [0, User, User + Used, User + Available, 0]);
        front.Send(VhostUserRequest.SetVringCall, [0], front.Call.Fd);
        front.Send(VhostUserRequest.SetVringKick, [0], front.Kick.Fd);
        return front;
    }

    /// <summary>Makes a request available; the device is told by the caller.</summary>
    internal void Submit(uint type, ulong sector, int bytes)
    {
        Span<byte> header = stackalloc byte[16];
        BinaryPrimitives.WriteUInt32LittleEndian(header, type);
        BinaryPrimitives.WriteUInt64LittleEndian(header[8..], sector);
        Libc.PWrite(Memory.Fd, header, Header);
        Libc.PWrite(Memory.Fd, [0xff], Status);
        bool isRead = type == 0;
        WriteDescriptor(0, Header, 16, flags: 1, next: 1);
        WriteDescriptor(1, Data, bytes, flags: isRead ? 3 : 1, next: 2);
        WriteDescriptor(2, Status, 1, flags: 2, next: 0);
        Write16(Available + 4 + (2 * (_available % RingSize)), 0);
        Write16(Available + 2, ++_available);
    }

    /// <summary>Carries a request out and returns its status; null when the connection has ended instead.</summary>
    internal byte? Request(uint type, ulong sector, int bytes)
    {
        Submit(type, sector, bytes);
        Kick.Signal();
        return Finish();
    }

    /// <summary>Waits for the request that was made available last, and returns its status; null when the connection has ended instead.</summary>
    internal byte? Finish()
    {
        bool isOver = false;
        Assert.That(SpinWait.SpinUntil(() => Read16(Used + 2) == _available || (isOver = IsOver()), TimeSpan.FromSeconds(60)), "the request is not complete");
        byte[] status = new byte[1];
        Libc.PRead(Memory.Fd, status, Status);
        return isOver ? null : status[0];
    }

    /// <summary>The other side has ended the connection.</summary>
    internal bool IsOver() => Libc.Recv(_socket.Fd, new byte[64], Libc.MSG_DONTWAIT) is 0 or -(int)Errno.ECONNRESET;

    public void Dispose()
    {
        _socket.Dispose();
        Memory.Dispose();
        Kick.Dispose();
        Call.Dispose();
    }

    private static void Check(Errno errno) => Assert.That(errno, Is.EqualTo(Errno.OK));

    private void Send(VhostUserRequest request, ulong[] payload, params int[] fds)
    {
        byte[] message = new byte[VhostUserHeader.Bytes + (payload.Length * 8)];
        VhostUserHeader.Write(message, (uint)request, VhostUserHeader.Version, payload.Length * 8);
        for (int i = 0; i < payload.Length; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(message.AsSpan(VhostUserHeader.Bytes + (i * 8)), payload[i]);
        }

        Assert.That(Libc.SendWithFds(_socket.Fd, message, fds, Libc.MSG_NOSIGNAL), Is.EqualTo(message.Length));
    }

    private void WriteDescriptor(int index, int address, int length, int flags, int next)
    {
        Span<byte> bytes = stackalloc byte[16];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, Guest + (ulong)address);
        BinaryPrimitives.WriteInt32LittleEndian(bytes[8..], length);
        BinaryPrimitives.WriteUInt16LittleEndian(bytes[12..], (ushort)flags);
        BinaryPrimitives.WriteUInt16LittleEndian(bytes[14..], (ushort)next);
        Libc.PWrite(Memory.Fd, bytes, index * 16);
    }

    private void Write16(int at, ushort value) => Libc.PWrite(Memory.Fd, BitConverter.GetBytes(value), at);

    private ushort Read16(int at)
    {
        byte[] bytes = new byte[2];
        return Libc.PRead(Memory.Fd, bytes, at) == 2 ? BitConverter.ToUInt16(bytes) : (ushort)0;
    }
}
