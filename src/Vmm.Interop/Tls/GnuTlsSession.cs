using System.Runtime.InteropServices;

namespace Vmm.Interop.Tls;

/// <summary>
/// One end of a TLS connection over a non-blocking stream socket. What was received and is not decrypted yet, and what is encrypted and the
/// socket has no room for, waits in memory of bounded size. The socket is the caller's: it outlives the session. One thread at a time; no
/// managed allocation but for errors.
/// </summary>
public sealed unsafe class GnuTlsSession : SafeHandle
{
    /// <summary>Most bytes that a record holds.</summary>
    public const int MaxRecord = 16384;

    private const uint ServerFlag = 1;
    private const uint ClientFlag = 1 << 1;
    private const uint NonBlocking = 1 << 3;
    private const int InputBytes = 32 << 10;
    private const int MaxOutputBytes = 256 << 10;
    private const int MaxHandshakeBytes = 128 << 10;
    private const int RequestCertificate = 1;
    private const int ShutWrite = 1;

    // Warnings in a row that are passed over.
    private const int MaxVoid = 64;

    // The socket is read so many times in one call: two more fills end a record that the first had the beginning of.
    private const int MaxFills = 3;

    private readonly GnuTlsCredentials? _credentials;
    private byte* _staging;

    private GnuTlsSession(GnuTlsCredentials credentials)
        : base(0, ownsHandle: true)
    {
        bool isHeld = false;
        credentials.DangerousAddRef(ref isHeld);
        _credentials = credentials;
        Wire* wire = (Wire*)NativeMemory.AllocZeroed((nuint)sizeof(Wire));
        wire->Input = (byte*)NativeMemory.Alloc(InputBytes);
        SetHandle((nint)wire);
    }

    /// <inheritdoc/>
    public override bool IsInvalid => handle == 0;

    /// <summary>Encrypted bytes wait for room in the socket: call <see cref="Flush"/> when it can be written to.</summary>
    public bool HasOutput => State->OutputEnd > State->OutputStart;

    /// <summary>The error of the library with which the connection broke; 0 while it has not.</summary>
    public int Error { get; private set; }

    private Wire* State => IsClosed ? throw new ObjectDisposedException(nameof(GnuTlsSession)) : (Wire*)handle;

    /// <summary>A session that has not begun.</summary>
    /// <param name="credentials">Credentials, of the same end.</param>
    /// <param name="session">The session; to be disposed in any case.</param>
    /// <returns>0 or an error.</returns>
    public static int Create(GnuTlsCredentials credentials, out GnuTlsSession session)
    {
        session = new GnuTlsSession(credentials);
        nint made = 0;
        int result = GnuTls.Api.Init(&made, (credentials.IsServer ? ServerFlag : ClientFlag) | NonBlocking);
        if (result >= 0)
        {
            session.Begin(made);
        }

        return result;
    }

    /// <summary>Says which algorithms and versions may be used.</summary>
    /// <returns>0 or an error.</returns>
    public int SetPriority(string priority)
    {
        nint text = Marshal.StringToCoTaskMemUTF8(priority);
        int result = GnuTls.Api.PrioritySetDirect(State->Session, (byte*)text, null);
        Marshal.FreeCoTaskMem(text);
        return result;
    }

    /// <summary>Takes the credentials.</summary>
    /// <returns>0 or an error.</returns>
    public int UseCredentials() => GnuTls.Api.CredentialsSet(State->Session, (int)_credentials!.Kind, _credentials.DangerousGetHandle());

    /// <summary>Servers: asks clients for a certificate; whether it is good, or there at all, is for <see cref="VerifyPeer"/> to say.</summary>
    public void AskForCertificate() => GnuTls.Api.ServerSetRequest(State->Session, RequestCertificate);

    /// <summary>Sets the socket.</summary>
    public void SetSocket(int fd) => State->Fd = fd;

    /// <summary>Gives bytes that were taken out of the socket before the session began; at most 32768.</summary>
    public void Feed(ReadOnlySpan<byte> data)
    {
        Wire* state = State;
        data.CopyTo(new Span<byte>(state->Input, InputBytes));
        state->InputStart = 0;
        state->InputEnd = data.Length;
    }

    /// <summary>Goes on with the handshake.</summary>
    /// <returns>0 when it is complete, -EAGAIN when more must arrive, or an error of the library. Flush what there is in each case.</returns>
    public int Handshake()
    {
        Wire* state = State;
        state->Budget = MaxFills;
        for (int i = 0; i < MaxVoid;)
        {
            int result = GnuTls.Api.Handshake(state->Session);
            if (result >= 0)
            {
                return 0;
            }

            if (result is GnuTls.Again && state->InputStart == state->InputEnd)
            {
                return -(int)Errno.EAGAIN;
            }

            i += result is GnuTls.Again ? 0 : 1;
            if (result is not (GnuTls.Again or GnuTls.Interrupted or GnuTls.WarningAlert))
            {
                return Error = result;
            }
        }

        return Error = GnuTls.WarningAlert;
    }

