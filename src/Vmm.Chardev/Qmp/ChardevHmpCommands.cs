using System.Text;
using Vmm.ObjectModel.Chardevs;
using Vmm.Qapi;

namespace Vmm.Chardevs;

/// <summary>The terminal commands about character devices.</summary>
public sealed partial class ChardevHmpCommands(ChardevRegistry registry, ChardevCommands commands)
{
    /// <summary>Lists the character devices.</summary>
    [HmpCommand("info chardev", Help = "show the character devices", AllowPreconfig = true)]
    public void InfoChardev(HmpContext context)
    {
        foreach (Chardev chardev in registry.All())
        {
            context.PrintLine($"{chardev.Label}: filename={chardev.Filename}");
        }
    }

    /// <summary>Removes a character device.</summary>
    [HmpCommand("chardev-remove", ArgsType = "id:s", Params = "id", Help = "remove chardev")]
    public void ChardevRemove(HmpContext context, string id) => registry.Remove(id);

    /// <summary>Sends a break.</summary>
    [HmpCommand("chardev-send-break", ArgsType = "id:s", Params = "id", Help = "send a break on chardev")]
    public void ChardevSendBreak(HmpContext context, string id) => registry.SendBreak(id);

    /// <summary>Writes text to a ring buffer device.</summary>
    [HmpCommand("ringbuf_write", ArgsType = "device:s,data:s", Params = "device data",
        Help = "Write to a ring buffer character device")]
    public void RingbufWrite(HmpContext context, string device, string data) => commands.RingbufWrite(device, data);

    /// <summary>Takes text out of a ring buffer device; control characters and backslashes are shown as escapes.</summary>
    [HmpCommand("ringbuf_read", ArgsType = "device:s,size:i", Params = "device size",
        Help = "Read from a ring buffer character device")]
    public void RingbufRead(HmpContext context, string device, int size)
    {
        string data = commands.RingbufRead(device, size);
        var text = new StringBuilder(data.Length + 1);
        foreach (char c in data)
        {
            if (c == '\\')
            {
                text.Append("\\\\");
            }
            else if ((c < ' ' && c != '\n') || c == '\x7F')
            {
                text.Append($"\\u{(int)c:X4}");
            }
            else
            {
                text.Append(c);
            }
        }

        context.PrintLine(text.ToString());
    }
}
