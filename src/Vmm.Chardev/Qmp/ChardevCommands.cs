using System.Text;
using Vmm.ObjectModel.Chardevs;
using Vmm.Qapi;

namespace Vmm.Chardevs;

/// <summary>The commands about character devices.</summary>
public sealed class ChardevCommands(ChardevRegistry registry)
{
    private const string BadBase64 = "Base64 data contains invalid characters";

    /// <summary>Lists the character devices and what they are connected to.</summary>
    [QmpCommand("query-chardev", AllowPreconfig = true, Since = "0.14")]
    public List<ChardevInfo> QueryChardev()
    {
        var result = new List<ChardevInfo>();
        foreach (Chardev chardev in registry.All())
        {
            result.Add(new ChardevInfo { Label = chardev.Label, Filename = chardev.Filename, FrontendOpen = chardev.FrontendOpen });
        }

        return result;
    }

    /// <summary>Lists the kinds of back ends that chardev-add can make.</summary>
    [QmpCommand("query-chardev-backends", Since = "2.0")]
    public static List<ChardevBackendInfo> QueryChardevBackends()
    {
        string[] names = ["pty", "file", "memory", "udp", "socket", "null", "pipe", "mux", "ringbuf", "stdio"];
        var result = new List<ChardevBackendInfo>(names.Length);
        foreach (string name in names)
        {
            result.Add(new ChardevBackendInfo { Name = name });
        }

        return result;
    }

    /// <summary>Adds a character device back end.</summary>
    [QmpCommand("chardev-add", ArgsType = "id:s,backend:q", Since = "1.4")]
    public async ValueTask<ChardevReturn> ChardevAdd(string id, ChardevBackend backend, IMonitorSession session) =>
        Describe(await registry.AddAsync(id, backend, session).ConfigureAwait(true));

    /// <summary>Exchanges a character device back end, keeping its front end.</summary>
    [QmpCommand("chardev-change", ArgsType = "id:s,backend:q", Since = "2.10")]
    public async ValueTask<ChardevReturn> ChardevChange(string id, ChardevBackend backend, IMonitorSession session) =>
        Describe(await registry.ChangeAsync(id, backend, session).ConfigureAwait(true));

    /// <summary>Removes a character device back end that nothing uses.</summary>
    [QmpCommand("chardev-remove", ArgsType = "id:s", Since = "1.4")]
    public void ChardevRemove(string id) => registry.Remove(id);

    /// <summary>Sends a break to the front end of a character device.</summary>
    [QmpCommand("chardev-send-break", ArgsType = "id:s", Since = "2.10")]
    public void ChardevSendBreak(string id) => registry.SendBreak(id);

    /// <summary>Writes to a ring buffer device.</summary>
    [QmpCommand("ringbuf-write", ArgsType = "device:s,data:s,format:s?", Since = "1.4")]
    public void RingbufWrite(string device, string data, DataFormat? format = null) =>
        FindRingbuf(device).Write(format == DataFormat.Base64 ? DecodeBase64(data) : Encoding.UTF8.GetBytes(data));

    /// <summary>Takes the oldest data out of a ring buffer device.</summary>
    [QmpCommand("ringbuf-read", ArgsType = "device:s,size:i,format:s?", Since = "1.4")]
    public string RingbufRead(string device, long size, DataFormat? format = null)
    {
        RingbufChardev ringbuf = FindRingbuf(device);
        if (size <= 0)
        {
            throw new QapiException("size must be greater than zero");
        }

        byte[] data = new byte[Math.Min(size, ringbuf.Count)];
        ringbuf.Read(data);
        return format == DataFormat.Base64 ? Convert.ToBase64String(data) : DecodeText(data);
    }

    /// <summary>The ring buffer of that id.</summary>
    /// <exception cref="QapiException">Device 'X' not found; X is not a ringbuf device.</exception>
    internal RingbufChardev FindRingbuf(string device)
    {
        Chardev chardev = registry.Find(device) ?? throw new QapiException($"Device '{device}' not found");
        return chardev as RingbufChardev ?? throw new QapiException($"{device} is not a ringbuf device");
    }

    /// <summary>
    /// Base64 (RFC 4648 section 4) as lenient as QEMU: line feeds are skipped, padding counts as a digit of value 0 whose byte is left
    /// out in a group's last two places, an incomplete group at the end is dropped.
    /// </summary>
    /// <exception cref="QapiException">Base64 data contains invalid characters.</exception>
    public static byte[] DecodeBase64(string text)
    {
        byte[] result = new byte[text.Length / 4 * 3];
        int length = 0;
        int digits = 0;
        uint group = 0;
        bool thirdIsPadding = false;
        foreach (char c in text)
        {
            if (c == '\n')
            {
                continue;
            }

            group = (group << 6) | DigitOf(c);
            if (++digits < 4)
            {
                thirdIsPadding = c == '=';
                continue;
            }

            result[length++] = (byte)(group >> 16);
            if (!thirdIsPadding)
            {
                result[length++] = (byte)(group >> 8);
            }

            if (c != '=')
            {
                result[length++] = (byte)group;
            }

            digits = 0;
        }

        return result[..length];
    }

    private static uint DigitOf(char c) => c switch
    {
        >= 'A' and <= 'Z' => (uint)(c - 'A'),
        >= 'a' and <= 'z' => (uint)(c - 'a' + 26),
        >= '0' and <= '9' => (uint)(c - '0' + 52),
        '+' => 62,
        '/' => 63,
        '=' => 0,
        _ => throw new QapiException(BadBase64),
    };

    // Text ends at the first NUL, as clients know it from strings of C; what is not UTF-8 becomes U+FFFD.
    private static string DecodeText(ReadOnlySpan<byte> data)
    {
        int end = data.IndexOf((byte)0);
        return Encoding.UTF8.GetString(end < 0 ? data : data[..end]);
    }

    private static ChardevReturn Describe(Chardev chardev) => new() { Pty = (chardev as PtyChardev)?.SlavePath };
}