    /// <summary>Decrypts what has arrived.</summary>
    /// <param name="into">Memory, not empty.</param>
    /// <returns>
    /// Bytes; 0 when the peer has said that it ends the connection; -EAGAIN when the socket must be readable first; -ECONNABORTED when
    /// the connection was cut off; -EIO when what arrived is not the peer's, or an error of the socket or the peer.
    /// </returns>
    public int Read(Span<byte> into)
    {
        fixed (byte* p = into)
        {
            return Read(p, into.Length);
        }
    }

    /// <summary>As <see cref="Read(Span{byte})"/>, into a piece of native memory.</summary>
    public int Read(IoVec into) => Read((byte*)into.Address, (int)Math.Min(into.Length, int.MaxValue));

    /// <summary>Encrypts a record of the first bytes and sends it as far as the socket takes it.</summary>
    /// <param name="data">What is to be sent.</param>
    /// <returns>Bytes taken; -EAGAIN when the socket must take what waits first; or -errno.</returns>
    public int Write(ReadOnlySpan<IoVec> data)
    {
        int result = Flush();
        if (result < 0 || data.IsEmpty)
        {
            return result;
        }

        ref readonly IoVec first = ref data[0];
        if (first.Length >= MaxRecord || data.Length == 1)
        {
            return Send((byte*)first.Address, (int)Math.Min(first.Length, MaxRecord));
        }

        // Small pieces go out together.
        if (_staging is null)
        {
            _staging = (byte*)NativeMemory.Alloc(MaxRecord);
        }

        int count = 0;
        foreach (ref readonly IoVec piece in data)
        {
            int part = (int)Math.Min(piece.Length, (nuint)(MaxRecord - count));
            NativeMemory.Copy((void*)piece.Address, _staging + count, (nuint)part);
            count += part;
            if (count == MaxRecord)
            {
                break;
            }
        }

        return Send(_staging, count);
    }

    /// <summary>As <see cref="Write(ReadOnlySpan{IoVec})"/>.</summary>
    public int Write(ReadOnlySpan<byte> data)
    {
        int result = Flush();
        if (result < 0 || data.IsEmpty)
        {
            return result;
        }

        fixed (byte* p = data)
        {
            return Send(p, Math.Min(data.Length, MaxRecord));
        }
    }

    /// <summary>Sends what waits.</summary>
    /// <returns>0 when nothing waits any more, -EAGAIN when the socket has no room, or another -errno.</returns>
    public int Flush()
    {
        Wire* state = State;
        while (state->OutputEnd > state->OutputStart)
        {
            int n = Libc.Send(
                state->Fd, new ReadOnlySpan<byte>(state->Output + state->OutputStart, state->OutputEnd - state->OutputStart), Libc.MSG_DONTWAIT);
            if (n < 0)
            {
                return n;
            }

            state->OutputStart += n;
        }

        state->OutputStart = state->OutputEnd = 0;
        return 0;
    }

    /// <summary>Tells the peer that no more follows, if the socket has room for that.</summary>
    public void Bye()
    {
        if (Error == 0 && Flush() == 0)
        {
            GnuTls.Api.Bye(State->Session, ShutWrite);
        }
    }

    /// <summary>Whether the peer's certificates lead to trusted ones.</summary>
    /// <param name="status">Bits that say what is wrong; 0 for nothing.</param>
    /// <returns>0 or an error.</returns>
    public int VerifyPeer(out uint status)
    {
        uint found = 0;
        int result = GnuTls.Api.VerifyPeers(State->Session, &found);
        status = found;
        return result;
    }

    /// <summary>The peer's certificates in DER, its own first; none when it has shown none.</summary>
    public byte[][] PeerCertificates()
    {
        uint count = 0;
        GnuTlsDatum* chain = GnuTls.Api.GetPeers(State->Session, &count);
        if (chain is null)
        {
            return [];
        }

        var result = new byte[count][];
        for (int i = 0; i < result.Length; i++)
        {
            result[i] = new ReadOnlySpan<byte>(chain[i].Data, (int)chain[i].Size).ToArray();
        }

        return result;
    }

    /// <inheritdoc/>
    protected override bool ReleaseHandle()
    {
        Wire* state = (Wire*)handle;
        if (state->Session != 0)
        {
            GnuTls.Api.Deinit(state->Session);
        }

        NativeMemory.Free(state->Input);
        NativeMemory.Free(state->Output);
        NativeMemory.Free(state);
        NativeMemory.Free(_staging);
        _credentials?.DangerousRelease();
        return true;
    }

    private void Begin(nint session)
    {
        GnuTlsApi api = GnuTls.Api;
        State->Session = session;
        State->Fd = -1;
        api.TransportSetPtr(session, (void*)handle);
        api.SetPull(session, &Pull);
        api.SetPullTimeout(session, &PullTimeout);
        api.SetPush(session, &Push);
        api.SetMaxHandshake(session, MaxHandshakeBytes);
    }

