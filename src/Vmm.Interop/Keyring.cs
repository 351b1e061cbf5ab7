namespace Vmm.Interop;

/// <summary>Keys that the kernel keeps (keyrings(7)).</summary>
public static unsafe class Keyring
{
    private const nint SYS_keyctl = 250;
    private const nint KEYCTL_READ = 11;

    /// <summary>Reads the payload of a key. ENOKEY, EKEYEXPIRED, EKEYREVOKED, EACCES.</summary>
    /// <param name="serial">Serial number of the key.</param>
    /// <param name="payload">The payload; empty on failure.</param>
    public static Errno Read(int serial, out byte[] payload)
    {
        payload = [];
        while (true)
        {
            long length;
            fixed (byte* buffer = payload)
            {
                length = Native.Check(Native.syscall(SYS_keyctl, KEYCTL_READ, serial, (nint)buffer, payload.Length, 0, 0));
            }

            if (length < 0)
            {
                payload = [];
                return ErrnoText.FromResult(length);
            }

            // The answer is the length of the whole payload, which may have changed since it was last asked for.
            if (length <= payload.Length)
            {
                Array.Resize(ref payload, (int)length);
                return Errno.OK;
            }

            payload = new byte[length];
        }
    }
}