    private int Read(byte* into, int length)
    {
        if (Error != 0)
        {
            return -(int)Errno.EIO;
        }

        Wire* state = State;
        state->Budget = MaxFills;
        for (int i = 0; i < MaxVoid;)
        {
            nint result = GnuTls.Api.RecordRecv(state->Session, into, (nuint)length);
            if (result >= 0)
            {
                return (int)result;
            }

            // The library also says so of a record without data; others may follow it.
            if (result == GnuTls.Again && state->InputStart == state->InputEnd)
            {
                return -(int)Errno.EAGAIN;
            }

            i += result == GnuTls.Again ? 0 : 1;
            if (result is not (GnuTls.Again or GnuTls.Interrupted or GnuTls.WarningAlert))
            {
                Error = (int)result;
                return result == GnuTls.PrematureTermination ? -(int)Errno.ECONNABORTED : -(int)Errno.EIO;
            }
        }

        Error = GnuTls.WarningAlert;
        return -(int)Errno.EIO;
    }

    private int Send(byte* data, int length)
    {
        if (Error != 0)
        {
            return -(int)Errno.EIO;
        }

        nint result;
        do
        {
            result = GnuTls.Api.RecordSend(State->Session, data, (nuint)length);
        }
        while (result == GnuTls.Interrupted);
        if (result >= 0)
        {
            return (int)result;
        }

        Error = (int)result;
        return State->Failure != 0 ? -State->Failure : -(int)Errno.EIO;
    }

    // Takes from the input, which is filled from the socket so many times in a call as its budget says.
    [UnmanagedCallersOnly]
    private static nint Pull(void* context, void* data, nuint size)
    {
        Wire* state = (Wire*)context;
        if (state->InputStart == state->InputEnd)
        {
            int n = state->IsEnded != 0 ? 0
                : state->Budget-- > 0 ? Libc.Recv(state->Fd, new Span<byte>(state->Input, InputBytes), Libc.MSG_DONTWAIT)
                : -(int)Errno.EAGAIN;
            if (n <= 0)
            {
                state->IsEnded = n == 0 ? 1 : 0;
                return n == 0 ? 0 : Fail(state, n);
            }

            state->InputStart = 0;
            state->InputEnd = n;
        }

        nuint part = Math.Min(size, (nuint)(state->InputEnd - state->InputStart));
        NativeMemory.Copy(state->Input + state->InputStart, data, part);
        state->InputStart += (int)part;
        return (nint)part;
    }

    // Whether something can be pulled is for the pull to say.
    [UnmanagedCallersOnly]
    private static int PullTimeout(void* context, uint milliseconds) => 1;

    // Takes everything: what the socket has no room for waits.
    [UnmanagedCallersOnly]
    private static nint Push(void* context, IoVec* pieces, int count)
    {
        Wire* state = (Wire*)context;
        nint total = 0;
        for (int i = 0; i < count; i++)
        {
            total += (nint)pieces[i].Length;
        }

        nint sent = 0;
        if (state->OutputEnd == state->OutputStart)
        {
            long n = Libc.WriteV(state->Fd, new ReadOnlySpan<IoVec>(pieces, count));
            if (n < 0 && n is not (-(int)Errno.EAGAIN or -(int)Errno.EINTR))
            {
                return Fail(state, (int)n);
            }

            sent = (nint)Math.Max(n, 0);
        }

        if (sent < total && !Reserve(state, (int)(total - sent)))
        {
            return Fail(state, -(int)Errno.ENOBUFS);
        }

        nint skipped = sent;
        for (int i = 0; i < count; i++)
        {
            nint length = (nint)pieces[i].Length;
            nint skip = Math.Min(skipped, length);
            skipped -= skip;
            if (skip < length)
            {
                NativeMemory.Copy((byte*)pieces[i].Address + skip, state->Output + state->OutputEnd, (nuint)(length - skip));
                state->OutputEnd += (int)(length - skip);
            }
        }

        return total;
    }

    // False when a peer makes us say more than it listens to.
    private static bool Reserve(Wire* state, int more)
    {
        if (state->OutputStart > 0)
        {
            int waiting = state->OutputEnd - state->OutputStart;
            new Span<byte>(state->Output + state->OutputStart, waiting).CopyTo(new Span<byte>(state->Output, waiting));
            (state->OutputStart, state->OutputEnd) = (0, waiting);
        }

        int needed = state->OutputEnd + more;
        if (needed > MaxOutputBytes)
        {
            return false;
        }

        if (needed > state->OutputCapacity)
        {
            state->OutputCapacity = Math.Min(MaxOutputBytes, Math.Max(needed, 20 << 10));
            state->Output = (byte*)NativeMemory.Realloc(state->Output, (nuint)state->OutputCapacity);
        }

        return true;
    }

    private static nint Fail(Wire* state, int result)
    {
        if (result != -(int)Errno.EAGAIN)
        {
            state->Failure = -result;
        }

        GnuTls.Api.SetErrno(state->Session, -result);
        return -1;
    }

    // What the library's callbacks work on.
    private struct Wire
    {
        internal nint Session;
        internal int Fd;
        internal int Budget;
        internal int Failure;
        internal int IsEnded;
        internal byte* Input;
        internal int InputStart;
        internal int InputEnd;
        internal byte* Output;
        internal int OutputStart;
        internal int OutputEnd;
        internal int OutputCapacity;
    }
}
